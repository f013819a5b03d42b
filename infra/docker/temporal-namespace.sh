#!/bin/sh
# Creates the namespace. Fails, and is restarted by Docker, as long as Temporal is not ready.
set -eu

temporal operator cluster health
if temporal operator namespace describe -n "$NAMESPACE"; then exit 0; fi
temporal operator namespace create -n "$NAMESPACE" --retention "$RETENTION"
