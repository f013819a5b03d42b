"""Names registered with Temporal. They live in saved histories for ever: a test freezes them."""

ROUTING_QUEUE = "modelpilot-routing"
MAINTENANCE_QUEUE = "modelpilot-maintenance"
ROUTE_REQUEST_WORKFLOW = "RouteRequestWorkflow"

SEARCH_ROUTER_ID = "RouterId"
SEARCH_MODEL = "Model"
SEARCH_PROVIDER = "Provider"
SEARCH_OUTCOME = "Outcome"

HOUSEKEEPING_WORKFLOW = "HousekeepingWorkflow"
HOUSEKEEPING_SCHEDULE = "modelpilot-housekeeping"
PURGE_EXPIRED = "purge_expired"
REPLAY_OUTBOX = "replay_outbox"
FLUSH_VECTORS = "flush_vectors"
