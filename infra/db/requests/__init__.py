"""Requests in Postgres: rows, outcomes, names, leases, the outbox, and their end."""
