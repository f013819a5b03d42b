"""`/api/jobs`: batch jobs on demand, and what became of them.

Re-scoring jobs have rows of their own in Postgres, as have those that erase (`api.routes.erasing`). Aggregations live
in Temporal alone.
"""

import secrets
import time
from typing import Annotated, Literal

from aiohttp import web
from pydantic import AwareDatetime, Field

from api.http.bodies import validate
from api.http.registry import RouteSpec
from api.http.responses import json_response
from api.routes import resource
from api.services import SERVICES, Services
from modelpilot.errors import Conflict, InvalidRequest, NotFound
from modelpilot.learning.quality import Source
from modelpilot.learning.rescoring import NIGHTLY_SOURCES, JobRunner, JobState, RescoreInput, RescoreJobs, RescoreSpec
from modelpilot.metrics.jobs import Job, JobProgress, Jobs, JobStatus, job_workflow_id
from modelpilot.routing.router import ModelId, RouterId
from modelpilot.wire.json_model import WireModel

RESCORE_JOBS: web.AppKey[RescoreJobs] = web.AppKey("rescore_jobs", RescoreJobs)
JOB_RUNNER: web.AppKey[JobRunner] = web.AppKey("job_runner", JobRunner)
AGGREGATIONS: web.AppKey[Jobs] = web.AppKey("aggregations", Jobs)

_MOST_ROWS = 10_000_000
Moment = Annotated[AwareDatetime, Field(strict=False)]  # JSON has no times: they come as text


class JobProgressView(WireModel):
    """Units done (rows of a re-scoring, requests of an erasure, hours of an aggregation), of how many. 0 where nobody
    knows yet or can be asked."""

    done: int
    total: int


class JudgeView(WireModel):
    """What judging came to. `costUsd` has calls whose outcome is not known at their estimate."""

    model: str
    judged: int
    cost_usd: float
    budget_usd: float
    stopped: str | None


class JobView(WireModel):
    """A job of any kind; the fields after `progress` are null where they do not apply or are not known.

    A paused one is `running` with `paused: true`. `scored` rows have a quality.
    """

    id: str
    kind: Literal["rescore", "aggregate", "erase"]
    status: JobStatus
    progress: JobProgressView
    paused: bool = False
    scored: int | None = None
    judge: JudgeView | None = None
    error: str | None = None
    workflow_id: str
    created_at: resource.Time | None = None
    finished_at: resource.Time | None = None


class RescoreBody(WireModel):
    """Which stored outcomes to score again, and by what. All filters are optional."""

    router_id: RouterId | None = None
    model: ModelId | None = None
    from_: Moment | None = Field(default=None, alias="from")
    to: Moment | None = None
    sample_size: Annotated[int, Field(ge=1, le=_MOST_ROWS)] | None = None
    sources: list[Source] = Field(default_factory=lambda: list(NIGHTLY_SOURCES), min_length=1, max_length=3)
    judge_model: ModelId | None = None
    judge_budget_usd: Annotated[float, Field(gt=0.0, le=1e6)] | None = None
    judge_rate_per_minute: Annotated[float, Field(gt=0.0, le=60_000.0)] = 60.0
    allow_self_judging: bool = False


class JobListing(resource.PageView[JobView]):
    """Jobs, newest first."""


def routes() -> list[RouteSpec]:
    """The routes of this module. Their application has `RESCORE_JOBS`, `JOB_RUNNER` and `AGGREGATIONS`."""
    jobs, rescore, again = "/api/jobs", "/api/jobs/rescore", "Score stored outcomes again"
    one, of_aggregations = f"{jobs}/{{id}}", f"{jobs}/{{id:aggregate-[0-9a-f]+}}"
    return [
        RouteSpec("POST", f"{jobs}/aggregate", _aggregate, "admin", "Aggregate now", "jobs", None, JobView, 202),
        # Before those of other jobs: the ids that it answers for are a part of theirs.
        RouteSpec("GET", of_aggregations, _get_aggregation, "admin", "Read a job", "jobs", None, JobView),
        RouteSpec("POST", rescore, _rescore, "admin", again, "jobs", RescoreBody, JobView, 202),
        RouteSpec("GET", jobs, _list, "admin", "List jobs", "jobs", None, JobListing, 200, resource.PAGING),
        RouteSpec("GET", one, _get, "admin", "Read a job", "jobs", None, JobView),
        RouteSpec("POST", f"{one}/pause", _pause, "admin", "Let a job wait", "jobs", None, JobView),
        RouteSpec("POST", f"{one}/resume", _resume, "admin", "Let a job go on", "jobs", None, JobView),
        RouteSpec("POST", f"{one}/cancel", _cancel, "admin", "End a job", "jobs", None, JobView),
    ]


async def _rescore(request: web.Request) -> web.StreamResponse:
    owner = resource.owner_of(request)
    spec = _spec(await resource.read_new(request, RescoreBody) if request.can_read_body else validate({}, RescoreBody))
    await _check(request.app[SERVICES], owner, spec)
    job = RescoreInput(owner, f"rescore_{secrets.token_hex(12)}", spec)
    # Started first: a job that Temporal has makes its own row, where this process dies before it does.
    await request.app[JOB_RUNNER].start(job)
    await request.app[RESCORE_JOBS].add(job, job.workflow_id)
    state = await request.app[RESCORE_JOBS].job(owner, job.job_id)
    return json_response(_view(state).to_wire(), 202, {"location": f"/api/jobs/{job.job_id}"})


