"""`modelpilot jobs`: batch work on demand, through the running gateway."""

from typing import Annotated, Any

import typer

from cli.client import GatewayClient, connect, fail, segment, until_ended
from cli.output import AsJson, command_group, print_json, show_result, table, usd

app = command_group("Run batch work now, and see how far it is.")

JobId = Annotated[str, typer.Argument(help="The job's id.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 where that is not `completed`.")]


@app.callback()
def _root() -> None:
    """Run batch work now, and see how far it is."""


@app.command()
def aggregate(wait: Wait = False, as_json: AsJson = False) -> None:
    """Bring the hourly metrics up to date, the hour in progress included."""
    gateway = connect()
    report(gateway, gateway.call("POST", "/api/jobs/aggregate"), wait=wait, as_json=as_json)


@app.command()
def rescore(
    router: Annotated[str | None, typer.Option(help="Only this router's answers.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model's answers.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="Only since then (2026-11-23T00:00:00Z).")] = None,
    to: Annotated[str | None, typer.Option(help="Only before then.")] = None,
    sample_size: Annotated[int | None, typer.Option(help="At most so many, drawn at random.", min=1)] = None,
    source: Annotated[list[str] | None, typer.Option(help="checks, feedback or judge; repeat for more.")] = None,
    judge_model: Annotated[str | None, typer.Option(help="A model that grades stored answers.")] = None,
    judge_budget_usd: Annotated[float | None, typer.Option(help="What judging may cost.")] = None,
    judge_rate_per_minute: Annotated[float | None, typer.Option(help="Its calls per minute.")] = None,
    allow_self_judging: Annotated[bool, typer.Option(help="Let it grade its own answers.")] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Score stored answers again from checks, feedback and, where asked, a judge."""
    body = {
        "routerId": router,
        "model": model,
        "from": from_,
        "to": to,
        "sampleSize": sample_size,
        "sources": source or (["checks", "feedback", "judge"] if judge_model else None),
        "judgeModel": judge_model,
        "judgeBudgetUsd": judge_budget_usd,
        "judgeRatePerMinute": judge_rate_per_minute,
        "allowSelfJudging": allow_self_judging,
    }
    gateway = connect()
    given = {name: value for name, value in body.items() if value is not None}
    report(gateway, gateway.call("POST", "/api/jobs/rescore", given), wait=wait, as_json=as_json)


@app.command("list")
def list_jobs(as_json: AsJson = False) -> None:
    """Re-scoring jobs, newest first."""
    items = list(connect().items("/api/jobs"))
    columns = ("id", "status", "paused", "done", "total", "judge", "cost", "createdAt")
    show_result(items, as_json, lambda: [table(columns, map(_row, items))])


@app.command()
def pause(job_id: JobId, as_json: AsJson = False) -> None:
    """Let a re-scoring job wait behind what it is doing now."""
    _steer(job_id, "pause", as_json=as_json)


@app.command()
def resume(job_id: JobId, as_json: AsJson = False) -> None:
    """Let a paused job go on."""
    _steer(job_id, "resume", as_json=as_json)


@app.command()
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """End a re-scoring job; what it has done stays."""
    _steer(job_id, "cancel", as_json=as_json)


@app.command("show")
def show_job(job_id: JobId, wait: Wait = False, as_json: AsJson = False) -> None:
    """One job."""
    gateway = connect()
    report(gateway, _read(gateway, job_id), wait=wait, as_json=as_json)


def report(gateway: GatewayClient, job: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    """Print a job, at its end where `wait` asks for that; a job that then is not completed is exit code 1."""
    if wait:
        job = until_ended(job, lambda: _read(gateway, job["id"]))
    if as_json:
        print_json(job)
    else:
        typer.echo(_line(job))
    if wait and job["status"] != "completed":
        fail(f"job {job['id']}: {job['status']}")


def _read(gateway: GatewayClient, job_id: str) -> dict[str, Any]:
    job: dict[str, Any] = gateway.call("GET", f"/api/jobs/{segment(job_id)}")
    return job


def _line(job: dict[str, Any]) -> str:
    done, total = job["progress"]["done"], job["progress"]["total"]
    return f"job {job['id']}: {job['status']}" + (f" ({done} of {total})" if total else "")


def _steer(job_id: str, action: str, *, as_json: bool) -> None:
    gateway = connect()
    report(gateway, gateway.call("POST", f"/api/jobs/{segment(job_id)}/{action}"), wait=False, as_json=as_json)


def _row(job: dict[str, Any]) -> list[Any]:
    judge, progress = job["judge"] or {}, job["progress"]
    cost = usd(judge["costUsd"]) if judge else None
    counts = [progress["done"], progress["total"]]
    return [job["id"], job["status"], job["paused"], *counts, judge.get("model"), cost, job["createdAt"]]
