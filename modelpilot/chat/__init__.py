"""Chat requests: what they contain and what they ask of a model."""
