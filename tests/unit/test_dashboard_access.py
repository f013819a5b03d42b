"""Who gets into the analytics site, and what each of them sees."""

import json
import re

import pytest
from flask.testing import FlaskClient

from dashboard import ids
from dashboard.access import OPEN_PATHS
from dashboard.config import DashboardConfig, is_loopback
from dashboard.logins import ATTEMPTS_PER_ADDRESS, ATTEMPTS_PER_USERNAME, csrf_token
from dashboard.pages import PAGES
from dashboard.pages.overview import FRAME
from modelpilot.analytics import Overview
from modelpilot.site import Visitor
from tests.support.site import FakeAccess, FakeHasher, call, callback_body, log_in, site, user

ALICE, BOB, ROOT = user("alice", "team-a"), user("bob", "team-b"), user("root", "admin", "admin")
PRODUCTION = DashboardConfig(production=True)


def everybody() -> FakeAccess:
    """Users of two tenants, and an admin."""
    return FakeAccess(ALICE, BOB, ROOT)


def scope_of(client: FlaskClient, search: str = "") -> None:
    """Fill the Overview page."""
    call(client, ids.OVERVIEW_CARDS, {FRAME.id("url"): search})


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
    body = callback_body(client, ids.OVERVIEW_CARDS, {FRAME.id("url"): ""})
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
        return json.dumps(call(client, ids.BANNER, {ids.URL: search})[ids.BANNER])

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


def test_login_and_logout() -> None:
    """A right password opens the site where one wanted to go; logout closes it for this cookie everywhere."""
    access = everybody()
    client, _ = site(Overview(), access=access)
    wanted = client.get("/?range=7d").headers["Location"]
    assert wanted == "/login?next=%2F%3Frange%3D7d"
    answer = log_in(client, " Alice ", next="/?range=7d")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/?range=7d")
    cookie = client.get_cookie("mp_session")
    assert cookie
    layout, csrf = client.get("/_dash-layout").text, csrf_token(cookie.value)
    assert "alice" in layout
    assert csrf in layout
    assert client.post("/logout", data={"csrf": "0" * 64}).status_code == 403
    assert client.get("/").status_code == 200
    assert client.post("/logout", data={"csrf": csrf}).headers["Location"] == "/login"
    client.set_cookie("mp_session", cookie.value)
    assert client.get("/").status_code == 303
    assert access.sessions == {}


def test_each_login_has_a_session_of_its_own() -> None:
    """A token from before a login is worth nothing after it (session fixation)."""
    access = everybody()
    client, _ = site(Overview(), access=access)
    log_in(client, "alice")
    first = client.get_cookie("mp_session")
    client.set_cookie("mp_session", first.value if first else "")
    csrf = _expired_form(client)
    client.post("/login", data={"csrf": csrf, "username": "bob", "password": "correct horse battery"})
    assert list(access.sessions.values()) == ["bob"]


def _expired_form(client: FlaskClient) -> str:
    client.set_cookie("mp_login", "known", path="/login")
    return "known"


@pytest.mark.parametrize(
    ("config", "name", "secure"),
    [(DashboardConfig(login="always"), "mp_session", False), (PRODUCTION, "__Host-mp_session", True)],
)
def test_cookies_are_out_of_reach_for_scripts_and_other_sites(config: DashboardConfig, name: str, secure: bool) -> None:
    """HttpOnly, SameSite and, in production, Secure under a name that makes browsers insist on it."""
    client, _ = site(Overview(), config, everybody())
    page = client.get("/login", base_url="https://localhost")
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"csrf": csrf, "username": "alice", "password": "correct horse battery"}
    answer = client.post("/login", data=form, base_url="https://localhost")
    cookies = [line for line in answer.headers.getlist("Set-Cookie") if line.startswith(f"{name}=")]
    (cookie,) = cookies
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Path=/" in cookie
    assert ("Secure" in cookie) is secure


def test_wrong_names_and_wrong_passwords_look_the_same() -> None:
    """Nobody learns which names exist: same words, same status, and a password is compared in either case."""
    hasher = FakeHasher()
    client, _ = site(Overview(), access=FakeAccess(ALICE, user("dora", "team-a", active=False)), hasher=hasher)
    answers = []
    for name, password in (("alice", "wrong"), ("nobody", "wrong"), ("no such/name", "wrong"), ("dora", "right")):
        before = hasher.compared
        answer = log_in(client, name, "correct horse battery" if password == "right" else password)
        answers.append((answer.status_code, "User name or password is wrong." in answer.text, hasher.compared - before))
    assert answers == [(401, True, 1)] * 4


def test_guessing_is_stopped_per_name() -> None:
    """After ten wrong passwords even the right one is refused for a while, unknown names included, and unread."""
    hasher = FakeHasher()
    client, _ = site(Overview(), access=everybody(), hasher=hasher)
    for name in ("alice", "nobody"):
        for _ in range(ATTEMPTS_PER_USERNAME):
            assert log_in(client, name, "wrong").status_code == 401
        before = hasher.compared
        refused = log_in(client, name)
        assert (refused.status_code, hasher.compared) == (429, before)
        assert int(refused.headers["Retry-After"]) > 0
        assert "Try again in 15 minutes" in refused.text


def test_guessing_is_stopped_per_address() -> None:
    """Many names from one address come to an end, too; a right password does not use up the allowance."""
    client, _ = site(Overview(), access=everybody())
    for index in range(ATTEMPTS_PER_ADDRESS):
        assert log_in(client, "alice").status_code == 303, index
        client.delete_cookie("mp_session")
    for index in range(ATTEMPTS_PER_ADDRESS):
        assert log_in(client, f"name{index}", "wrong").status_code == 401, index
    assert log_in(client, "name", "wrong").status_code == 429


def test_the_form_cannot_be_sent_from_elsewhere() -> None:
    """Without the value that only the form and its cookie have, a right password does not log in."""
    client, _ = site(Overview(), access=everybody())
    for csrf in ("", "guess"):
        assert log_in(client, "alice", csrf=csrf).status_code == 403
    assert client.get_cookie("mp_session") is None


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
    body = callback_body(client, ids.OVERVIEW_CARDS, {FRAME.id("url"): ""})
    assert client.post("/_dash-update-component", json=body, headers=headers).status_code == status


@pytest.mark.parametrize(
    "wanted",
    ["//evil.example", "/\\evil.example", "https://evil.example", "\t//evil.example", "/a\\b", "/login", "/a\r\nb"],
)
def test_the_login_leads_nowhere_else(wanted: str) -> None:
    """A link to the login page cannot be used to send somebody to another site."""
    client, _ = site(Overview(), access=everybody())
    assert log_in(client, "alice", next=wanted).headers["Location"] == "/"


def test_what_was_typed_is_escaped() -> None:
    """The form shows what was typed as text."""
    client, _ = site(Overview(), access=everybody())
    answer = log_in(client, '"><script>x</script>', "wrong", next='/"><script>x</script>')
    assert "<script>x" not in answer.text


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


def test_the_first_visitor_is_told_how_to_make_a_user() -> None:
    """A login page without users says which command makes one."""
    client, _ = site(Overview(), PRODUCTION)
    assert "modelpilot users add" in client.get("/login").text


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
