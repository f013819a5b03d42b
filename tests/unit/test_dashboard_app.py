"""The analytics site over its WSGI interface, with a reader that serves what a test says."""

import json
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from dash import Dash
from flask.testing import FlaskClient
from plotly.utils import PlotlyJSONEncoder

from dashboard import ids
from dashboard.app import create_app
from dashboard.components import requests_table
from dashboard.config import DashboardConfig, UnprotectedDashboard, is_loopback, require_guarded
from dashboard.pages import PAGES
from dashboard.server import serve
from modelpilot.analytics import AnalyticsScope, ModelShare, Overview, RecentRequest, RequestBucket, RequestSummary
from modelpilot.errors import DependencyUnavailable

NOW_S = 1_800_014_400.0
CONFIG = DashboardConfig(temporal_ui_url="http://127.0.0.1:8233")
FULL = Overview(
    summary=RequestSummary(40, 1, 2, 4, 0.125, 3, 812.0, 2_890.0, 2.1),
    shares=(ModelShare("sim/small", 30, 1, 0.1), ModelShare("sim/large", 10, 0, 0.025)),
    buckets=(RequestBucket(NOW_S - 1_800.0, 40, 1),),
    recent=(
        RecentRequest(
            "u1", "r1", "route/u1/r1", NOW_S - 4.0, "demo", "sim/small", "simulator", 812.0, 2.1, None, "failed"
        ),
    ),
    latest_request_s=NOW_S - 4.0,
)


class FakeReader:
    """Answers with one overview, or raises; remembers what it was asked."""

    def __init__(self, answer: Overview | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[AnalyticsScope, int, int]] = []

    def overview(self, scope: AnalyticsScope, bucket_s: int, recent_limit: int) -> Overview:
        """The overview given."""
        self.asked.append((scope, bucket_s, recent_limit))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def site(answer: Overview | Exception = FULL, config: DashboardConfig = CONFIG) -> tuple[FlaskClient, FakeReader]:
    """A client of a site and the reader behind it."""
    reader = FakeReader(answer)
    app: Dash = create_app(reader, config, clock=lambda: NOW_S)
    return app.server.test_client(), reader


def call(client: FlaskClient, component: str, **values: Any) -> dict[str, Any]:
    """Run the callback that has an output on `component`, as the browser would; `values` are its inputs by id."""
    spec = next(one for one in client.get("/_dash-dependencies").get_json() if f"{component}." in one["output"])
    names = spec["output"].strip(".").split("...")
    outputs: Any = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]
    if not spec["output"].startswith(".."):
        outputs = outputs[0]
    inputs, state = (
        [given | {"value": values.get(given["id"])} for given in spec[kind]] for kind in ("inputs", "state")
    )
    changed = [f"{given['id']}.{given['property']}" for given in inputs if given["id"] in values]
    body = {"output": spec["output"], "outputs": outputs, "inputs": inputs, "state": state, "changedPropIds": changed}
    response = client.post("/_dash-update-component", json=body)
    assert response.status_code in (200, 204), response.text
    answer: dict[str, Any] = json.loads(response.text) if response.text else {}
    return {**answer.get("response", {}), "sideUpdate": answer.get("sideUpdate")}


def shown(client: FlaskClient, search: str = "") -> dict[str, Any]:
    """The Overview page filled for a query string."""
    return call(client, ids.OVERVIEW_CARDS, **{ids.OVERVIEW_URL: search})


def test_the_page_and_its_health_check_answer() -> None:
    """A browser gets the site and a probe gets 200, without any data."""
    client, reader = site(DependencyUnavailable("away"))
    assert client.get("/").status_code == 200
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/_dash-layout").status_code == 200
    assert reader.asked == []


def test_every_page_can_be_opened() -> None:
    """Each page of the navigation has a layout, and an unknown path says so."""
    client, _ = site()
    for page in PAGES:
        answer = call(client, ids.NAVIGATION, **{ids.URL: page.path})
        assert page.title in json.dumps(answer[ids.PAGE])
        assert '"aria-current": "page"' in json.dumps(answer[ids.NAVIGATION])
    assert "No such page" in json.dumps(call(client, ids.NAVIGATION, **{ids.URL: "/nowhere"})[ids.PAGE])


def test_overview_shows_what_was_read() -> None:
    """Figures, charts and the table come from one read of the chosen range."""
    client, reader = site()
    text = json.dumps(shown(client, "?range=1h"))
    for expected in ('"40"', "$0.125", "plus 3 of unknown price", "2.5 %", "10.0 %", "812 ms", "2,890 ms", "4 s ago"):
        assert expected in text
    assert "http://127.0.0.1:8233/namespaces/default/workflows/route%2Fu1%2Fr1" in text
    scope, bucket_s, _ = reader.asked[0]
    assert (scope.end_s - scope.start_s, bucket_s, len(reader.asked)) == (3_600.0, 60, 1)


def test_workflow_links_are_plain_anchors() -> None:
    """Mantine's Anchor decodes its href in the browser: the slashes of a workflow id would become path segments."""
    table = json.loads(json.dumps(requests_table(FULL.recent, CONFIG), cls=PlotlyJSONEncoder))
    (link,) = _components_with(table, "href")
    assert (link["namespace"], link["type"]) == ("dash_html_components", "A")
    assert link["props"]["href"].endswith("/workflows/route%2Fu1%2Fr1")


def _components_with(node: Any, prop: str) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and prop in node.get("props", {}):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _components_with(child, prop)


def test_operator_sees_every_tenant_for_now() -> None:
    """Without a login there is nobody but the operator; the login will narrow this scope."""
    client, reader = site()
    shown(client)
    assert reader.asked[0][0].user_id is None


