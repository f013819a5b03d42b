"""The warehouse sink: Parquet files in a directory or an object store."""
