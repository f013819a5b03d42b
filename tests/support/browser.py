"""A visitor of the analytics site in a real Chromium, who notices everything that goes wrong."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, sync_playwright

from tests.support.filled_site import PASSWORD

Scheme = Literal["light", "dark"]
DESKTOP_PX, PHONE_PX = 1280, 390
HEIGHT_PX = 800
# Where to keep screenshots; without it they go with the test's other files.
SCREENSHOTS = "MODELPILOT_TEST_SCREENSHOTS"
SERIOUS = {"serious", "critical"}
# The page has its data: its skeleton is gone, and no callback runs.
_SETTLED = """() => {
  const loading = document.querySelector('main [id$="-loading"]');
  return document.querySelector('main h1') !== null && (!loading || loading.hidden)
    && document.querySelector('[data-dash-is-loading="true"], .ag-row-loading') === null
    && [...document.querySelectorAll('main .mp-grid')].every((grid) => grid.querySelector('.ag-header-cell'));
}"""


def chromium_path() -> str | None:
    """Debian's browser; None where it is missing."""
    return shutil.which("chromium")


@contextmanager
def running_chromium(*arguments: str) -> Iterator[Browser]:
    """A headless browser; `arguments` are further ones of its command line."""
    # Playwright's own loop must not outlive the tests that use it: asyncio's would find it running.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium_path(), args=["--headless", "--no-sandbox", "--disable-gpu", *arguments]
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """One visitor's window. `troubles` collects what no visit should meet."""

    context: BrowserContext
    page: Page
    url: str
    screenshots: Path
    troubles: list[str] = field(default_factory=list)
    callbacks: list[dict[str, Any]] = field(default_factory=list)  # bodies that were posted to Dash

    def open(self, path: str) -> None:
        """Go to a page and wait until it shows its data."""
        self.page.goto(self.url + path)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has its data."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function(_SETTLED)

    def log_in(self, username: str, password: str = PASSWORD) -> None:
        """Fill in the form that the window shows, or go to it."""
        if not urlsplit(self.page.url).path.endswith("/login"):
            self.page.goto(f"{self.url}/login")
        self.page.get_by_label("User name").fill(username)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()

    def text(self) -> str:
        """Everything that the page says."""
        return self.page.locator("main").inner_text()

    def overflow_px(self) -> int:
        """By how much the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def serious_findings(self) -> list[str]:
        """What axe finds to be serious or critical: rule and the elements."""
        found = Axe().run(self.page).response["violations"]
        return [_finding(one) for one in found if one["impact"] in SERIOUS]

    def screenshot(self, name: str) -> Path:
        """A picture of the whole page."""
        path = self.screenshots / f"{name}.png"
        self.page.screenshot(path=path, full_page=True)
        return path


@contextmanager
def visiting(
    browser: Browser,
    url: str,
    screenshots: Path,
    *,
    width_px: int = DESKTOP_PX,
    scheme: Scheme = "light",
    zone: str = "Europe/Berlin",
    state: Any = None,
) -> Iterator[Visit]:
    """A new window without cookies, or with those of `state` (`Visit.context.storage_state()`)."""
    context = browser.new_context(
        viewport={"width": width_px, "height": HEIGHT_PX},
        color_scheme=scheme,
        timezone_id=zone,
        locale="en-GB",
        storage_state=state,
        reduced_motion="reduce",
        ignore_https_errors=True,  # certificates of tests sign themselves
    )
    visit = Visit(context, context.new_page(), url, Path(os.environ.get(SCREENSHOTS) or screenshots))
    visit.screenshots.mkdir(parents=True, exist_ok=True)
    _watch(visit)
    yield visit
    context.close()


def _finding(violation: dict[str, Any]) -> str:
    nodes = violation["nodes"]
    return f"{violation['id']}: {[node['html'][:200] for node in nodes[:3]]} {nodes[0]['failureSummary'][:300]}"


def _watch(visit: Visit) -> None:
    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            visit.troubles.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((visit.url, "data:", "blob:", "about:")):
            visit.troubles.append(f"leaves the site: {request.url}")
        if urlsplit(request.url).path == "/_dash-update-component":
            visit.callbacks.append(request.post_data_json or {})

    def on_response(response: Response) -> None:
        if response.status >= 400:
            visit.troubles.append(f"{response.status}: {response.url}")

    def on_failed(request: Request) -> None:
        # A page that is left, or a figure that is asked for again, cancels what is under way.
        if request.failure != "net::ERR_ABORTED":
            visit.troubles.append(f"failed: {request.url}: {request.failure}")

    visit.context.on("console", on_console)
    visit.context.on("request", on_request)
    visit.context.on("response", on_response)
    visit.context.on("requestfailed", on_failed)
    visit.page.on("pageerror", lambda error: visit.troubles.append(f"script: {error}"))
