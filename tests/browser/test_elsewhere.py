"""The site elsewhere than on localhost: under a name, below a path, at several addresses, and behind proxies."""

import base64
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import Visit, running_chromium, visiting
from tests.support.filled_site import FilledSite
from tests.support.proxies import Front, certificate, reverse_proxy

pytestmark = pytest.mark.timeout(300)

NAME = "router.example"


@pytest.fixture(scope="module")
def elsewhere(site: FilledSite) -> Iterator[Browser]:
    """A browser that finds the name on this machine."""
    with running_chromium(f"--host-resolver-rules=MAP {NAME} 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """What a test starts ends with it."""
    with ExitStack() as opened:
        yield opened


def production() -> dict[str, str]:
    """Settings of a site in production; it decrypts nothing, so any random key will do."""
    return {"ENV": "production", "ENCRYPTION_KEYS": base64.b64encode(secrets.token_bytes(32)).decode()}


def port_of(url: str) -> int:
    """The port in an address of the site."""
    return urlsplit(url).port or 0


def log_in_and_out(window: Visit) -> None:
    """Ask for a page, log in, see its figures, go to another page, log out."""
    window.page.goto(f"{window.url}/?range=7d")
    window.page.wait_for_url("**/login?next=**")
    window.log_in("alice")
    window.page.wait_for_url(f"{window.url}/?range=7d")
    window.settle()
    window.page.locator("aside").get_by_role("link", name="Requests").click()
    window.page.wait_for_url(f"{window.url}/requests?range=7d")
    window.settle()
    expect(window.page.locator("main")).to_contain_text("aardvark")
    window.page.locator("aside").get_by_role("button", name="Log out").click()
    window.page.wait_for_url(f"{window.url}/login")
    assert window.troubles == []


def session_of(window: Visit) -> Any:
    """The cookie of the session."""
    return next(one for one in window.context.cookies() if one["name"].endswith("mp_session"))


def test_a_name_over_plain_http(elsewhere: Browser, site: FilledSite, tmp_path: Path, stack: ExitStack) -> None:
    """In development: nothing but the Origin tells whose form it is, and a stranger's is refused."""
    url = stack.enter_context(site.dashboard(tmp_path, DASHBOARD_TRUSTED_HOSTS=NAME))
    window = stack.enter_context(visiting(elsewhere, f"http://{NAME}:{port_of(url)}", tmp_path))
    log_in_and_out(window)
    for origin in ("http://evil.example", "null", f"http://{NAME}:{port_of(url)}.evil.example"):
        answer = window.context.request.post(f"{url}/login", headers={"Origin": origin}, form={"username": "alice"})
        assert (answer.status, "comes from another site" in answer.text()) == (403, True)


def test_every_address_that_it_listens_on(
    elsewhere: Browser, site: FilledSite, tmp_path: Path, stack: ExitStack
) -> None:
    """IPv6 and a second address of IPv4, without any further setting."""
    url = stack.enter_context(site.dashboard(tmp_path, DASHBOARD_HOST="127.0.0.1,127.0.0.2,[::1]"))
    for host in ("127.0.0.2", "[::1]"):
        log_in_and_out(stack.enter_context(visiting(elsewhere, f"http://{host}:{port_of(url)}", tmp_path)))


def test_production_over_plain_http_says_what_it_needs(
    elsewhere: Browser, site: FilledSite, tmp_path: Path, stack: ExitStack
) -> None:
    """Browsers drop Secure cookies there: a form would be asked for over and over."""
    url = stack.enter_context(site.dashboard(tmp_path, **production(), DASHBOARD_TRUSTED_HOSTS=NAME))
    window = stack.enter_context(visiting(elsewhere, f"http://{NAME}:{port_of(url)}", tmp_path))
    window.page.goto(window.url)
    expect(window.page.get_by_role("alert")).to_contain_text("This site needs HTTPS")
    assert window.page.locator("form").count() == 0
    assert window.serious_findings() == []
    # Nobody said that this proxy is to be believed.
    lied = window.context.request.get(f"{url}/login", headers={"Host": NAME, "X-Forwarded-Proto": "https"})
    assert "This site needs HTTPS" in lied.text()
    here = stack.enter_context(visiting(elsewhere, url, tmp_path))
    log_in_and_out(here)


@pytest.mark.parametrize("trusted", [True, False], ids=["trusted", "unknown"])
def test_production_behind_a_tls_proxy(
    elsewhere: Browser, site: FilledSite, tmp_path: Path, stack: ExitStack, trusted: bool
) -> None:
    """With a Secure cookie; the browser's own headers show HTTPS where the proxy is not to be believed."""
    proxies = {"DASHBOARD_TRUSTED_PROXIES": "127.0.0.0/8"} if trusted else {}
    url = stack.enter_context(site.dashboard(tmp_path, **production(), **proxies, DASHBOARD_TRUSTED_HOSTS=NAME))
    _, tls = certificate(NAME, tmp_path)
    front = Front(urlsplit(url).netloc, tls=tls, forwarded={"X-Forwarded-Proto": "https"})
    port = stack.enter_context(reverse_proxy(front))
    window = stack.enter_context(visiting(elsewhere, f"https://{NAME}:{port}", tmp_path))
    log_in_and_out(window)
    window.log_in("alice")
    window.settle()
    cookie = session_of(window)
    assert (cookie["name"], cookie["secure"], cookie["path"]) == ("__Host-mp_session", True, "/")


@pytest.mark.parametrize("strip", [True, False], ids=["taken away", "passed on"])
def test_below_a_path(elsewhere: Browser, site: FilledSite, tmp_path: Path, stack: ExitStack, strip: bool) -> None:
    """Links, assets, callbacks, redirects, downloads and the cookie stay below it, whatever the proxy does with it."""
    settings = {"DASHBOARD_PREFIX": "/pilot/", "DASHBOARD_TRUSTED_HOSTS": NAME}
    url = stack.enter_context(site.dashboard(tmp_path, **settings))
    port = stack.enter_context(reverse_proxy(Front(urlsplit(url).netloc, "/pilot", strip)))
    window = stack.enter_context(visiting(elsewhere, f"http://{NAME}:{port}/pilot", tmp_path))
    log_in_and_out(window)
    window.log_in("alice")
    window.page.wait_for_url(f"{window.url}/")
    assert session_of(window)["path"] == "/pilot"
    for title in ("Explore", "Requests", "Routers", "What-if", "Frontier", "Models & providers", "Jobs", "Overview"):
        window.page.locator("aside").get_by_role("link", name=title).click()
        expect(window.page.locator("main h1")).to_have_text(title)
        window.settle()
        for href in window.page.locator("a[href^='/']").evaluate_all("all => all.map((a) => a.getAttribute('href'))"):
            assert href.startswith("/pilot/"), (title, href)
    window.open("/requests")
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="Download CSV").click()
    assert "aardvark" in Path(download.value.path()).read_text()
    window.page.locator(".ag-row").first.locator("a").first.click()
    window.page.wait_for_url(f"{window.url}/requests/detail?**")
    window.settle()
    window.page.reload()
    window.settle()
    assert window.troubles == []
    # A session that ends while a page is open leads to the login below the path, and back.
    window.context.clear_cookies()
    window.page.get_by_role("link", name="ModelPilot").click()
    window.page.wait_for_url("**/pilot/login?next=%2Fpilot%2F**")
    assert all("401" in trouble for trouble in window.troubles)
    window.log_in("alice")
    window.page.wait_for_url(f"{window.url}/**")
    window.settle()
