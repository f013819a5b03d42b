"""Charts, formats, ranges and links of the analytics site: pure functions of rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.config import DashboardConfig
from dashboard.frame.formats import UNKNOWN, format_age, format_ms, format_share, format_usd
from dashboard.frame.ranges import (
    AUTO,
    CUSTOM,
    DEFAULT_RANGE,
    RANGES,
    TimeRange,
    Window,
    bucket_for,
    fitting_window,
    search_for_range,
    window_from_url,
)
from dashboard.frame.urls import requests_link, workflow_url
from dashboard.frame.zones import UTC_ZONE
from dashboard.pages.overview.traffic import FAILED, MAX_MODELS, NOT_FAILED, fill_buckets, fold_small
from dashboard.pages.overview.traffic import requests_over_time as time_figure
from dashboard.pages.overview.traffic import requests_per_model as model_figure
from modelpilot.metrics.overview import ModelShare, RequestBucket
from modelpilot.metrics.requests import DataSpan

NOON_S = 1_800_014_400.0  # 2027-01-15 12:00:00 UTC
WINDOW = Window(CUSTOM, NOON_S - 300.0, NOON_S, 60)


def test_missing_buckets_are_drawn_as_zero() -> None:
    """A quiet minute is a gap of zero, not a bar drawn wider over it."""
    rows = fill_buckets([RequestBucket(NOON_S - 60.0, 7, 2)], WINDOW)
    assert [row.requests for row in rows] == [0, 0, 0, 0, 7]
    assert rows[0].start_s == WINDOW.start_s


def test_time_chart_stacks_failed_on_the_others() -> None:
    """The height of a stack is the number of requests, and failures are told apart without colour."""
    figure = time_figure([RequestBucket(NOON_S - 60.0, 7, 2)], WINDOW, UTC_ZONE)
    bars = {trace.name: trace for trace in figure.data}
    assert (bars[NOT_FAILED].y[4], bars[FAILED].y[4]) == (5, 2)
    assert figure.layout.barmode == "stack"
    assert bars[FAILED].marker.pattern.shape == "/"
    assert bars[FAILED].customdata[4][0] == "Jan 15 11:59 to 12:00 UTC"


def test_time_chart_of_nothing_has_whole_requests_on_its_axis() -> None:
    """An empty range keeps an axis from 0 upwards instead of fractions of a request."""
    assert list(time_figure([], WINDOW, UTC_ZONE).layout.yaxis.range) == [0, 4.0]


def test_model_chart_names_models_with_their_share() -> None:
    """Each bar says its model, its requests and its part of the whole."""
    figure = model_figure([ModelShare("sim/small", 30, 1, 0.1), ModelShare("sim/large", 10, 0, 0.2)])
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert texts == ["sim/small · 30 (75%)", "sim/large · 10 (25%)"]
    assert list(figure.data[0].x) == [29, 10]


def test_model_chart_of_nothing_says_so() -> None:
    """An empty chart is explained."""
    assert model_figure([]).layout.annotations[0].text == "No requests in this range"


def test_rare_models_are_folded_without_losing_requests() -> None:
    """With a hundred models the chart stays readable and its bars still add up."""
    shares = [ModelShare(f"m{index:03}", index, 1, 0.5) for index in range(1, 101)]
    rows = fold_small(shares)
    assert len(rows) == MAX_MODELS
    assert rows[0].model == "m100"
    assert rows[-1].model == "93 other models"
    assert sum(row.requests for row in rows) == sum(share.requests for share in shares)
    assert sum(row.failed for row in rows) == 100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, UNKNOWN),
        (0.0, "$0.00"),
        (1234.5, "$1,234.50"),
        (0.5, "$0.500"),
        (0.000123, "$0.000123"),
        (0.0000456, "$0.0000456"),
    ],
)
def test_costs_keep_what_matters(value: float | None, text: str) -> None:
    """A request may cost a few millionths of a dollar; that is neither $0.00 nor 4.56e-05."""
    assert format_usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, UNKNOWN), (2.13, "2.1 ms"), (812.4, "812 ms"), (2890.0, "2,890 ms"), (12_340.0, "12.3 s")],
)
def test_durations_change_their_unit(value: float | None, text: str) -> None:
    """Overheads are read in tenths of milliseconds, long answers in seconds."""
    assert format_ms(value) == text


@pytest.mark.parametrize(
    ("age_s", "text"),
    [(-3.0, "0 s ago"), (59.0, "59 s ago"), (150.0, "2 min ago"), (7300.0, "2 h ago"), (9e5, "10 d ago")],
)
def test_ages_are_coarse(age_s: float, text: str) -> None:
    """Freshness is read at a glance, and a clock that is ahead does not show a negative age."""
    assert format_age(age_s) == text


def test_shares_are_percentages() -> None:
    """A share of nothing is unknown."""
    assert (format_share(None), format_share(0.0256)) == (UNKNOWN, "2.6 %")


def test_ranges_survive_the_url() -> None:
    """A shared link shows the same range again; with a link that makes no sense, the requests decide."""
    assert [window_from_url(search_for_range("", one.key), NOON_S).key for one in RANGES] == [one.key for one in RANGES]
    senseless = ("", None, "?range=", "?range=9y", "?x=1", "?from=a&to=b", "?from=2027-01-02&to=2027-01-01", "?from=1")
    assert {window_from_url(search, NOON_S).key for search in senseless} == {AUTO}
    assert search_for_range("?range=7d&as=u", AUTO) == "?as=u"
    assert window_from_url("?x=1&range=7d", NOON_S).key == "7d"


def test_a_range_replaces_a_chosen_time_and_keeps_the_rest() -> None:
    """Clicking a range leaves the filters of the URL alone."""
    assert search_for_range("?from=a&to=b&model=m", "7d") == "?model=m&range=7d"


@pytest.mark.parametrize("chosen", RANGES)
def test_ranges_start_on_a_bucket(chosen: TimeRange) -> None:
    """The first bar covers a whole bucket, the range is never shorter than asked for, and its bars can be counted."""
    window = window_from_url(f"?range={chosen.key}", NOON_S + 17.0)
    assert window.start_s % window.bucket_s == 0
    span_s = window.end_s - window.start_s
    assert chosen.span_s <= span_s < chosen.span_s + window.bucket_s
    assert 12 <= span_s / window.bucket_s <= 61


def test_any_span_has_a_bucket() -> None:
    """A minute as well as ten years."""
    assert (bucket_for(60.0), bucket_for(3_600.0 * 24 * 3_660)) == (5, 7 * 86_400)


MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0


@pytest.mark.parametrize(
    ("first_ago_s", "last_ago_s", "start_ago_s", "end_ago_s", "why"),
    [
        (20 * HOUR_S, 0.0, DAY_S, 0.0, "the shortest range with all requests so far"),
        (50 * MINUTE_S, 10 * MINUTE_S, HOUR_S, 0.0, "the shortest range with all requests so far"),
        (400 * DAY_S, 0.0, 30 * DAY_S, 0.0, "the newest 30 days of requests"),
        # Too little for a range: until now, or until the last one.
        (3 * HOUR_S, 0.0, 3 * HOUR_S, 0.0, "from the first request until now"),
        (2 * DAY_S, 2 * DAY_S - 240.0, 2 * DAY_S, 2 * DAY_S - 240.0, "from the first request to the last"),
        (2.0, 0.0, MINUTE_S, 0.0, "from the first request until now"),
        (800 * DAY_S, 400 * DAY_S, 430 * DAY_S, 400 * DAY_S, "the newest 30 days of requests"),
    ],
    ids=["a day", "an hour", "a year", "three hours", "two days ago", "just now", "a year ago"],
)
def test_a_range_that_nobody_chose_fits_the_requests(
    first_ago_s: float, last_ago_s: float, start_ago_s: float, end_ago_s: float, why: str
) -> None:
    """No bar stands alone in a day of nothing, whenever the requests were; and the page says what it shows."""
    known = DataSpan(NOON_S - first_ago_s, NOON_S - last_ago_s)
    window = window_from_url("?as=u", NOON_S, known)
    assert (window.key, window.why) == (AUTO, why)
    slack_s = max(window.bucket_s, MINUTE_S)
    assert window.start_s == pytest.approx(NOON_S - start_ago_s, abs=slack_s)
    assert window.end_s == pytest.approx(NOON_S - end_ago_s, abs=slack_s)
    assert window_from_url("?range=7d", NOON_S, known) == window_from_url("?range=7d", NOON_S)


@given(st.floats(0.0, 3e7), st.floats(0.0, 3e7))
def test_a_fitting_range_holds_what_there_is_and_is_filled(one_ago_s: float, other_ago_s: float) -> None:
    """It has the newest request and, of 30 days, the first one; its buckets can be counted, and half of it is used."""
    first_s, last_s = NOON_S - max(one_ago_s, other_ago_s), NOON_S - min(one_ago_s, other_ago_s)
    window = fitting_window(DataSpan(first_s, last_s), NOON_S)
    within_s = max(first_s, last_s - 30 * DAY_S)
    assert window.start_s <= within_s
    assert last_s < window.end_s or last_s == window.end_s == NOON_S
    span_s = window.end_s - window.start_s
    assert span_s / window.bucket_s <= 62
    assert last_s - within_s >= 0.5 * span_s - 2 * window.bucket_s or span_s <= MINUTE_S + 10.0


def test_without_requests_the_default_range_is_shown() -> None:
    """An empty page has a range, too."""
    window = window_from_url("", NOON_S)
    assert (window.key, window.why, window.end_s - window.start_s >= DEFAULT_RANGE.span_s) == (AUTO, "", True)


def test_links_to_requests_keep_range_and_viewer_only() -> None:
    """What another page filtered by is its own business."""
    assert requests_link("?range=7d&as=u1&metric=cost", model="a/b") == "/requests?range=7d&as=u1&model=a%2Fb"
    assert (
        requests_link("?range=7d", (0.0, 60.0)) == "/requests?from=1970-01-01T00%3A00%3A00Z&to=1970-01-01T00%3A01%3A00Z"
    )


def test_workflow_links_quote_the_slashes_of_ids() -> None:
    """A workflow id is one segment of the path, whatever is in it."""
    config = DashboardConfig(temporal_ui_url="http://127.0.0.1:8233/", temporal_namespace="team a")
    assert workflow_url(config, "route/u1/r?1") == (
        "http://127.0.0.1:8233/namespaces/team%20a/workflows/route%2Fu1%2Fr%3F1"
    )
    assert workflow_url(DashboardConfig(), "route/u1/r1") is None
