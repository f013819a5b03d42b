"""What somebody who pays sees in a real browser: spend, its split, the list and the bill of a request."""

import csv
import io
import re
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, expect

from dashboard.pages import explore, frontier, models, overview, requests
from tests.browser.conftest import Visitors
from tests.support.browser import DESKTOP_PX, PHONE_PX, Visit
from tests.support.filled_site import TRAFFIC

pytestmark = pytest.mark.timeout(300)

ALL_REQUESTS = sum(count for _, count in TRAFFIC.values())
DESK_PX = 1_440


def panel(window: Visit, title: str) -> Locator:
    """The section with this heading."""
    heading = window.page.get_by_role("heading", name=title, exact=True)
    return window.page.locator("section", has=heading)


def cells(rows: Locator) -> list[list[str]]:
    """The texts of a table's cells."""
    return [row.locator("td").all_inner_texts() for row in rows.all()]


def csv_of(window: Visit, button: Locator) -> list[list[str]]:
    """What a CSV button downloads."""
    with window.page.expect_download() as download:
        button.click()
    return list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8"), newline="")))


def test_overview_begins_with_spend_over_a_range_that_is_filled(visit: Visitors) -> None:
    """The first figure is spend over time, of a range that the requests fill and that is named; another one stays."""
    window = visit("root")
    window.open("/")
    assert window.page.locator("main h2").first.inner_text() == "Spend and savings over time"
    assert window.page.locator("main dt").first.inner_text() == "Spend"
    as_of = window.page.locator(f"#{overview.FRAME.id('as-of')}")
    expect(as_of).to_contain_text("Auto: ")
    drawn = window.page.locator(f"#{overview.SPEND_CHART} .subplot.xy .points path")
    heights = [(box or {"height": 0.0})["height"] for box in [one.bounding_box() for one in drawn.all()]]
    assert max(heights) > 50.0
    moments = re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d", as_of.inner_text())
    assert len(moments) == 3
    window.open("/?range=7d")
    expect(window.page.get_by_role("radio", name="7 days")).to_be_checked()
    expect(as_of).not_to_contain_text("Auto")
    window.page.get_by_role("radiogroup", name="Time range").get_by_text("Auto").click()
    window.page.wait_for_url(lambda url: "range" not in url)
    expect(as_of).to_contain_text("Auto: ")


def test_the_numbers_of_the_figure_are_those_of_its_csv(visit: Visitors) -> None:
    """As many requests as were sent, in the table and in the file, and a row leads to its own."""
    window = visit("root")
    window.open("/")
    section = panel(window, "Spend and savings over time")
    header, *listed = csv_of(window, section.get_by_role("button", name="Download CSV"))
    section.locator("summary").click()
    shown = cells(section.locator("tbody tr"))
    assert [row[header.index("requests")] for row in listed] == [row[3] for row in shown]
    assert sum(int(row[3]) for row in shown) == ALL_REQUESTS
    section.locator("tbody a").first.click()
    window.page.wait_for_url("**/requests?**")
    count = "1 request" if shown[0][3] == "1" else f"{shown[0][3]} requests"
    expect(window.page.locator(f"#{requests.COUNT}")).to_have_text(count)


@pytest.mark.parametrize(
    ("option", "names"),
    [("Router", {router for router, _ in TRAFFIC.values()}), ("Purpose", {"request"}), ("End user", None)],
    ids=["router", "purpose", "end user"],
)
def test_spend_is_split_as_the_url_says(visit: Visitors, option: str, names: set[str] | None) -> None:
    """The choice survives a reload, the rows come to the requests that were sent, and the CSV has the same rows."""
    window = visit("root")
    window.open("/")
    window.page.get_by_label("Spend by", exact=True).first.click()
    window.page.get_by_role("option", name=option, exact=True).click()
    window.page.wait_for_url("**by=**")
    window.page.reload()
    window.settle()
    expect(window.page.get_by_label("Spend by", exact=True).first).to_have_value(option)
    section = panel(window, "Top ten by spend")
    *shown, total = cells(section.locator("tbody tr"))
    assert (total[0], total[5]) == ("All", str(ALL_REQUESTS))
    assert sum(int(row[5]) for row in shown) == ALL_REQUESTS
    assert names is None or {row[0] for row in shown} == names
    _, *listed = csv_of(window, section.get_by_role("button", name="Download CSV"))
    assert [(row[0], row[-1]) for row in listed] == [(row[0], row[5]) for row in shown]
    spend = panel(window, "Top ten by spend").locator("tbody tr").last.locator("td").nth(1).inner_text()
    assert window.page.locator("main dd").first.inner_text() == spend


