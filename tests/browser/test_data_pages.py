"""Explore, Requests and Models in a real browser: drill-down, CSV, filters in the URL, the keyboard."""

import csv
import io
import re
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from playwright.sync_api import Locator, expect

from dashboard.pages import explore, models, requests
from tests.browser.conftest import Visitors
from tests.support.browser import Visit
from tests.support.filled_site import TRAFFIC, FilledSite

expect.set_options(timeout=30_000)  # milliseconds; a busy machine takes its time to answer
ALL_REQUESTS = sum(count for _, count in TRAFFIC.values())


def count_of(window: Visit) -> int:
    """How many requests the list says that there are."""
    window.page.wait_for_url("**/requests?**")
    count = window.page.locator(f"#{requests.COUNT}")
    expect(count).to_have_text(re.compile(r"^\d+ requests?$"))
    window.settle()
    return int(count.inner_text().split()[0])


def rows_of(window: Visit, grid: str) -> Locator:
    """The rows that a grid shows."""
    return window.page.locator(f"#{grid} .ag-center-cols-container .ag-row")


def csv_of(window: Visit) -> list[list[str]]:
    """What the page's CSV button downloads."""
    with window.page.expect_download() as download:
        window.page.get_by_role("button", name="Download CSV").click()
    return list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8"), newline="")))


@pytest.mark.parametrize("group", ["model", "router", "type", "none"])
def test_a_point_leads_to_as_many_requests(visit: Visitors, group: str) -> None:
    """Clicking a bar of Explore opens the list with the same filters and times, and the same number of rows."""
    window = visit("root")
    window.open(f"/explore?by={group}&bucket=day&range=7d")
    bars = window.page.locator(f"#{explore.CHART} .points path")
    expect(bars.first).to_be_attached()
    rows = rows_of(window, explore.GRID)
    first = rows.first.locator('[col-id="requests"]').inner_text()
    shown = [one.locator('[col-id="requests"]').inner_text() for one in rows.all()]
    sizes = [bar.bounding_box() for bar in bars.all()]
    drawn = next(index for index, box in enumerate(sizes) if box and box["height"] > 1)
    bars.nth(drawn).hover(force=True)
    expect(window.page.locator(f"#{explore.CHART} .hoverlayer .hovertext").first).to_be_visible()
    bars.nth(drawn).click(force=True)
    assert str(count_of(window)) in shown
    window.page.go_back()
    window.page.wait_for_url("**/explore?**")
    window.settle()
    rows_of(window, explore.GRID).first.get_by_role("link").click()
    assert count_of(window) == int(first)
    assert {"from", "to"} <= set(parse_qs(urlsplit(window.page.url).query))


@pytest.fixture(scope="module")
def tagged(site: FilledSite) -> None:
    """Buffalo's requests are of two teams and two people; its team is a dimension, and nobody has computed an hour."""
    with psycopg.connect(site.world.database_url) as connection:
        connection.execute("INSERT INTO dimensions (user_id, tag) VALUES ('team-b', 'team')")
        connection.execute(
            """UPDATE requests SET end_user = 'person ' || n % 2, session_id = 's-1',
                tags = jsonb_build_object('team', CASE WHEN n = 1 THEN 'é & co' ELSE 'red' END)
            FROM (SELECT user_id AS owner, request_id AS id, row_number() OVER () AS n FROM requests
                  WHERE user_id = 'team-b') AS numbered
            WHERE user_id = owner AND request_id = id"""
        )


@pytest.mark.parametrize(
    ("by", "filters"),
    [("Tag team", {"tag"}), ("End user", {"user"}), ("API key", {"key"}), ("Session", {"session"})],
)
def test_whose_spend_and_its_requests(visit: Visitors, tagged: None, by: str, filters: set[str]) -> None:
    """Grouped by the choice of the visitor's tenant; each row leads to its requests, and their filters stay."""
    window = visit("bob")
    window.open("/explore?range=7d&metric=cost&bucket=day")
    window.page.get_by_label("Group by", exact=True).first.click()
    window.page.get_by_role("option", name=by, exact=True).click()
    window.page.wait_for_url("**by=**")
    window.settle()
    expect(window.page.locator(f"#{explore.WHAT}")).to_contain_text(re.compile(f" by {by}", re.IGNORECASE))
    rows = rows_of(window, explore.GRID)
    expect(rows.first).to_be_visible()
    shown = [int(row.locator('[col-id="requests"]').inner_text()) for row in rows.all()]
    assert sum(shown) == TRAFFIC["team-b"][1]
    named = {row.locator('[col-id="group"]').inner_text() for row in rows.all()}
    assert by != "Tag team" or named == {"é & co", "red"}
    last = rows.last
    expected = int(last.locator('[col-id="requests"]').inner_text())
    last.get_by_role("link").click()
    assert count_of(window) == expected
    assert filters <= set(parse_qs(urlsplit(window.page.url).query))
    window.page.reload()
    assert count_of(window) == expected
    header, *listed = csv_of(window)
    assert len(listed) == expected
    assert {row[header.index("session_id")] for row in listed} == {"s-1"}


