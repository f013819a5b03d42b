"""Benchmark of provider faults."""
