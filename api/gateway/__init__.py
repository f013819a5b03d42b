"""The way of a request through the gateway: receive, submit, answer, stream."""
