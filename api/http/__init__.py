"""HTTP as such: bodies, errors, authentication, the table of routes and its documentation."""
