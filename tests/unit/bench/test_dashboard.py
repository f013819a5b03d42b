"""`modelpilot bench dashboard`: that it asks what a browser would ask, and judges by the slowest answer."""

import io
from contextlib import nullcontext, redirect_stdout

import pytest

from bench.jobs.past import MODELS
from bench.site.bench import (
    CallFailed,
    Visit,
    all_in_time,
    of_page,
    show_dashboard,
    specs_of,
    summarized,
    timed,
    visits,
)
from bench.site.past import decisions
from dashboard.pages import overview
from modelpilot.errors import DependencyUnavailable
from modelpilot.learning.replay import LoggedRequest, Proposal, replay
from modelpilot.metrics.overview import Overview
from tests.support.site import FakeRouters, router_site, site, use

OVERVIEW = Visit("overview", "overview", "?range=24h", {}, 500.0)


def test_every_visit_is_of_a_page_that_reads() -> None:
    """A renamed page or grid would else be measured as nothing at all."""
    specs = specs_of(site(Overview())[0])
    for visit in visits():
        names = [name for name, _ in of_page(specs, visit)]
        assert f"{visit.frame}-notice.children" in names, visit
        known = {given["id"] for spec in specs for kind in ("inputs", "state") for given in spec[kind]}
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
    with pytest.raises(CallFailed, match="cannot be read"):
        timed(client, body, 1)


@pytest.mark.parametrize(
    ("frame", "search", "refusal"),
    [
        ("router", "?id=support", None),
        ("router", "?id=gone", "There is no router"),
        ("router", "", "No router chosen"),
        ("what-if", "?router=support", "No decision"),  # to replay, in this range
    ],
)
def test_a_page_that_refuses_is_no_figure(frame: str, search: str, refusal: str | None) -> None:
    """Where there is nothing to work on, a page would look quick."""
    client = router_site(FakeRouters(use()))
    body = dict(of_page(specs_of(client), Visit(frame, frame, search, {}, 1.0)))[f"{frame}-notice.children"]
    with pytest.raises(CallFailed, match=refusal) if refusal else nullcontext():
        timed(client, body, 1)


def test_controls_that_read_are_asked() -> None:
    """What-if reads its router to set its sliders; the frame's own controls only repeat the URL."""
    names = [name for name, _ in of_page(specs_of(site(Overview())[0]), Visit("w", "what-if", "", {}, 1.0))]
    assert names.count("what-if-url.search") == 1
    explore = of_page(specs_of(site(Overview())[0]), Visit("e", "explore", "", {}, 1.0))
    assert "explore-url.search" not in [name for name, _ in explore]


def test_decisions_are_those_of_a_router() -> None:
    """Equally many chose each model, and a replay can use every one of them."""
    made = decisions(MODELS[:3], 2)
    assert [(model, len(known)) for model, known in made.items()] == [(model, 2) for model in MODELS[:3]]
    assert all(one["selectedModel"] == model for model, known in made.items() for one in known)
    logged = [LoggedRequest(one, model, 0.001, 500.0, 0.5) for model, known in made.items() for one in known]
    assert replay(logged, Proposal())["requests"] == 6


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
