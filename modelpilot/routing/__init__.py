"""Which model serves a request: routers, eligibility, scores and the decision."""
