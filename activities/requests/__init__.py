"""The steps of one request: decide, call, deliver, record, recover."""
