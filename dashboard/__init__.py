"""The analytics site: Dash pages over the ports of `modelpilot.metrics`. No SQL here; rows come from its readers."""
