"""The calendar of a page in a real browser."""

import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from dashboard.pages.overview import FRAME
from tests.browser.conftest import Visitors
from tests.support.browser import DESKTOP_PX, PHONE_PX

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("width_px", [DESKTOP_PX, PHONE_PX])
def test_days_are_chosen_by_keyboard_and_stay(visit: Visitors, width_px: int) -> None:
    """Arrow keys and Enter choose the first and the last day of the visitor's zone; a reload shows them again."""
    window = visit("root", width_px=width_px, zone="Asia/Kolkata")
    window.open("/")
    window.page.get_by_role("radiogroup", name="Time zone").get_by_text("Local").click()
    expect(window.page.locator(f"#{FRAME.id('as-of')}")).to_contain_text("IST")
    window.page.get_by_role("button", name="Choose days").press("Enter")
    days = window.page.get_by_role("dialog")
    expect(days).to_be_visible()
    assert window.overflow_px() <= 0
    assert window.serious_findings() == []
    window.page.get_by_role("button", name="Previous month").press("Enter")
    days.get_by_role("button", name=re.compile("^10 ")).press("Enter")
    for key in ("ArrowDown", "ArrowRight", "Enter"):  # eight days on
        window.page.keyboard.press(key)
    window.page.wait_for_url("**from=**")
    expect(days).to_be_hidden()
    asked = parse_qs(urlsplit(window.page.url).query)
    start, end = (datetime.fromisoformat(asked[name][0]) for name in ("from", "to"))
    assert end - start == timedelta(days=9)
    assert start.astimezone(UTC).strftime("%d %H:%M") == "09 18:30"
    window.page.reload()
    window.settle()
    expect(window.page.get_by_role("button", name=re.compile("^10 .* to 18 "))).to_be_visible()
    window.page.get_by_role("radiogroup", name="Time range").get_by_text("7 days").click()
    window.page.wait_for_url("**?range=7d")
    expect(window.page.get_by_role("button", name="Choose days")).to_be_visible()


def test_half_a_choice_is_given_up(visit: Visitors) -> None:
    """Escape after the first day leaves the range as it was."""
    window = visit("root")
    window.open("/?range=7d")
    window.page.get_by_role("button", name="Choose days").click()
    days = window.page.get_by_role("dialog")
    days.get_by_role("button", name=re.compile("^10 ")).first.click()
    window.page.keyboard.press("Escape")
    expect(days).to_be_hidden()
    expect(window.page.get_by_role("button", name="Choose days")).to_be_visible()
    assert window.page.url.endswith("/?range=7d")
