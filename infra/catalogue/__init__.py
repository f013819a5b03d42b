"""The seeded, shared catalogue: prices, limits, carbon, capabilities and priors of the common models."""
