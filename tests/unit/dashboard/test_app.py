"""The pages of the analytics site over its WSGI interface, with a reader that serves what a test says."""

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

from dashboard import shell
from dashboard.app import create_app, serve
from dashboard.config import DashboardConfig
from dashboard.frame.page_frame import ZONE
from dashboard.frame.zones import UTC_ZONE
from dashboard.pages import PAGES, overview
from dashboard.pages.overview import FRAME
from modelpilot.errors import DependencyUnavailable
from modelpilot.metrics.overview import ModelShare, Overview, RequestBucket, RequestSummary
from modelpilot.metrics.requests import LoggedRequest
from tests.support.site import NOW_S, FakeAccess, FakeHasher, FakeReader, call, site

CONFIG = DashboardConfig(temporal_ui_url="http://127.0.0.1:8233")
FULL = Overview(
    summary=RequestSummary(40, 1, 2, 4, 0.125, 3, 812.0, 2_890.0, 2.1),
    shares=(ModelShare("sim/small", 30, 1, 0.1), ModelShare("sim/large", 10, 0, 0.025)),
    buckets=(RequestBucket(NOW_S - 1_800.0, 40, 1),),
    recent=(
        LoggedRequest(
            "u1",
            "r1",
            NOW_S - 4.0,
            "demo",
            "sim/small",
            "simulator",
            "failed",
            success=False,
            latency_ms=812.0,
            ttft_ms=None,
            overhead_ms=2.1,
            cost_usd=None,
            input_tokens=1,
            output_tokens=0,
            request_type="chat",
            quality=None,
            attempts=1,
            fallback_used=False,
        ),
    ),
    latest_request_s=NOW_S - 4.0,
)


def shown(client: FlaskClient, search: str = "", **changes: Any) -> dict[str, Any]:
    """The Overview page filled for a query string."""
    return call(client, overview.CARDS, {FRAME.id("url"): search, **changes})


def app_of() -> Dash:
    """A site that can be served."""
    reader: Any = FakeReader(FULL)
    return create_app(reader, reader, FakeAccess(), FakeHasher(), CONFIG)


def test_the_page_and_its_health_check_answer() -> None:
    """A browser gets the site and a probe gets 200, without any data."""
    client, reader = site(DependencyUnavailable("away"))
    assert client.get("/").status_code == 200
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/_dash-layout").status_code == 200
    assert reader.asked == []


def test_every_page_can_be_opened() -> None:
    """Each page of the navigation has a layout, and an unknown path says so."""
    client, _ = site(FULL)
    for page in PAGES:
        answer = call(client, shell.CONTENT, {shell.URL: page.path})
        assert page.title in json.dumps(answer[shell.CONTENT])
        assert answer[shell.TITLE] == {"data": page.title}
        navigation = json.dumps(call(client, shell.NAVIGATION, {shell.URL: page.path})[shell.NAVIGATION])
        assert navigation.count('"aria-current": "page"') == 1
        assert client.get(page.path).status_code == 200
    assert "No such page" in json.dumps(call(client, shell.CONTENT, {shell.URL: "/nowhere"})[shell.CONTENT])
    assert client.get("/nowhere").status_code == 404


def test_overview_shows_what_was_read() -> None:
    """Figures, charts and the table come from one read of the chosen range."""
    client, reader = site(FULL)
    text = json.dumps(shown(client, "?range=1h"))
    for expected in ('"40"', "$0.125", "plus 3 of unknown price", "2.5 %", "10.0 %", "812 ms", "2,890 ms", "4 s ago"):
        assert expected in text
    assert "http://127.0.0.1:8233/namespaces/default/workflows/route%2Fu1%2Fr1" in text
    scope, bucket_s, _ = reader.asked[0]
    assert (scope.end_s - scope.start_s, bucket_s, len(reader.asked)) == (3_600.0, 60, 1)


def test_workflow_links_are_plain_anchors() -> None:
    """Mantine's Anchor decodes its href in the browser: the slashes of a workflow id would become path segments. The
    request's own page comes first."""
    table = json.loads(json.dumps(overview.requests_table(FULL.recent, CONFIG, UTC_ZONE, ""), cls=PlotlyJSONEncoder))
    page, link = _components_with(table, "href")
    assert page["props"]["href"] == "/requests/detail?id=r1&owner=u1"
    assert (link["namespace"], link["type"]) == ("dash_html_components", "A")
    assert link["props"]["href"].endswith("/workflows/route%2Fu1%2Fr1")


def _components_with(node: Any, prop: str) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and prop in node.get("props", {}):
        yield node
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        yield from _components_with(child, prop)


def test_operator_sees_every_tenant() -> None:
    """Without a login there is nobody but the operator."""
    client, reader = site(FULL)
    shown(client)
    assert reader.asked[0][0].user_id is None


def test_empty_state_says_what_to_do() -> None:
    """A fresh installation is told how to get its first requests, and sees no charts of nothing."""
    answer = shown(site(Overview())[0])
    assert "modelpilot demo" in json.dumps(answer[FRAME.id("notice")])
    assert answer[FRAME.id("content")]["className"] == "mp-hidden"


def test_quiet_range_differs_from_an_empty_installation() -> None:
    """Old requests outside of the range: a longer range helps, and the page says so."""
    answer = shown(site(Overview(latest_request_s=NOW_S - 1e6))[0])
    assert "choose a longer range" in json.dumps(answer[FRAME.id("notice")])
    assert answer[FRAME.id("content")]["className"] == ""


