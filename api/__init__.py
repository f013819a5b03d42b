"""The HTTP interface: an aiohttp application over the ports of `modelpilot`. No SQL and no adapters in here."""
