"""Embeddings and the vector history. The only package that imports pymilvus."""
