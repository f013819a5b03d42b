"""Component ids, each named once: callbacks and tests refer to these and never to a literal.

Ids of a page's frame (range, filters, notice …) come from `dashboard.frame.frame.Frame`.
"""

URL = "url"
PAGE = "page"
MAIN = "main"
TITLE = "title"
NAVIGATION = "navigation"
DRAWER = "drawer"
DRAWER_NAVIGATION = "drawer-navigation"
BURGER = "burger"
BANNER = "banner"
COLOR_SCHEME = "color-scheme"
ZONE_CHOICE = "zone-choice"
ZONE = "zone"

OVERVIEW_CARDS = "overview-cards"
OVERVIEW_TIME_CHART = "overview-time-chart"
OVERVIEW_MODEL_CHART = "overview-model-chart"
OVERVIEW_TIME_TABLE = "overview-time-table"
OVERVIEW_MODEL_TABLE = "overview-model-table"
OVERVIEW_SAVINGS = "overview-savings"
OVERVIEW_RECENT = "overview-recent"

EXPLORE_CHART = "explore-chart"
EXPLORE_GRID = "explore-grid"
EXPLORE_WHAT = "explore-what"

REQUESTS_COUNT = "requests-count"
REQUESTS_GRID = "requests-grid"

REQUEST_DETAIL = "request-parts"

MODELS_TABLE = "models-table"
MODELS_HEALTH = "models-health"
MODELS_HEATMAP = "models-heatmap"
MODELS_HEATMAP_GRID = "models-heatmap-grid"

ROUTERS_TABLE = "routers-table"
ROUTER_FACTS = "router-facts"
ROUTER_VERSIONS = "router-versions"
ROUTER_CHANGES = "router-changes"
ROUTER_RESTORE = "router-restore"
ROUTER_RESTORE_TEXT = "router-restore-text"
ROUTER_RESTORE_DIALOG = "router-restore-dialog"
ROUTER_RESTORE_CONFIRM = "router-restore-confirm"
ROUTER_RESTORE_CANCEL = "router-restore-cancel"
ROUTER_RESTORE_RESULT = "router-restore-result"
EXPLAIN_PROMPT = "explain-prompt"
EXPLAIN_NEEDS = "explain-needs"
EXPLAIN_ASK = "explain-ask"
EXPLAIN_RESULT = "explain-result"

WHAT_IF_ABOUT = "what-if-about"
WHAT_IF_WEIGHTS = ("what-if-cost", "what-if-latency", "what-if-quality", "what-if-carbon")
WHAT_IF_MODELS = "what-if-models"
WHAT_IF_EXPLORE = "what-if-explore"
WHAT_IF_LIMITS = ("what-if-max-cost", "what-if-max-latency", "what-if-min-quality")
WHAT_IF_CARDS = "what-if-cards"
WHAT_IF_EVIDENCE = "what-if-evidence"
WHAT_IF_PREDICTED = "what-if-predicted"
WHAT_IF_CHART = "what-if-chart"
WHAT_IF_CHART_TABLE = "what-if-chart-table"
WHAT_IF_OUTCOME = "what-if-outcome"
WHAT_IF_FILE = "what-if-file"
WHAT_IF_COPY = "what-if-copy"
WHAT_IF_COPIED = "what-if-copied"

FRONTIER_ABOUT = "frontier-about"
FRONTIER_CHART = "frontier-chart"
FRONTIER_TABLE = "frontier-table"

JOBS_CARDS = "jobs-cards"
JOBS_SCHEDULES = "jobs-schedules"
JOBS_RUNS = "jobs-runs"
JOBS_HOURS = "jobs-hours"
