"""Names registered with Temporal. They live in saved histories for ever: a test freezes them."""

ROUTING_QUEUE = "modelpilot-routing"
MAINTENANCE_QUEUE = "modelpilot-maintenance"
ROUTE_REQUEST_WORKFLOW = "RouteRequestWorkflow"
# The steps of a request, in the order in which they run.
ROUTE_STEPS = ("load_router", "embed_prompt", "query_history", "score_models", "call_provider", "store_performance")


def gateway_queue(instance: str) -> str:
    """The task queue of one gateway: fallbacks of its requests run there, to stream into the open answers."""
    return f"modelpilot-gateway/{instance}"


SEARCH_ROUTER_ID = "RouterId"
SEARCH_MODEL = "Model"
SEARCH_PROVIDER = "Provider"
SEARCH_OUTCOME = "Outcome"

HOUSEKEEPING_WORKFLOW = "HousekeepingWorkflow"
HOUSEKEEPING_SCHEDULE = "modelpilot-housekeeping"
PURGE_EXPIRED = "purge_expired"
REPLAY_OUTBOX = "replay_outbox"
FLUSH_VECTORS = "flush_vectors"

AGGREGATE_WORKFLOW = "AggregateHourlyWorkflow"
AGGREGATE_SCHEDULE = "modelpilot-aggregate-hourly"
PLAN_AGGREGATION = "plan_aggregation"
AGGREGATE_HOURS = "aggregate_hours"
EXPORT_REQUESTS = "export_requests"
PURGE_REQUESTS = "purge_requests"
JOB_PROGRESS = "progress"

REFIT_WORKFLOW = "RefitWorkflow"
REFIT_SCHEDULE = "modelpilot-refit"
LIST_REFITS = "list_refits"
REFIT_ROUTER = "refit_router"

ERASE_WORKFLOW = "EraseWorkflow"
OPEN_ERASURE = "open_erasure"
ERASE_SLICE = "erase_slice"
CLOSE_ERASURE = "close_erasure"

RESCORE_WORKFLOW = "RescoreBatchWorkflow"
RESCORE_SCHEDULE = "modelpilot-rescore-nightly"
OPEN_RESCORE = "open_rescore"
RESCORE_SLICE = "rescore_slice"
JUDGE_SLICE = "judge_slice"
CLOSE_RESCORE = "close_rescore"
PAUSE_JOB = "pause"
RESUME_JOB = "resume"
CANCEL_JOB = "cancel"
