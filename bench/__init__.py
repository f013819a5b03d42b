"""Benchmarks behind `modelpilot bench`: each speed is a ratio to one measured beside it (docs/benchmarks.md)."""
