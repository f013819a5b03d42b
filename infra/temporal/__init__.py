"""Temporal: client, encryption of payloads, starting and watching workflows, workers."""
