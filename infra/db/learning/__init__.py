"""Learning in Postgres: predictors, feedback, judgements, re-scoring, stored texts."""
