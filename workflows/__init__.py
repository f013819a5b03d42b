"""Orchestration only: which step comes next, with which timeout and which retries."""
