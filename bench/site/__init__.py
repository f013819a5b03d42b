"""Benchmark of the analytics site."""