def _spec(body: RescoreBody) -> RescoreSpec:
    judging = "judge" in body.sources
    if judging != (body.judge_model is not None):
        raise InvalidRequest("judgeModel: it goes together with the source 'judge'", param="judgeModel")
    if judging and body.judge_budget_usd is None:
        raise InvalidRequest("judgeBudgetUsd: a judge needs a budget", param="judgeBudgetUsd")
    from_s, to_s = (None if at is None else at.timestamp() for at in (body.from_, body.to))
    to_s = min(to_s or time.time(), time.time())
    if from_s is not None and from_s >= to_s:
        raise InvalidRequest("from: it must be before 'to' and in the past", param="from")
    return RescoreSpec(
        router_id=body.router_id,
        model=body.model,
        from_s=from_s,
        to_s=to_s,
        sample_size=body.sample_size,
        sources=tuple(dict.fromkeys(body.sources)),
        judge_model=body.judge_model,
        judge_budget_usd=body.judge_budget_usd or 0.0,
        judge_rate_per_minute=body.judge_rate_per_minute,
        allow_self_judging=body.allow_self_judging,
    )


async def _check(services: Services, owner: str, spec: RescoreSpec) -> None:
    """What the type cannot know: the router exists, and the judge is a model with a price, not judging itself only."""
    if spec.router_id is not None:
        try:
            await services.routers.get(owner, spec.router_id)
        except NotFound as error:
            raise InvalidRequest(f"routerId: there is no router '{spec.router_id}'", param="routerId") from error
    if spec.judge_model is None:
        return
    try:
        judge = (await services.models.get(owner, spec.judge_model)).body
    except NotFound as error:
        raise InvalidRequest(f"judgeModel: there is no model '{spec.judge_model}'", param="judgeModel") from error
    if judge.cost_per_input_token is None or judge.cost_per_output_token is None:
        text = "judgeModel: its price is unknown, so no budget can be kept; set its prices under /api/models"
        raise InvalidRequest(text, param="judgeModel")
    if spec.model == spec.judge_model and not spec.allow_self_judging:
        text = "judgeModel: a model does not judge its own answers unless allowSelfJudging is true"
        raise InvalidRequest(text, param="judgeModel")


async def _list(request: web.Request) -> web.StreamResponse:
    return resource.listed(
        await request.app[RESCORE_JOBS].list(resource.owner_of(request), *resource.paging(request)), _view
    )


async def _found(request: web.Request) -> JobState:
    return await request.app[RESCORE_JOBS].job(resource.owner_of(request), resource.path_id(request, "job"))


async def _get(request: web.Request) -> web.StreamResponse:
    return resource.shown(_view(await _found(request)))


async def _running(request: web.Request) -> JobState:
    state = await _found(request)
    if state.status != "running":
        raise Conflict(f"The job is {state.status} already.")
    return state


async def _pause(request: web.Request) -> web.StreamResponse:
    state = await _running(request)
    await request.app[JOB_RUNNER].pause(state.workflow_id)
    return await _paused(request, state, paused=True)


async def _resume(request: web.Request) -> web.StreamResponse:
    state = await _running(request)
    await request.app[JOB_RUNNER].resume(state.workflow_id)
    return await _paused(request, state, paused=False)


async def _paused(request: web.Request, state: JobState, *, paused: bool) -> web.StreamResponse:
    await request.app[RESCORE_JOBS].set_paused(state.user_id, state.id, paused=paused)
    return resource.shown(_view(await request.app[RESCORE_JOBS].job(state.user_id, state.id)))


async def _cancel(request: web.Request) -> web.StreamResponse:
    """The workflow writes the end itself, once what is under way has been recorded: until then it is `running`."""
    state = await _running(request)
    await request.app[JOB_RUNNER].cancel(state.workflow_id)
    return resource.shown(_view(await request.app[RESCORE_JOBS].job(state.user_id, state.id)))


def _view(state: JobState) -> JobView:
    spec, judge = state.spec, None
    if spec.judge_model is not None:
        judge = JudgeView(
            model=spec.judge_model,
            judged=state.judged,
            cost_usd=state.judge_cost_usd,
            budget_usd=spec.judge_budget_usd,
            stopped=state.progress.judge_stopped,
        )
    return resource.view_of(JobView, state, kind="rescore", judge=judge, scored=state.progress.scored)


def _aggregation_view(owner: str, job: Job) -> JobView:
    progress = job.progress or JobProgress()
    return resource.view_of(
        JobView, job, kind="aggregate", progress=progress, workflow_id=job_workflow_id(owner, job.id)
    )


async def _aggregate(request: web.Request) -> web.StreamResponse:
    owner = resource.owner_of(request)
    job = await request.app[AGGREGATIONS].start_aggregation(owner)
    return json_response(_aggregation_view(owner, job).to_wire(), 202, {"location": f"/api/jobs/{job.id}"})


async def _get_aggregation(request: web.Request) -> web.StreamResponse:
    owner, job_id = resource.owner_of(request), resource.path_id(request, "job")
    return resource.shown(_aggregation_view(owner, await request.app[AGGREGATIONS].find(owner, job_id)))
