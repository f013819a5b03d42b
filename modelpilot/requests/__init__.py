"""One request from its acceptance to what is kept of it: workflow inputs, outcomes, records and ports."""
