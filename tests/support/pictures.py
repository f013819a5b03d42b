"""The documentation's pictures, taken of a running site that asks for no login.

After `modelpilot demo`: `.venv/bin/python -m tests.support.pictures http://127.0.0.1:8050 docs/images`.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from dashboard.pages import requests
from tests.support.browser import PHONE_PX, Scheme, Visit, running_chromium, visiting

WIDTH_PX = 1280


@dataclass(frozen=True, slots=True)
class Picture:
    """The upper `height_px` of a page. `follow` (CSS) is a link of it that leads to the page that is meant."""

    name: str
    path: str
    height_px: int
    width_px: int = WIDTH_PX
    scheme: Scheme = "light"
    follow: str | None = None


PICTURES = (
    Picture("overview", "/", 960),
    Picture("overview-phone", "/", 844, PHONE_PX, "dark"),
    Picture("explore", "/explore?metric=cost", 900),
    Picture("request", "/requests", 900, follow=f"#{requests.GRID} .ag-center-cols-container a"),
    Picture("what-if", "/what-if?w=70,10,20,0", 900, scheme="dark"),
    Picture("frontier", "/frontier", 840),
)


def take(window: Visit, picture: Picture) -> Path:
    """Open the page, and keep what a visitor sees first."""
    window.page.set_viewport_size({"width": picture.width_px, "height": picture.height_px})
    window.open(picture.path)
    if picture.follow:
        window.open(window.page.locator(picture.follow).first.get_attribute("href") or "")
    path = window.screenshots / f"{picture.name}.png"
    window.page.screenshot(path=path)
    return path


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="address of the site")
    parser.add_argument("folder", type=Path, help="where to put the files")
    given = parser.parse_args()
    with running_chromium() as browser:
        for picture in PICTURES:
            with visiting(browser, given.url, given.folder, width_px=picture.width_px, scheme=picture.scheme) as window:
                path = take(window, picture)
                assert not window.troubles, window.troubles
                print(path, f"{path.stat().st_size / 1e3:,.0f} kB")  # noqa: T201 - a tool of the command line


if __name__ == "__main__":
    main()
