"""Models and where they are called: the catalogue, prices, deployments, breakers and repeats."""