def test_database_away_keeps_the_last_figures() -> None:
    """An outage changes the notice only: what was read before stays on the screen."""
    answer = shown(site(DependencyUnavailable("Postgres is not reachable."))[0])
    assert "Postgres is not reachable." in json.dumps(answer[FRAME.id("notice")])
    assert overview.CARDS not in answer
    assert FRAME.id("content") not in answer


def test_defect_is_reported_without_its_details(caplog: pytest.LogCaptureFixture) -> None:
    """A visitor learns that something failed; the reason goes to the log only."""
    answer = shown(site(RuntimeError("secret detail"))[0])
    assert "could not be updated" in json.dumps(answer["sideUpdate"])
    assert "secret detail" not in json.dumps(answer)
    assert "secret detail" in caplog.text


def test_controls_and_url_follow_each_other() -> None:
    """A click writes the URL and leaves the rest of it; a URL typed by hand sets the controls; agreement ends it."""
    client, _ = site(FULL)
    control, url, filter_as = FRAME.id("range"), FRAME.id("url"), "overview-filter-as"
    clicked = call(client, control, {control: "7d", url: "?router=demo", filter_as: None}, changed=control)
    assert clicked[url] == {"search": "?router=demo&range=7d"}
    agreed = call(client, control, {control: "7d", url: "?range=7d", filter_as: None}, changed=control)
    assert agreed == {"sideUpdate": None}
    typed = call(client, control, {control: "7d", url: "?range=1h&as=u2", filter_as: None}, changed=url)
    assert (typed[control]["value"], typed[filter_as], url in typed) == ("1h", {"value": "u2"}, False)


def test_a_chosen_time_is_kept_until_a_range_is_clicked() -> None:
    """A link to one bar of a chart shows exactly that time, and says so in the control."""
    client, reader = site(FULL)
    control, url = FRAME.id("range"), FRAME.id("url")
    search = "?from=2027-01-15T10:00:00Z&to=2027-01-15T10:30:00Z"
    shown(client, search)
    scope, bucket_s, _ = reader.asked[0]
    assert (scope.start_s, scope.end_s, bucket_s) == (NOW_S - 7_200.0, NOW_S - 5_400.0, 60)
    typed = call(client, control, {control: "24h", url: search}, changed=url)
    assert typed[control]["value"] == "custom"
    assert "custom" in json.dumps(typed[control]["data"])
    clicked = call(client, control, {control: "1h", url: search}, changed=control)
    assert clicked[url] == {"search": "?range=1h"}


def test_times_are_shown_in_the_visitors_zone() -> None:
    """The browser names its zone; one that does not exist is UTC."""
    client, _ = site(FULL)
    berlin = json.dumps(shown(client, **{ZONE: "Europe/Berlin"}))
    assert "2027-01-15 13:00:00 CET" in berlin
    assert "2027-01-15 12:59:56" in berlin
    assert "2027-01-15 12:00:00 UTC" in json.dumps(shown(client, **{ZONE: "../../etc/passwd"}))


def test_figures_lead_to_their_rows() -> None:
    """Every bar and every count links to the list of requests behind it, with range and viewer kept."""
    client, _ = site(FULL)
    answer = shown(client, "?range=1h&as=u1")
    bars = answer[overview.TIME_CHART]["figure"]["data"]
    label, link = bars[1]["customdata"][0]
    assert label == "Jan 15 11:00 to 11:01 UTC"
    assert link == ("/requests?as=u1&from=2027-01-15T11%3A00%3A00Z&to=2027-01-15T11%3A01%3A00Z&status=failed")
    models = answer[overview.MODEL_CHART]["figure"]["data"][0]["customdata"]
    assert models[0] == ["sim/small", "/requests?range=1h&as=u1&model=sim%2Fsmall"]
    assert "/requests?range=1h&as=u1&fallback=yes" in json.dumps(answer[overview.CARDS])


def test_everything_is_served_from_here() -> None:
    """The site works offline, and the policy forbids what would not."""
    client, _ = site(FULL)
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
    client, _ = site(FULL)
    for path in ("/", "/healthz", "/_dash-layout", "/nowhere"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert re.fullmatch(r"'self' 'sha256-[^' ]+'", policy["script-src"])
        assert (policy["default-src"], policy["frame-ancestors"]) == ("'self'", "'none'")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"


def test_foreign_host_names_are_refused() -> None:
    """A web page that points its own name at this machine (DNS rebinding) cannot read the site."""
    client, _ = site(FULL)
    assert client.get("/", base_url="http://attacker.example").status_code == 400
    assert client.get("/_dash-layout", base_url="http://attacker.example").status_code == 400
    assert client.get("/", base_url="http://127.0.0.1:8050").status_code == 200
    named, _ = site(FULL, DashboardConfig(trusted_hosts=("pilot.example",)))
    assert named.get("/", base_url="https://pilot.example").status_code == 200


def test_server_answers_until_told_to_stop() -> None:
    """The process serves over a real socket, and a stop closes the port and returns."""
    app, stop, urls = app_of(), threading.Event(), list[str]()

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
    app = app_of()
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(app, "127.0.0.1", taken.getsockname()[1], threading.Event(), lambda _: None)
