"""The steps of a request: thin classes over ports, run both by the gateway's fast path and by Temporal."""
