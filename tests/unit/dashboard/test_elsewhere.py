"""The site under names, below paths and behind proxies, over its WSGI interface."""

import pytest
from flask.testing import FlaskClient

from dashboard.config import DashboardConfig
from modelpilot.metrics.overview import Overview
from tests.support.site import FakeAccess, log_in, site, user

HTTPS_NEEDED = "This site needs HTTPS"


def everybody() -> FakeAccess:
    """One user."""
    return FakeAccess(user("alice", "team-a"))


def client_of(**settings: object) -> FlaskClient:
    """A client of a site with these settings."""
    client, _ = site(Overview(), DashboardConfig(**settings), everybody())  # type: ignore[arg-type] # of many kinds
    return client.application.test_client(use_cookies=False)  # its jar knows no proxy that takes a path away


@pytest.mark.parametrize(
    ("host", "accepted"),
    [
        ("localhost:8050", True),
        ("127.0.0.2:8050", True),
        ("[::1]:8050", True),
        ("192.168.1.5", True),
        ("pilot.example", True),
        ("PILOT.example:8050", True),
        ("a.teams.example", True),
        ("teams.example", True),
        ("ops.example", True),
        ("pilot.example.evil.example", False),
        ("evil-teams.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example", False),
    ],
)
def test_host_names(host: str, accepted: bool) -> None:
    """Addresses, and the names that were given; any other name may be a stranger's that leads here."""
    client = client_of(trusted_hosts=("pilot.example", ".teams.example"), public_url="https://ops.example/pilot/")
    answer = client.get("/login", base_url=f"http://{host}")
    assert answer.status_code == (200 if accepted else 400)
    assert accepted or "MODELPILOT_DASHBOARD_TRUSTED_HOSTS" in answer.text


@pytest.mark.parametrize(
    ("headers", "peer", "refused"),
    [
        ({}, "10.0.0.9", True),
        ({"X-Forwarded-Proto": "https"}, "10.0.0.9", False),
        ({"X-Forwarded-Proto": "https"}, "10.0.1.9", True),
        ({"X-Forwarded-Proto": "http"}, "10.0.0.9", True),
        ({"X-Forwarded-Proto": "https, http"}, "10.0.0.9", True),
        ({"Sec-Fetch-Site": "same-origin"}, "10.0.1.9", False),
    ],
)
def test_production_wants_https(headers: dict[str, str], peer: str, refused: bool) -> None:
    """What a trusted proxy says counts, and what browsers show by themselves; nobody else's word."""
    client = client_of(production=True, trusted_hosts=("pilot.example",), trusted_proxies=("10.0.0.0/24",))
    there = {"base_url": "http://pilot.example", "headers": headers, "environ_base": {"REMOTE_ADDR": peer}}
    page = client.get("/login", **there)
    assert (page.status_code, HTTPS_NEEDED in page.text, "<form" in page.text) == (200, refused, not refused)
    sent = client.post("/login", data={"username": "alice"}, **there)
    assert (HTTPS_NEEDED in sent.text) is refused
    assert not refused or sent.status_code == 403


def test_a_proxy_that_is_trusted_says_who_comes() -> None:
    """So that the limit per address is the visitor's; a stranger's header says nothing."""
    config = DashboardConfig(trusted_proxies=("10.0.0.1",))
    access = everybody()
    client, _ = site(Overview(), config, access)
    for peer in ("10.0.0.1", "10.0.0.2"):
        client.environ_base["REMOTE_ADDR"] = peer
        client.environ_base["HTTP_X_FORWARDED_FOR"] = "192.0.2.7"
        log_in(client, "alice", "wrong")
    assert len(access.attempts) == 3  # the user name, the visitor, and the stranger itself


@pytest.mark.parametrize("path", ["/pilot", ""], ids=["passed on", "taken away"])
def test_below_a_path(path: str) -> None:
    """Redirects, the form, its files and its cookies are below it, whether the proxy has taken the path away or not."""
    client = client_of(prefix="/pilot/")
    assert client.get(f"{path}/requests?a=1").headers["Location"] == "/pilot/login?next=%2Fpilot%2Frequests%3Fa%3D1"
    page = client.get(f"{path}/login?next=%2Fpilot%2Frequests").text
    for part in ('action="/pilot/login"', 'href="/pilot/assets/login.css"', 'src="/pilot/assets/login.js"'):
        assert part in page
    with client.get(f"{path}/assets/login.css") as file:
        assert file.status_code == 200
    assert client.get(f"{path}/healthz").text == "ok\n"
    form = {"csrf": "known", "next": "/pilot/requests", "username": "alice", "password": "correct horse battery"}
    answer = client.post(f"{path}/login", data=form, headers={"Cookie": "mp_login=known"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/pilot/requests")
    assert any(one.startswith("mp_session=") and "Path=/pilot" in one for one in answer.headers.getlist("Set-Cookie"))


@pytest.mark.parametrize(
    "wanted", ["/", "/requests", "//evil.example", "/pilot//evil.example", "/pilot/login", "/pilotx"]
)
def test_nothing_outside_of_the_path_is_led_to(wanted: str) -> None:
    """Where another application is, or another site."""
    client = client_of(prefix="/pilot/")
    page = client.get("/login", query_string={"next": wanted}).text
    assert 'name="next" value="/pilot/"' in page


def test_the_session_below_a_path_is_secure_in_production() -> None:
    """`__Host-` is for whole hosts; the next best name makes browsers insist on Secure."""
    client = client_of(prefix="/pilot/", production=True)
    page = client.get("/login").text
    csrf = page.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"csrf": csrf, "username": "alice", "password": "correct horse battery"}
    cookies = client.post("/login", data=form, headers={"Cookie": f"__Secure-mp_login={csrf}"}).headers.getlist(
        "Set-Cookie"
    )
    (session,) = [one for one in cookies if one.startswith("__Secure-mp_session=")]
    assert "Secure" in session
    assert "Path=/pilot" in session
