"""Metrics in Postgres: the aggregation, and what the site and the analytics API read."""