def test_empty_state_says_what_to_do() -> None:
    """A fresh installation is told how to get its first requests, and sees no charts of nothing."""
    answer = shown(site(Overview())[0])
    assert "modelpilot demo" in json.dumps(answer[ids.NOTICE])
    assert answer[ids.OVERVIEW_CONTENT]["className"] == "mp-hidden"


def test_quiet_range_differs_from_an_empty_installation() -> None:
    """Old requests outside of the range: a longer range helps, and the page says so."""
    answer = shown(site(Overview(latest_request_s=NOW_S - 1e6))[0])
    assert "choose a longer range" in json.dumps(answer[ids.NOTICE])
    assert answer[ids.OVERVIEW_CONTENT]["className"] == ""


def test_database_away_keeps_the_last_figures() -> None:
    """An outage changes the notice only: what was read before stays on the screen."""
    answer = shown(site(DependencyUnavailable("Postgres is not reachable."))[0])
    assert "Postgres is not reachable." in json.dumps(answer[ids.NOTICE])
    assert ids.OVERVIEW_CARDS not in answer
    assert ids.OVERVIEW_CONTENT not in answer


def test_defect_is_reported_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    """A visitor learns that something failed; the reason goes to the log only."""
    answer = shown(site(RuntimeError("secret detail"))[0])
    assert "could not be updated" in json.dumps(answer["sideUpdate"])
    assert "secret detail" not in json.dumps(answer)
    assert "secret detail" in caplog.text


def test_range_and_url_follow_each_other() -> None:
    """A click writes the URL; a URL typed by hand sets the control; agreement ends the circle."""
    client, _ = site()
    values = {ids.OVERVIEW_RANGE: "7d", ids.OVERVIEW_URL: ""}
    clicked = call(client, ids.OVERVIEW_RANGE, **values)
    assert clicked[ids.OVERVIEW_URL] == {"search": "?range=7d"}
    assert call(client, ids.OVERVIEW_RANGE, **{**values, ids.OVERVIEW_URL: "?range=7d"}) == {"sideUpdate": None}


def test_auto_refresh_can_be_paused() -> None:
    """The switch stops the timer."""
    client, _ = site()
    paused = call(client, ids.OVERVIEW_TIMER, **{ids.OVERVIEW_AUTO_REFRESH: False})
    assert paused[ids.OVERVIEW_TIMER] == {"disabled": True}


def test_everything_is_served_from_here() -> None:
    """The site works offline, and the policy forbids what would not."""
    client, _ = site()
    response = client.get("/")
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)""", response.text)
    assert loaded
    assert all(url.startswith("/") and not url.startswith("//") for url in loaded)
    for url in loaded:
        with client.get(url) as file:
            assert file.status_code == 200, url
            assert ".css" not in url or "http" not in file.get_data(as_text=True)


def test_security_headers_are_on_every_response() -> None:
    """Scripts run only from here or by their hash, and no other site may frame this one."""
    client, _ = site()
    for path in ("/", "/healthz", "/_dash-layout", "/nowhere"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert re.fullmatch(r"'self' 'sha256-[^' ]+'", policy["script-src"])
        assert (policy["default-src"], policy["frame-ancestors"]) == ("'self'", "'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_foreign_host_names_are_refused() -> None:
    """A web page that points its own name at this machine (DNS rebinding) cannot read the site."""
    client, _ = site()
    assert client.get("/", base_url="http://attacker.example").status_code == 400
    assert client.get("/_dash-layout", base_url="http://attacker.example").status_code == 400
    assert client.get("/", base_url="http://127.0.0.1:8050").status_code == 200
    named, _ = site(config=DashboardConfig(trusted_hosts=("pilot.example",)))
    assert named.get("/", base_url="https://pilot.example").status_code == 200


@pytest.mark.parametrize(
    ("config", "allowed"),
    [
        (DashboardConfig(), True),
        (DashboardConfig(host="::1"), True),
        (DashboardConfig(host="0.0.0.0"), False),  # noqa: S104 - must be refused
        (DashboardConfig(host="dash.example"), False),
        (DashboardConfig(production=True), False),
        (DashboardConfig(production=True, unprotected=True, host="0.0.0.0"), True),  # noqa: S104 - asked for by name
    ],
)
def test_unguarded_site_is_for_the_operator_only(config: DashboardConfig, allowed: bool) -> None:
    """Without a login the site starts on loopback in development, or where the operator takes the responsibility."""
    if allowed:
        require_guarded(config)
        return
    with pytest.raises(UnprotectedDashboard, match="MODELPILOT_DASHBOARD_UNPROTECTED"):
        create_app(FakeReader(FULL), config)


def test_loopback_addresses() -> None:
    """All of 127/8 is this machine; the wildcard is not."""
    assert [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "::", "10.0.0.1")] == [True] * 3 + [
        False
    ] * 2


def test_server_answers_until_told_to_stop() -> None:
    """The process serves over a real socket, and a stop closes the port and returns."""
    app, stop, urls = create_app(FakeReader(FULL), CONFIG), threading.Event(), list[str]()

    def probe(url: str) -> None:
        urls.append(url)
        with urllib.request.urlopen(f"{url}/healthz", timeout=10) as response:  # noqa: S310 - our own server
            assert response.status == 200
            assert response.headers["Server"] == "ModelPilot"
        stop.set()

    serve(app, "127.0.0.1", 0, stop, probe)
    port = int(urls[0].rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)


def test_taken_port_is_an_error_and_no_exit() -> None:
    """Werkzeug would end the process; the caller gets an OSError to explain instead."""
    app = create_app(FakeReader(FULL), CONFIG)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(app, "127.0.0.1", taken.getsockname()[1], threading.Event(), lambda _: None)
