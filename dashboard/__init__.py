"""The analytics site: Dash pages over `modelpilot.analytics`. No SQL here; rows come from a `DashboardReader`."""
