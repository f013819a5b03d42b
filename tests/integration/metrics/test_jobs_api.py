"""`/api/jobs` over HTTP, on a real Postgres: starting, showing and steering batch jobs."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.http.openapi import build_openapi
from api.http.registry import ROUTES
from modelpilot.learning.rescoring import CloseInput, RescoreInput, RescoreSpec
from modelpilot.management.resources import OPERATOR_USER
from tests.support.learning_site import MakeClient, Site, learning_site


@pytest.fixture
async def site(migrated_url: str, aiohttp_client: MakeClient) -> AsyncIterator[Site]:
    async with learning_site(migrated_url, aiohttp_client) as running:
        yield running


async def test_a_job_is_started_shown_and_listed(site: Site) -> None:
    """202 with the contract's shape; the job is its owner's alone."""
    status, job = await site.call("POST", "/api/jobs/rescore", {"sources": ["feedback"], "sampleSize": 5})
    assert (status, job["status"], job["progress"]) == (202, "running", {"done": 0, "total": 0})
    assert job["kind"] == "rescore"
    assert site.runner.started[0].spec.sample_size == 5
    assert (await site.call("GET", f"/api/jobs/{job['id']}"))[1] == job
    assert (await site.call("GET", "/api/jobs"))[1]["items"] == [job]
    other = await site.key("bob", scopes=["admin"])
    for method, path in (("GET", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/cancel")):
        assert (await site.call(method, f"/api/jobs/{job['id']}{path}", key=other))[0] == 404
    assert (await site.call("GET", "/api/jobs", key=other))[1]["items"] == []


async def test_a_job_without_a_body_takes_the_defaults(site: Site) -> None:
    """Everything is optional."""
    status, _ = await site.call("POST", "/api/jobs/rescore")
    assert status == 202
    spec = site.runner.started[0].spec
    assert (spec.sources, spec.from_s, spec.judge_model) == (("checks", "feedback"), None, None)


async def test_a_job_is_steered(site: Site) -> None:
    """Pause, resume and cancel reach the workflow; what has ended cannot be steered."""
    _, job = await site.call("POST", "/api/jobs/rescore", {})
    assert (await site.call("POST", f"/api/jobs/{job['id']}/pause"))[1]["paused"] is True
    assert (await site.call("POST", f"/api/jobs/{job['id']}/resume"))[1]["paused"] is False
    assert (await site.call("POST", f"/api/jobs/{job['id']}/cancel"))[0] == 200
    assert [name for name, _ in site.runner.signals] == ["pause", "resume", "cancel"]
    await site.jobs.close(CloseInput(RescoreInput(OPERATOR_USER, job["id"], RescoreSpec()), "canceled"))
    assert (await site.call("GET", f"/api/jobs/{job['id']}"))[1]["status"] == "canceled"
    assert (await site.call("POST", f"/api/jobs/{job['id']}/pause"))[0] == 409


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"sources": ["judge"]}, "judgeModel"),
        ({"judgeModel": "sim/large"}, "judgeModel"),
        ({"sources": ["judge"], "judgeModel": "sim/large"}, "judgeBudgetUsd"),
        ({"sources": ["judge"], "judgeModel": "sim/none", "judgeBudgetUsd": 1}, "judgeModel"),
        ({"sources": ["judge"], "judgeModel": "sim/large", "judgeBudgetUsd": 1, "model": "sim/large"}, "judgeModel"),
        ({"routerId": "none"}, "routerId"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "from"),
        ({"from": "yesterday"}, "from"),
        ({"sampleSize": 0}, "sampleSize"),
        ({"sources": ["astrology"]}, "sources[0]"),
        ({"sources": []}, "sources"),
    ],
)
async def test_a_job_that_cannot_work_is_refused(site: Site, body: dict[str, Any], param: str) -> None:
    """A 422 that names the field, before anything is started."""
    status, told = await site.call("POST", "/api/jobs/rescore", body)
    assert (status, told["error"]["param"]) == (422, param)
    assert site.runner.started == []


async def test_a_judge_needs_a_price(site: Site) -> None:
    """No budget can be kept with a model whose price nobody knows."""
    await site.call("PUT", "/api/models/unpriced", {"provider": "simulator", "providerModel": "large"})
    body = {"sources": ["judge"], "judgeModel": "unpriced", "judgeBudgetUsd": 1}
    status, told = await site.call("POST", "/api/jobs/rescore", body)
    assert status == 422
    assert "price" in told["error"]["message"]


async def test_without_temporal_there_is_no_job(site: Site) -> None:
    """A 503, and no row that would be running for ever."""
    site.runner.away = True
    assert (await site.call("POST", "/api/jobs/rescore", {}))[0] == 503
    assert (await site.call("GET", "/api/jobs"))[1]["items"] == []


async def test_jobs_are_for_admins(site: Site) -> None:
    """A key of an application cannot spend on judges."""
    key = await site.key(OPERATOR_USER)
    assert (await site.call("POST", "/api/jobs/rescore", {}, key=key))[0] == 403
    assert (await site.call("GET", "/v1/requests/r1/text", key=key))[0] == 403


async def test_an_aggregation_is_shown_like_any_other_job(site: Site) -> None:
    """The same shape; figures are integers also while no worker can be asked; another tenant's does not exist."""
    status, started = await site.call("POST", "/api/jobs/aggregate")
    assert (status, started["status"], started["progress"]) == (202, "running", {"done": 0, "total": 0})
    _, shown = await site.call("GET", f"/api/jobs/{started['id']}")
    _, rescored = await site.call("POST", "/api/jobs/rescore", {})
    assert shown.keys() == rescored.keys()
    assert (shown["kind"], shown["progress"]) == ("aggregate", {"done": 3, "total": 3})
    assert shown["workflowId"].endswith(started["id"])
    site.aggregations.worker = False
    assert (await site.call("GET", f"/api/jobs/{started['id']}"))[1]["progress"] == {"done": 0, "total": 0}
    other = await site.key("bob", scopes=["admin"])
    assert (await site.call("GET", f"/api/jobs/{started['id']}", key=other))[0] == 404


async def test_the_documented_shape_is_true_for_every_kind(site: Site) -> None:
    """One schema of a job in /openapi.json, whose progress is integers, and every kind has exactly its fields."""
    document = build_openapi(site.client.app[ROUTES].specs(), "1")
    schemas, shown = document["components"]["schemas"], "#/components/schemas/JobView"
    answer = document["paths"]["/api/jobs/{id}"]["get"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"$ref": shown}
    progress = schemas["JobProgressView"]["properties"]
    assert {name: field["type"] for name, field in progress.items()} == {"done": "integer", "total": "integer"}
    kinds = schemas["JobView"]["properties"]["kind"]["enum"]
    for kind in kinds:
        method, path = ("DELETE", "/api/users/me/data") if kind == "erase" else ("POST", f"/api/jobs/{kind}")
        _, started = await site.call(method, path, {} if kind == "rescore" else None)
        _, found = await site.call("GET", f"/api/jobs/{started['id']}")
        assert found["kind"] == kind
        assert found.keys() == schemas["JobView"]["properties"].keys()
        assert isinstance(found["progress"]["done"], int)
