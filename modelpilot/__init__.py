"""The domain of ModelPilot: types that cross boundaries, arithmetic and ports. No I/O happens in this package."""
