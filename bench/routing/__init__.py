"""Benchmarks of routing quality and of what a decision costs."""
