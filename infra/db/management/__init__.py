"""One repository per kind of thing that the management API changes."""
