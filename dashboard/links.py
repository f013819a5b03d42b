"""Links out of the site."""

from urllib.parse import quote

from dashboard.config import DashboardConfig


def workflow_url(config: DashboardConfig, workflow_id: str) -> str | None:
    """The workflow in the Temporal Web UI, or None where no UI is configured. Workflow ids contain slashes."""
    if not config.temporal_ui_url:
        return None
    base = config.temporal_ui_url.rstrip("/")
    return f"{base}/namespaces/{quote(config.temporal_namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
