"""Login, logout, and what each visitor may see, in a real browser and against its recorded requests."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from dashboard.access import ATTEMPTS_PER_USERNAME
from dashboard.pages import PAGES
from tests.browser.conftest import Visitors
from tests.support.browser import PHONE_PX, Scheme, Visit
from tests.support.filled_site import PASSWORD, TRAFFIC, FilledSite, secret_name

pytestmark = pytest.mark.timeout(300)


def test_login_leads_to_the_wanted_page_and_logout_out(visit: Visitors) -> None:
    """One asks for a page, logs in, sees it, logs out, and the back button shows nothing any more."""
    window = visit(None)
    window.page.goto(f"{window.url}/?range=7d")
    assert "/login" in window.page.url
    window.log_in("alice")
    window.page.wait_for_url("**/?range=7d")
    window.settle()
    assert window.page.locator("aside").get_by_text("alice").is_visible()
    window.page.locator("aside").get_by_role("button", name="Log out").click()
    window.page.wait_for_url("**/login")
    window.page.go_back()
    window.page.wait_for_url("**/login?**")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width_px", [1280, PHONE_PX])
def test_login_page_is_sound(visit: Visitors, scheme: Scheme, width_px: int) -> None:
    """The one page that is not made by Dash keeps the same promises."""
    window = visit(None, scheme=scheme, width_px=width_px)
    window.page.goto(f"{window.url}/login")
    window.screenshot(f"login-{width_px}-{scheme}")
    assert window.overflow_px() <= 0
    assert window.serious_findings() == []


def test_wrong_passwords_are_throttled(visit: Visitors, site: FilledSite) -> None:
    """After ten wrong ones the right one is refused for a while, and the page says for how long."""
    site.modelpilot("users", "add", "mallory", "--user", "team-b", "--password-stdin", given=PASSWORD)
    window = visit(None)
    for _ in range(ATTEMPTS_PER_USERNAME):
        window.log_in("mallory", "not the password")
        expect(window.page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    window.log_in("mallory")
    expect(window.page.get_by_role("alert")).to_contain_text("Too many attempts. Try again in 15 minutes.")
    assert all("401" in trouble or "429" in trouble for trouble in window.troubles)
    window.troubles.clear()


def test_an_ended_session_leads_to_the_login(visit: Visitors, site: FilledSite) -> None:
    """Somebody who is disabled while a page is open sees no further figure: the next refresh opens the login."""
    site.modelpilot("users", "add", "carol", "--user", "team-a", "--password-stdin", given=PASSWORD)
    window = visit(None)
    window.log_in("carol")
    window.settle()
    site.modelpilot("users", "disable", "carol")
    window.page.get_by_role("button", name="Refresh", exact=True).click()
    window.page.wait_for_url("**/login?next=**")
    assert all("401" in trouble for trouble in window.troubles)
    window.troubles.clear()


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_no_page_shows_another_tenant(visit: Visitors, path: str) -> None:
    """Whatever a URL asks for, a viewer's pages hold nothing of the other tenant."""
    window = visit("bob")
    window.open(f"{path}?as=team-a&range=24h")
    assert "These are your own requests (team-b)" in window.text()
    assert not _mentions_a(window)
    window.open(path)
    assert not _mentions_a(window)


@pytest.mark.parametrize("path", [page.path for page in PAGES])
def test_recorded_callbacks_of_a_tenant_are_worth_nothing_to_another(visit: Visitors, path: str) -> None:
    """What alice's browser posted, posted again with bob's cookie, shows nothing of hers; without one, nothing."""
    alice, bob, nobody = visit("alice"), visit("bob"), visit(None)
    alice.open(path)
    assert alice.callbacks
    for body in alice.callbacks:
        crafted = json.loads(json.dumps(body).replace('"search": ""', '"search": "?as=team-a"'))
        answer = _post(bob, crafted)
        assert answer.status in (200, 204)
        assert not _is_of_a(answer.text())
        assert _post(nobody, body).status == 401
    assert any(_is_of_a(_post(alice, body).text()) for body in alice.callbacks) is _mentions_a(alice)


def test_links_of_a_tenant_lead_another_nowhere(visit: Visitors) -> None:
    """Bob opens what alice's pages link to, detail pages included, and sees neither her routers nor her requests."""
    alice, bob = visit("alice"), visit("bob")
    links: dict[str, str] = {}
    for page in PAGES:
        alice.open(page.path)
        for href in alice.page.locator("main a[href^='/']").evaluate_all(
            "all => all.map((a) => a.getAttribute('href'))"
        ):
            links.setdefault(urlsplit(href).path, href)
    assert {"/requests/detail", "/routers/detail"} <= links.keys()
    for href in links.values():
        alice.open(href)
        bob.open(href)
        hers = [mark for mark in MARKS if mark in alice.page.content()]
        assert [mark for mark in hers if mark in bob.page.content()] == [], href


def test_a_viewer_is_offered_no_other_user(visit: Visitors) -> None:
    """Names of tenants are for admins only."""
    window = visit("bob")
    window.open("/")
    expect(window.page.get_by_role("textbox", name="User")).to_be_hidden()
    cards = window.page.locator("dl", has_text="Requests").first
    assert cards.locator("dd").first.inner_text() == str(TRAFFIC["team-b"][1])


# What only pages that have read something of team-a hold.
MARKS = (secret_name("team-a"), "route/team-a/", "route%2Fteam-a%2F")


def _post(window: Visit, body: Any) -> Any:
    return window.context.request.post(f"{window.url}/_dash-update-component", data=body)


def _is_of_a(text: str) -> bool:
    return "aardvark" in text or any(mark in text for mark in MARKS)


def _mentions_a(window: Visit) -> bool:
    return _is_of_a(window.page.content())
