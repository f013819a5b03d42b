"""Benchmark of the batch jobs."""
