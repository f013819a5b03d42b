"""Logging in to the analytics site and out of it: cookies, guessing, forms from elsewhere."""

import pytest
from flask.testing import FlaskClient

from dashboard.access import ATTEMPTS_PER_ADDRESS, ATTEMPTS_PER_USERNAME, csrf_token
from dashboard.config import DashboardConfig
from modelpilot.metrics.overview import Overview
from tests.support.site import FakeAccess, FakeHasher, log_in, site, user

ALICE = user("alice", "team-a")
PRODUCTION = DashboardConfig(production=True)


def everybody() -> FakeAccess:
    """Users of two tenants."""
    return FakeAccess(ALICE, user("bob", "team-b"))


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


def test_the_first_visitor_is_told_how_to_make_a_user() -> None:
    """A login page without users says which command makes one."""
    client, _ = site(Overview(), PRODUCTION)
    assert "modelpilot users add" in client.get("/login").text
