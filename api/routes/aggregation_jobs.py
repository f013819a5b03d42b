"""`POST /api/jobs/aggregate`, and `GET /api/jobs/{id}` for what it started: jobs that live in Temporal alone."""

from aiohttp import web

from api.registry import RouteSpec, add_routes
from api.responses import json_response
from api.routes import crud
from api.routes.job_view import JobProgressView, JobView
from modelpilot.metrics.jobs import Job, JobProgress, Jobs, job_workflow_id

JOBS: web.AppKey[Jobs] = web.AppKey("jobs", Jobs)


def register(app: web.Application, jobs: Jobs) -> None:
    """Add the routes over `jobs`. Before those of other jobs: the ids that these answer for are a part of theirs."""
    app[JOBS] = jobs
    one, begun = "/api/jobs/{id:aggregate-[0-9a-f]+}", "/api/jobs/aggregate"
    add_routes(
        app,
        [
            RouteSpec("POST", begun, _aggregate, "admin", "Aggregate now", "jobs", None, JobView, 202),
            RouteSpec("GET", one, _show, "admin", "Read a job", "jobs", None, JobView),
        ],
    )


def _view(owner: str, job: Job) -> JobView:
    told = job.progress or JobProgress()
    return JobView(
        id=job.id,
        kind="aggregate",
        status=job.status,
        progress=JobProgressView(done=told.done, total=told.total),
        workflow_id=job_workflow_id(owner, job.id),
        created_at=crud.optional_utc(job.created_at),
        finished_at=crud.optional_utc(job.finished_at),
    )


async def _aggregate(request: web.Request) -> web.StreamResponse:
    owner = crud.owner_of(request)
    job = await request.app[JOBS].start_aggregation(owner)
    return json_response(_view(owner, job).to_wire(), 202, {"location": f"/api/jobs/{job.id}"})


async def _show(request: web.Request) -> web.StreamResponse:
    owner, job_id = crud.owner_of(request), crud.path_id(request, "job")
    return crud.shown(_view(owner, await request.app[JOBS].find(owner, job_id)))
