"""Postgres: the only package that contains SQL."""
