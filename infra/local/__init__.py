"""The one-machine stack: Postgres, Temporal, Milvus Lite and ModelPilot's own roles as supervised processes."""
