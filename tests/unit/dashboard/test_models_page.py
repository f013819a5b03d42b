"""The page of models and providers: what gateways skip, and who may make them forget it."""

import json
from typing import Any

import pytest
from plotly.utils import PlotlyJSONEncoder

from dashboard.frame.page_frame import Asked
from dashboard.frame.ranges import window_from_url
from dashboard.frame.zones import UTC_ZONE
from dashboard.pages import models
from dashboard.pages.models import FRAME, skipped_table
from modelpilot.metrics.use import DeploymentState, ModelsRead
from tests.support.site import NOW_S, FakeAccess, FakeRouters, call, log_in, router_site, user

WINDOW = window_from_url("?range=1h", NOW_S)
ASKED = Asked("?range=1h", WINDOW, WINDOW.scope(None), UTC_ZONE, {"range": "1h"}, NOW_S)
OPEN = DeploymentState("u1", "east", "gpt", "east/gpt", "open", None, NOW_S - 60.0, NOW_S + 12.0, 2)
RESTS = DeploymentState("u1", "west", "gpt", "", "closed", "rate limited", None, NOW_S - 1.0)


def test_what_is_skipped_is_said() -> None:
    """Where, since when, why, and when it is called again."""
    text = json.dumps(skipped_table(ModelsRead(states=(OPEN, RESTS)), ASKED), cls=PlotlyJSONEncoder)
    for said in ("east/gpt", "breaker open", "60 s", "in 12 s", "west", "resting", "rate limited", "now"):
        assert said in text, said
    assert "No gateway skips" in json.dumps(skipped_table(ModelsRead(), ASKED), cls=PlotlyJSONEncoder)


@pytest.mark.parametrize(
    ("role", "search", "reset"), [("viewer", "", []), ("admin", "?as=u1", [("u1", "site:ann")]), ("admin", "", [])]
)
def test_only_admins_reset_and_one_tenant_at_a_time(role: Any, search: str, reset: list[tuple[str, str]]) -> None:
    """Whatever a browser posts; audited as a user of the site."""
    routers = FakeRouters()
    client = router_site(routers, FakeAccess(user("ann", "u1", role)))
    log_in(client, "ann")
    call(client, models.RESET_RESULT, {models.RESET: 1, FRAME.id("url"): search})
    assert routers.reset == reset
