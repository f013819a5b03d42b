"""Encryption of what is stored, and the API keys that callers hold."""
