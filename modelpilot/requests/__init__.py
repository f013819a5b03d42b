"""One request from its acceptance to what is kept of it: messages, outcomes, records and ports."""
