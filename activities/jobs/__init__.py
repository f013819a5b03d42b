"""The steps of batch work: aggregation, refits, re-scoring, housekeeping."""
