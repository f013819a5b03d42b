"""What holds for every page of the site: new ones in `PAGES` are tested without a word here."""

import pytest

from dashboard.pages import PAGES
from tests.browser.conftest import Visitors
from tests.support.browser import DESKTOP_PX, HEIGHT_PX, PHONE_PX, Scheme

pytestmark = pytest.mark.timeout(300)

PATHS = [page.path for page in PAGES]
TITLES = {page.path: page.title for page in PAGES}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PATHS)
def test_page_is_sound(visit: Visitors, path: str, scheme: Scheme) -> None:
    """It opens without an error or a request elsewhere, fits a desk and a phone, and axe finds nothing serious."""
    window = visit("root", scheme=scheme)
    for width_px in (DESKTOP_PX, PHONE_PX):
        window.page.set_viewport_size({"width": width_px, "height": HEIGHT_PX})
        window.open(path)
        window.screenshot(f"{path.strip('/').replace('/', '-') or 'overview'}-{width_px}-{scheme}")
        assert window.overflow_px() <= 0, width_px
        assert window.serious_findings() == []
    assert window.page.title() == f"{TITLES[path]} · ModelPilot"
    assert window.page.locator("html").get_attribute("data-mantine-color-scheme") == scheme


@pytest.mark.parametrize("path", PATHS)
def test_range_survives_a_reload(visit: Visitors, path: str) -> None:
    """What is chosen is in the URL, and a reload shows it again; links to other pages carry it along."""
    window = visit("root")
    window.open(path)
    control = window.page.get_by_role("radiogroup", name="Time range")
    if control.count() == 0:
        assert "range" not in window.page.url
        return
    control.get_by_text("7 days").click()
    window.page.wait_for_url("**range=7d**")
    window.page.reload()
    window.settle()
    assert control.get_by_role("radio", name="7 days").is_checked()
    links = window.page.get_by_role("navigation", name="Pages").get_by_role("link")
    assert all("range=7d" in (link.get_attribute("href") or "") for link in links.all())


@pytest.mark.parametrize("path", PATHS)
def test_every_control_is_reached_by_keyboard(visit: Visitors, path: str) -> None:
    """Tab visits every visible control of the page once, in the order of the page, and shows where it is."""
    window = visit("root")
    window.open(path)
    window.page.evaluate("document.activeElement.blur()")
    reached: list[str] = []
    for _ in range(400):
        window.page.keyboard.press("Tab")
        one = window.page.evaluate(_FOCUSED)
        if one is None or one["key"] in reached:
            break
        assert one["visible"], one
        reached.append(one["key"])
    missing = set(window.page.evaluate(_FOCUSABLE)) - set(reached)
    assert not missing


# Radio buttons of one group share a place in the tab order, so they count as one.
_KEY = """const key = (one) => one.type === 'radio' ? `radio ${one.name}` :
  `${one.tagName} ${one.id || one.getAttribute('href') || one.getAttribute('aria-label') || one.textContent} ${
    [...document.querySelectorAll('*')].indexOf(one)}`;"""
_FOCUSED = f"""() => {{
  {_KEY}
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const shape = (one.type === 'radio' ? one.parentElement : one).getBoundingClientRect();
  return {{ key: key(one), visible: shape.width > 0 && shape.height > 0 }};
}}"""
_FOCUSABLE = f"""() => {{
  {_KEY}
  return [...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
    .filter((one) => one.tabIndex >= 0 && !one.disabled && one.type !== 'hidden' && one.checkVisibility(
      {{ visibilityProperty: true }}) && !one.closest('.ag-root-wrapper, [inert]')).map(key);
}}"""