def test_the_list_fits_a_desk_and_keeps_its_columns(visit: Visitors) -> None:
    """No scrolling sideways at 1440 px; what is ticked is shown, also after a reload, and by keyboard."""
    window = visit("root", width_px=DESK_PX)
    window.open("/requests")
    table = window.page.locator(f"#{requests.GRID}")
    expect(table.locator(".ag-center-cols-container .ag-row").first).to_be_visible()
    wider = "(one) => one.scrollWidth - one.clientWidth"
    assert table.locator(".ag-center-cols-viewport").evaluate(wider) <= 0
    cut = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.textContent)"
    assert table.locator(".ag-header-cell-text").evaluate_all(cut) == []
    heading = table.locator('.ag-header-cell[col-id="session_id"]')
    expect(heading).to_have_count(0)
    window.page.locator("summary", has_text="Columns").press("Enter")
    window.page.get_by_role("checkbox", name="Session").press("Space")
    expect(heading).to_have_count(1)
    window.page.get_by_role("checkbox", name="Router").press("Space")
    expect(table.locator('.ag-header-cell[col-id="router_id"]')).to_have_count(0)
    assert window.serious_findings() == []
    window.page.reload()
    window.settle()
    expect(heading).to_have_count(1)
    expect(table.locator('.ag-header-cell[col-id="router_id"]')).to_have_count(0)
    expect(table.locator(".ag-center-cols-container .ag-row").first).to_be_visible()


def test_the_list_says_for_whom_a_request_was(visit: Visitors) -> None:
    """Tags and the key's name stand in the row, as in the CSV."""
    window = visit("root", width_px=DESK_PX)
    window.open("/requests")
    row = window.page.locator(f"#{requests.GRID} .ag-center-cols-container .ag-row").first
    expect(row).to_be_visible()
    header, first, *others = csv_of(window, window.page.get_by_role("button", name="Download CSV"))
    expect(row.locator('[col-id="tags"]')).to_have_text(first[header.index("tags")])
    assert any("source: demo" in one[header.index("tags")] for one in (first, *others))
    key = first[header.index("key_name")] or first[header.index("api_key_id")]
    expect(row.locator('[col-id="key_name"]')).to_have_text(key)
    assert key


def test_the_bill_of_a_request_adds_up_to_its_cost(visit: Visitors) -> None:
    """The lines come to the row's cost to the last digit, at a desk and on a phone."""
    window = visit("root")
    window.open("/requests")
    header, first, *_ = csv_of(window, window.page.get_by_role("button", name="Download CSV"))
    link = window.page.locator(f"#{requests.GRID} .ag-center-cols-container a").first.get_attribute("href") or ""
    assert parse_qs(urlsplit(link).query)["id"] == [first[header.index("request_id")]]
    cost = Decimal(first[header.index("cost_usd")])
    for width_px in (DESKTOP_PX, PHONE_PX):
        window.page.set_viewport_size({"width": width_px, "height": 800})
        window.open(link)
        rows = panel(window, "Bill").locator("tbody tr")
        texts = rows.locator('[data-label="USD"]').all_inner_texts()
        *lines, total = [Decimal(text.replace("$", "").replace(",", "")) for text in texts]
        assert len(lines) >= 2
        assert sum(lines) == total == cost
        expect(rows.last).to_contain_text("The sum of the lines")
        assert window.overflow_px() <= 0


@pytest.mark.parametrize(
    ("path", "grid", "column"),
    [
        (f"/explore?metric={metric}&range=24h", explore.GRID, column)
        for metric, column in (("requests", "value"), ("cost", "requests"))
    ]
    + [("/models?range=24h", models.HEATMAP_GRID, "latency")],
    ids=["explore", "explore cost", "models"],
)
def test_a_phone_shows_the_numbers_of_a_chart(visit: Visitors, path: str, grid: str, column: str) -> None:
    """In the table below the chart the figures are on the screen, and not behind its right edge."""
    window = visit("root", width_px=PHONE_PX)
    window.open(path)
    rows = window.page.locator(f"#{grid} .ag-center-cols-container .ag-row")
    expect(rows.first).to_be_visible()
    for name in ("requests", column):
        cell = rows.first.locator(f'[col-id="{name}"]')
        cell.scroll_into_view_if_needed()
        box = cell.bounding_box()
        assert box
        assert 0.0 <= box["x"] < box["x"] + box["width"] <= PHONE_PX
        assert re.search(r"\d", cell.inner_text())
    assert window.overflow_px() <= 0


@pytest.mark.parametrize("width_px", [DESKTOP_PX, PHONE_PX])
def test_names_of_the_frontier_do_not_overlap(visit: Visitors, width_px: int) -> None:
    """Each model is named once, and the points lie over the lines of the intervals."""
    window = visit("root", width_px=width_px)
    window.open(f"/frontier?router={TRAFFIC['team-a'][0]}")
    drawn = window.page.locator(f"#{frontier.CHART} .annotation-text")
    expect(drawn.first).to_be_attached()
    named = [(one.text_content() or "", one.bounding_box()) for one in drawn.all()]
    boxes = [box for text, box in named if text and box]
    assert len({text for text, _ in named if text}) == len(boxes) >= 2
    for place, one in enumerate(boxes):
        for other in boxes[place + 1 :]:
            beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
            apart = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
            assert beside or apart
    order = "(all) => all.map((one) => Boolean(one.querySelector('.errorbars .errorbar')))"
    traces = window.page.locator(f"#{frontier.CHART} .scatterlayer .trace").evaluate_all(order)
    assert True in traces
    assert max(place for place, barred in enumerate(traces) if barred) < len(traces) - 1


def test_prices_have_a_day_or_none(visit: Visitors) -> None:
    """Never that of the seeding: the simulator's prices have no day, and say so."""
    window = visit("root")
    window.open("/models")
    shown = window.page.locator(f"#{models.TABLE}").locator('[data-label="Price from"]').all_inner_texts()
    assert shown
    assert set(shown) == {"date unknown, the simulator's own"}
