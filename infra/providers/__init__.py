"""HTTP clients of the model providers. Wire formats are in `modelpilot.wire`; here is only what touches the network."""