def test_tags_narrow_both_pages(visit: Visitors, tagged: None) -> None:
    """Chosen in the filter, said in the URL, carried from Explore to the list beside another group."""
    window = visit("bob")
    window.open("/explore?range=7d&by=user&bucket=day")
    window.page.get_by_label("Tag", exact=True).first.click()
    window.page.get_by_role("option", name="team: é & co", exact=True).click()
    window.page.wait_for_url("**tag=**")
    window.settle()
    rows = rows_of(window, explore.GRID)
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link").click()
    assert count_of(window) == 1
    assert {"tag", "user"} <= set(parse_qs(urlsplit(window.page.url).query))
    expect(window.page.get_by_label("Tag", exact=True).first).to_have_value("team: é & co")


def test_explore_csv_equals_its_grid(visit: Visitors) -> None:
    """The same rows in the same order; the grid only writes the numbers for people."""
    window = visit("root")
    window.open("/explore?range=7d&by=model&metric=tokensIn")
    rows = rows_of(window, explore.GRID)
    expect(rows.first).to_be_visible()
    shown = [
        [row.locator(f'[col-id="{column}"]').inner_text().replace(",", "") for column in ("group", "requests", "value")]
        for row in rows.all()
    ]
    header, *listed = csv_of(window)
    assert header[4] == "tokensIn (tokens)"
    assert [[row[2], row[3], str(int(float(row[4])))] for row in listed] == shown
    assert sum(int(row[3]) for row in listed) == ALL_REQUESTS


def test_explore_controls_survive_a_reload(visit: Visitors) -> None:
    """Metric, group, step and filters are in the URL, and the page says again what it said."""
    window = visit("root")
    window.open("/explore")
    for label, option in (("Metric", "Cost"), ("Group by", "Router"), ("Time step", "Hour"), ("Model", "sim/small")):
        window.page.get_by_label(label, exact=True).first.click()
        window.page.get_by_role("option", name=option, exact=True).click()
    window.page.wait_for_url(re.compile("metric=cost.*model=sim%2Fsmall|model=sim%2Fsmall.*metric=cost"))
    window.settle()
    said = window.page.locator(f"#{explore.WHAT}")
    expect(said).to_have_text("Cost by router, per hour, of requests of known cost.")
    window.page.reload()
    window.settle()
    expect(said).to_have_text("Cost by router, per hour, of requests of known cost.")
    expect(window.page.get_by_label("Metric", exact=True).first).to_have_value("Cost")
    expect(window.page.get_by_label("Model", exact=True).first).to_have_value("sim/small")


def test_list_filters_survive_a_reload_and_narrow_the_csv(visit: Visitors) -> None:
    """A filtered list has the same rows as its CSV, also after a reload."""
    window = visit("root")
    window.open("/requests")
    window.page.get_by_label("Router", exact=True).first.click()
    window.page.get_by_role("option", name="buffalo").click()
    window.page.wait_for_url("**router=buffalo**")
    count = TRAFFIC["team-b"][1]
    expect(window.page.locator(f"#{requests.COUNT}")).to_have_text(f"{count} requests")
    window.page.reload()
    assert count_of(window) == count
    rows = rows_of(window, requests.GRID)
    expect(rows).to_have_count(count)
    header, *listed = csv_of(window)
    assert {row[header.index("router_id")] for row in listed} == {"buffalo"}
    models = [row.locator('[col-id="model"]').inner_text() for row in rows.all()]
    assert [row[header.index("model")] for row in listed] == models


