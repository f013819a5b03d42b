"""Who gets into the analytics site, and what each of them sees."""

import json
import re

import pytest
from flask.testing import FlaskClient

from dashboard import shell
from dashboard.access import OPEN_PATHS
from dashboard.config import DashboardConfig, is_loopback
from dashboard.pages import PAGES, overview
from dashboard.pages.overview import FRAME
from modelpilot.management.site import Visitor
from modelpilot.metrics.overview import Overview
from tests.support.site import FakeAccess, call, callback_body, log_in, site, user

ALICE, BOB, ROOT = user("alice", "team-a"), user("bob", "team-b"), user("root", "admin", "admin")
PRODUCTION = DashboardConfig(production=True)


def everybody() -> FakeAccess:
    """Users of two tenants, and an admin."""
    return FakeAccess(ALICE, BOB, ROOT)


def scope_of(client: FlaskClient, search: str = "") -> None:
    """Fill the Overview page."""
    call(client, overview.CARDS, {FRAME.id("url"): search})


def test_every_route_is_closed_without_a_session() -> None:
    """Whatever the server knows, and whatever is added to it later, answers nobody who is not logged in."""
    client, reader = site(Overview(), access=everybody())
    rules = client.application.url_map.iter_rules()
    paths = {re.sub(r"<[^>]+>", "x", rule.rule) for rule in rules} | {page.path for page in PAGES}
    paths |= {"/assets/style.css", "/assets/modelpilot.js", "/_dash-layout", "/_dash-dependencies"}
    for path in sorted(paths - OPEN_PATHS):
        answer = client.get(path)
        assert answer.status_code in (303, 401), path
        assert answer.headers.get("Location", "/login").startswith("/login"), path
        assert client.post(path, json={}).status_code == 401, path
    assert reader.asked == []


def test_open_paths_are_those_that_the_login_needs() -> None:
    """The list of what everybody may fetch is short, and a new entry is a decision."""
    assert {"/login", "/healthz", "/assets/login.css", "/assets/login.js", "/_favicon.ico"} == OPEN_PATHS


def test_a_callback_cannot_be_called_without_a_session() -> None:
    """A recorded callback is worth nothing once the session is gone: the page's guard is not the only one."""
    access = everybody()
    client, reader = site(Overview(), access=access)
    log_in(client, "alice")
    body = callback_body(client, overview.CARDS, {FRAME.id("url"): ""})
    client.delete_cookie("mp_session")
    assert client.post("/_dash-update-component", json=body).status_code == 401
    assert reader.asked == []


@pytest.mark.parametrize("search", ["", "?as=team-b", "?as=", "?as=team-b&as=admin"])
def test_a_viewer_sees_its_own_tenant_whatever_the_url_says(search: str) -> None:
    """The tenant comes from the session; nothing that the browser sends changes it."""
    client, reader = site(Overview(), access=everybody())
    log_in(client, "alice")
    scope_of(client, search)
    assert {scope.user_id for scope, *_ in reader.asked} == {"team-a"}


@pytest.mark.parametrize(("search", "tenant"), [("", None), ("?as=team-b", "team-b")])
def test_an_admin_sees_everybody_or_looks_as_one(search: str, tenant: str | None) -> None:
    """An admin of the site chooses; the choice is in the URL."""
    client, reader = site(Overview(), access=everybody())
    log_in(client, "root")
    scope_of(client, search)
    assert reader.asked[0][0].user_id == tenant


def test_the_banner_says_whose_figures_these_are() -> None:
    """Looking as somebody is never silent, and a viewer who tries learns that it had no effect."""
    access = everybody()
    admin, _ = site(Overview(), access=access)
    viewer, _ = site(Overview(), access=access)
    log_in(admin, "root")
    log_in(viewer, "alice")

    def banner(client: FlaskClient, search: str) -> str:
        return json.dumps(call(client, shell.BANNER, {shell.URL: search})[shell.BANNER])

    assert "Looking as u1" in banner(admin, "?as=u1")
    assert "There is no user nobody" in banner(admin, "?as=nobody")
    assert "your own requests (team-a)" in banner(viewer, "?as=u1")
    assert banner(viewer, "?as=team-a") == '{"children": null}'


def test_only_admins_are_offered_other_users() -> None:
    """The names of tenants are nobody else's business."""
    access = everybody()
    for name, shown in (("root", True), ("alice", False)):
        client, _ = site(Overview(), access=access)
        log_in(client, name)
        offered = json.dumps(call(client, f"{FRAME.name}-filter-as.data", {FRAME.id("url"): ""}))
        assert ("u2" in offered) is shown


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({}, 200),
    ],
)
def test_posts_from_other_sites_are_refused(headers: dict[str, str], status: int) -> None:
    """Another site in the visitor's browser cannot call callbacks, not even where the site needs no login."""
    client, _ = site(Overview())
    body = callback_body(client, overview.CARDS, {FRAME.id("url"): ""})
    assert client.post("/_dash-update-component", json=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("config", "users", "asks"),
    [
        (DashboardConfig(), False, False),
        (DashboardConfig(), True, True),
        (DashboardConfig(login="always"), False, True),
        (DashboardConfig(host="0.0.0.0"), False, True),  # noqa: S104 - compared, not bound
        (DashboardConfig(host="dash.example"), False, True),
        (DashboardConfig(production=True), False, True),
        (DashboardConfig(production=True, unprotected=True, host="0.0.0.0"), False, False),  # noqa: S104 - as above
        (DashboardConfig(unprotected=True), True, True),
    ],
)
def test_where_a_login_is_asked_for(config: DashboardConfig, users: bool, asks: bool) -> None:
    """Everywhere but on the operator's own machine without users, or where the operator says that a proxy asks."""
    client, _ = site(Overview(), config, everybody() if users else FakeAccess())
    assert client.get("/").status_code == (303 if asks else 200)


def test_sessions_outlast_a_restart_of_the_database() -> None:
    """While Postgres is away, those who were in stay in and see the notice; nobody else gets in."""
    access = everybody()
    client, _ = site(Overview(), access=access)
    log_in(client, "alice")
    client.get("/")
    stranger = client.application.test_client()
    access.away = True
    assert client.get("/").status_code == 200
    assert stranger.get("/").status_code == 303  # no cookie, nothing to ask the database
    assert log_in(stranger, "alice").status_code == 503
    stranger.set_cookie("mp_session", "guess")
    assert stranger.get("/").status_code == 503


def test_a_site_that_never_saw_its_database_stays_closed() -> None:
    """Nobody can know whether it has users: it opens when the database answers."""
    access = FakeAccess()
    access.away = True
    client, _ = site(Overview(), access=access)
    assert client.get("/").status_code == 503
    assert client.get("/healthz").status_code == 200
    access.away = False
    assert client.get("/").status_code == 200


def test_tenants_of_visitors() -> None:
    """Only an admin has a choice."""
    viewer, admin = Visitor("a", "team-a", "viewer"), Visitor("r", "admin", "admin")
    assert [viewer.tenant(wanted) for wanted in (None, "", "team-b")] == ["team-a"] * 3
    assert [admin.tenant(wanted) for wanted in (None, "", "team-b")] == [None, None, "team-b"]


def test_loopback_addresses() -> None:
    """All of 127/8 is this machine; the wildcard is not."""
    known = [is_loopback(host) for host in ("localhost", "127.9.9.9", "::1", "::", "10.0.0.1")]
    assert known == [True] * 3 + [False] * 2
