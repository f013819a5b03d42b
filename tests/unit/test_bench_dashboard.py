"""`modelpilot bench dashboard`: that it asks what a browser would ask, and judges by the slowest answer."""

import io
from contextlib import redirect_stdout

import pytest

from bench.dashboard import all_in_time, summarized, visits
from bench.dashboard_calls import CallFailed, Visit, of_page, specs_of, timed
from bench.dashboard_report import show_dashboard
from dashboard.pages import overview
from modelpilot.analytics import Overview
from modelpilot.errors import DependencyUnavailable
from tests.support.site import site

OVERVIEW = Visit("overview", "overview", "?range=24h", {}, 500.0)


def test_every_visit_is_of_a_page_that_reads() -> None:
    """A renamed page or grid would else be measured as nothing at all."""
    specs = specs_of(site(Overview())[0])
    for visit in visits():
        names = [name for name, _ in of_page(specs, visit)]
        assert f"{visit.frame}-notice.children" in names, visit
        known = {given["id"] for spec in specs for given in spec["inputs"]}
        assert set(visit.also) <= known


def test_a_page_is_asked_for_its_range() -> None:
    """The reader sees the range of the visit, so that what is measured is what the label says."""
    client, reader = site(Overview())
    for _, body in of_page(specs_of(client), OVERVIEW):
        found = timed(client, body, 2)
        assert found["samples"] == 2
        assert found["maxMs"] >= found["p50Ms"] > 0.0
    assert overview.FRAME.name == OVERVIEW.frame
    assert {round(scope.end_s - scope.start_s, -5) for scope, *_ in reader.asked} == {100_000.0}


def test_an_outage_is_no_figure() -> None:
    """A page that only says that the database is away would be the quickest of all."""
    client, _ = site(DependencyUnavailable("away"))
    body = dict(of_page(specs_of(client), OVERVIEW))["overview-notice.children"]
    with pytest.raises(CallFailed, match="did not answer"):
        timed(client, body, 1)


def test_the_slowest_callback_decides() -> None:
    """One late callback makes a page late, and the table says which."""
    figures = {"samples": 1, "p50Ms": 1.0, "kilobytes": 1.0}
    page = summarized("p", {"a": {**figures, "maxMs": 10.0}, "b": {**figures, "maxMs": 600.0}}, 500.0)
    results = {"results": [page], "options": {"rows": 5, "days": 1.0}}
    assert not all_in_time(results)
    assert all_in_time({"results": [summarized("p", {"a": {**figures, "maxMs": 10.0}}, 500.0)]})
    with redirect_stdout(io.StringIO()) as printed:
        show_dashboard(results)
    assert "over" in printed.getvalue()
    assert "0 of 1 in time" in printed.getvalue()
