"""What routing reads of Postgres: configuration, and word of its changes."""
