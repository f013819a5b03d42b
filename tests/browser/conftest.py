"""One filled site for all browser tests, one browser per module, one window per test."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browser import Visit, chromium_path, running_chromium, visiting
from tests.support.filled_site import USERS, FilledSite, filled_site, session_cookie

# A condition that holds soon on an idle machine may take its time on a busy one.
expect.set_options(timeout=30_000)

# visit(user, **options) → a window in which the user is logged in; None: nobody is.
Visitors: TypeAlias = Callable[..., Visit]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FilledSite]:
    """The site. Tests change nothing in it that another one looks at."""
    if chromium_path() is None:
        pytest.skip("no chromium on this machine")
    with filled_site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def chromium(site: FilledSite) -> Iterator[Browser]:
    """A browser."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def cookies(site: FilledSite) -> dict[str, Any]:
    """A session of each user, as its browser keeps it."""
    return {username: {"cookies": [session_cookie(site.url, username)], "origins": []} for username in USERS}


@pytest.fixture
def visit(chromium: Browser, site: FilledSite, cookies: dict[str, Any], tmp_path: Path) -> Iterator[Visitors]:
    """Opens windows. At the end none of them may have met any trouble, unless its test took it out of the list."""
    with ExitStack() as stack:
        opened: list[Visit] = []

        def new(username: str | None, **options: Any) -> Visit:
            state = cookies[username] if username else None
            one = stack.enter_context(visiting(chromium, site.url, tmp_path, state=state, **options))
            opened.append(one)
            return one

        yield new
        assert [trouble for one in opened for trouble in one.troubles] == []
