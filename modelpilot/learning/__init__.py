"""What outcomes teach: quality, feedback, judges, re-scoring, predictors and replays."""