def test_list_is_sorted_by_the_server(visit: Visitors) -> None:
    """A click on a heading sorts all rows, not only those in sight."""
    window = visit("root")
    window.open("/requests")
    expect(rows_of(window, requests.GRID).first).to_be_visible()
    heading = window.page.locator('.ag-header-cell[col-id="latency_ms"]')
    for direction in ("ascending", "descending"):
        with window.page.expect_response(lambda answer: "getRowsResponse" in (answer.request.post_data or "")):
            heading.click()
        expect(heading).to_have_attribute("aria-sort", direction)
        window.settle()
        expect(rows_of(window, requests.GRID)).to_have_count(ALL_REQUESTS)
        cells = rows_of(window, requests.GRID).locator('[col-id="latency_ms"]')
        expect(cells).to_have_count(ALL_REQUESTS)  # a single empty row stands there while the sorted ones are fetched
        shown = [milliseconds(cell) for cell in cells.all_inner_texts()]
        assert shown == sorted(shown, reverse=direction == "descending")


def milliseconds(text: str) -> float:
    """`1,234 ms` or `12.3 s` as a number."""
    value, unit = text.replace(",", "").split()
    return float(value) * (1_000.0 if unit == "s" else 1.0)


def test_a_row_opens_by_keyboard(visit: Visitors) -> None:
    """Tab into the table, go down a row, Enter: the page of that request, with its decision and its attempts."""
    window = visit("root")
    window.open("/requests")
    rows = rows_of(window, requests.GRID)
    expect(rows.nth(1)).to_be_visible()
    wanted = rows.nth(1).get_by_role("link").get_attribute("href") or ""
    window.page.locator(".ag-header-cell").first.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        window.page.keyboard.press(key)
    window.page.wait_for_url(f"**{wanted}")
    window.settle()
    for heading in ("Decision", "Attempts", "Feedback", "Facts"):
        expect(window.page.get_by_role("heading", name=heading, exact=True)).to_be_visible()
    expect(window.page.get_by_role("img", name="Chart: score of each candidate")).to_be_visible()
    window.page.get_by_role("link", name="All requests").click()
    expect(window.page.locator(f"#{requests.COUNT}")).to_have_text(f"{ALL_REQUESTS} requests")


def test_a_request_is_found_by_its_id(visit: Visitors) -> None:
    """The beginning of an id is typed, Enter, and one row is left; a click on it opens the request."""
    window = visit("alice")
    window.open("/requests")
    href = rows_of(window, requests.GRID).first.get_by_role("link").get_attribute("href") or ""
    (request_id,) = parse_qs(urlsplit(href).query)["id"]
    box = window.page.get_by_label("Request id (at any time)")
    box.fill(request_id)
    box.press("Enter")
    expect(window.page.locator(f"#{requests.COUNT}")).to_have_text("1 request")
    expect(rows_of(window, requests.GRID)).to_have_count(1)
    rows_of(window, requests.GRID).locator('[col-id="model"]').click()
    window.page.wait_for_url("**/requests/detail?**")
    window.settle()
    expect(window.page.get_by_text(request_id, exact=True).first).to_be_visible()


def test_a_request_of_another_tenant_does_not_exist(visit: Visitors) -> None:
    """By URL, with the owner named or not, bob learns nothing of alice's request."""
    alice, bob = visit("alice"), visit("bob")
    alice.open("/requests")
    href = rows_of(alice, requests.GRID).first.get_by_role("link").get_attribute("href") or ""
    bob.open(href)
    expect(bob.page.get_by_text("No such request")).to_be_visible()
    assert "aardvark" not in bob.page.content()


def test_heatmap_leads_to_requests(visit: Visitors) -> None:
    """A cell of the latency heatmap opens the requests of that model and time."""
    window = visit("root")
    window.open("/models")
    rows = window.page.locator(f"#{models.TABLE} tbody tr")
    assert sum(int(row.locator('[data-label="Requests"]').inner_text()) for row in rows.all()) == ALL_REQUESTS
    cell = rows_of(window, models.HEATMAP_GRID).first
    requests = int(cell.locator('[col-id="requests"]').inner_text())
    cell.get_by_role("link").click()
    assert count_of(window) == requests


def test_empty_pages_say_what_to_do(visit: Visitors) -> None:
    """A filter that leaves nothing is explained, with the way out."""
    window = visit("root")
    for path in ("/explore?router=nobody", "/requests?router=nobody", "/models?model=nobody"):
        window.open(path)
        assert "modelpilot demo" in window.text(), path
    window.open("/requests/detail")
    expect(window.page.get_by_text("No request chosen")).to_be_visible()
