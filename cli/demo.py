"""`modelpilot demo`: a few hundred varied prompts through a router, so that the dashboard has something to show.

The report says who was chosen, what it cost and took, and what was saved: the figures of `/api/analytics/summary`.
"""

import asyncio
import secrets
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Annotated, Any
from urllib.parse import urlencode

import aiohttp
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli.client import EXIT_FAILED, GatewayClient, Refused, Target, connect, error_message, fail, segment, until_ended
from cli.demo_prompts import DemoPrompt, demo_prompts
from cli.output import AsJson, show_result, table, usd
from modelpilot.chat.text import content_text
from modelpilot.metrics.savings import BASELINE_NAMES
from modelpilot.providers.pricing import total_usd
from modelpilot.requests.outcome import Usage
from simulator.answers import WRONG_MARKER


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer, as far as the report needs it. Latency: the provider's time plus ModelPilot's own, milliseconds."""

    model: str
    cost_usd: float | None
    latency_ms: float
    overhead_ms: float
    usage: Usage
    attempts: int


def answered(body: dict[str, Any]) -> Answered:
    """From the body of a routed answer."""
    described, usage = body["modelpilot"], body.get("usage") or {}
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return Answered(
        model=described["selectedModel"],
        cost_usd=described["costUsd"],
        latency_ms=described["latencyMs"] + described["overheadMs"],
        overhead_ms=described["overheadMs"],
        usage=Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0, cached),
        attempts=len(described["attempts"]),
    )


def summary(
    answers: Sequence[Answered], failures: dict[str, int], wanted: int, saving: dict[str, Any] | None
) -> dict[str, Any]:
    """Everything that is shown, as JSON. `saving` is that of the analytics API; None where it knows of none."""
    return {
        "requests": {"wanted": wanted, "answered": len(answers), "failed": sum(failures.values())},
        "failures": failures,
        "models": _model_rows(answers),
        "spentUsd": _spent(answers),
        "overheadP50Ms": _percentile([answer.overhead_ms for answer in answers], 0.5),
        "saving": saving,
    }


def _spent(answers: Sequence[Answered]) -> float:
    return total_usd(answer.cost_usd for answer in answers if answer.cost_usd is not None)


def _model_rows(answers: Sequence[Answered]) -> list[dict[str, Any]]:
    groups: dict[str, list[Answered]] = defaultdict(list)
    for answer in answers:
        groups[answer.model].append(answer)
    return [_model(name, groups[name], len(answers)) for name in sorted(groups, key=lambda name: -len(groups[name]))]


def _model(name: str, answers: Sequence[Answered], total: int) -> dict[str, Any]:
    latencies = [answer.latency_ms for answer in answers]
    return {
        "model": name,
        "requests": len(answers),
        "share": len(answers) / total,
        "inputTokens": sum(answer.usage.input_tokens for answer in answers),
        "outputTokens": sum(answer.usage.output_tokens for answer in answers),
        "spentUsd": _spent(answers),
        "avgLatencyMs": sum(latencies) / len(latencies),
        "p95LatencyMs": _percentile(latencies, 0.95),
    }


def _percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[ceil(share * len(ordered)) - 1] if ordered else None


def answers_table(result: dict[str, Any]) -> list[Any]:
    """The summary as lines and a table."""
    counts = result["requests"]
    columns = ("model", "requests", "share", "tokens in", "tokens out", "spent", "avg ms", "p95 ms")
    lines: list[Any] = ["", table(columns, (_row(model) for model in result["models"])), ""]
    lines.append(f"{counts['answered']} of {counts['wanted']} requests answered, {counts['failed']} failed.")
    lines += [f"  {count} × {reason}" for reason, count in result["failures"].items()]
    if result["overheadP50Ms"] is not None:
        lines.append(f"ModelPilot's own share of the latency: {result['overheadP50Ms']:.1f} ms (median).")
    return [*lines, *_saving(result)]


def _row(model: dict[str, Any]) -> list[Any]:
    return [
        model["model"],
        model["requests"],
        f"{model['share']:.0%}",
        model["inputTokens"],
        model["outputTokens"],
        usd(model["spentUsd"]),
        round(model["avgLatencyMs"]),
        round(model["p95LatencyMs"]),
    ]


def _saving(result: dict[str, Any]) -> list[str]:
    saving, spent = result["saving"], f"Spent {usd(result['spentUsd'])}"
    if saving is None:
        return [f"{spent}."]
    share = f" ({saving['savedCostShare']:.0%})" if saving["savedCostShare"] is not None else ""
    saved = f"{usd(saving['savedCostUsd'])}{share} saved"
    between = f"between {usd(saving['savedCostLowUsd'])} and {usd(saving['savedCostHighUsd'])}"
    baseline = f"{BASELINE_NAMES[saving['baseline']]} would have cost {usd(saving['baselineCostUsd'])}"
    estimate = (
        f"An estimate, in about 95 of 100 cases {between}: what was predicted for models that did not answer, "
        "corrected by how far predictions were off for those that did. The site and /api/analytics/summary say so, too."
    )
    return [f"{spent}; {baseline}: {saved}.", estimate]


Advance = Callable[[], None]
_LINES = 10


@contextmanager
def shown(total: int, *, quiet: bool, what: str = "requests") -> Iterator[Advance]:
    """Show progress: a bar on a terminal, a few lines elsewhere, nothing beside JSON (`quiet`).

    Call the result once for every finished request (or `what` else is counted).
    """
    if quiet:
        yield lambda: None
    elif sys.stdout.isatty():
        with _bar() as bar:
            task = bar.add_task(what, total=total)
            yield lambda: bar.advance(task)
    else:
        yield _lines(total, what)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console())


def _lines(total: int, what: str) -> Advance:
    done, step = 0, max(total // _LINES, 1)

    def advance() -> None:
        nonlocal done
        done += 1
        if done % step == 0 or done == total:
            typer.echo(f"{done} of {total} {what}")

    return advance


# Behind the requests simulated users rate answers, and then the batch jobs run once. The simulator marks its wrong
# answers, so that simulated users can know them. Real providers' answers are not rated: nobody here has read them.

# Most people do not rate; a demo needs enough who do. Every third answer stays without a word.
SILENT_EVERY = 3
USERS = 40
_TRIES, _TRY_AGAIN_S = 5, 0.2
_LEARN_TIMEOUT_S = 30.0
_JOB_PATIENCE_S = 90.0


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a simulated user says about an answer."""

    request_id: str
    user: str
    up: bool


def opinion(body: dict[str, Any], number: int) -> Opinion | None:
    """The opinion on the `number`-th answer; None where nobody says anything."""
    described, choices = body["modelpilot"], body.get("choices") or [{}]
    request_id = described.get("requestId")
    if described.get("provider") != "simulator" or request_id is None or number % SILENT_EVERY == 0:
        return None
    text = content_text((choices[0].get("message") or {}).get("content"))
    return Opinion(request_id, f"demo-user-{number % USERS:02}", WRONG_MARKER not in text)


async def rate(target: Target, opinions: Sequence[Opinion], concurrency: int, advance: Advance) -> list[Opinion]:
    """Send the opinions; those that were taken."""
    waiting, taken = iter(opinions), list[Opinion]()
    timeout = aiohttp.ClientTimeout(total=_LEARN_TIMEOUT_S)
    async with aiohttp.ClientSession(headers=target.headers, timeout=timeout) as session:

        async def some() -> None:
            for each in waiting:
                if await _rated(session, target, each):
                    taken.append(each)
                advance()

        await asyncio.gather(*(some() for _ in range(concurrency)))
    return taken


async def _rated(session: aiohttp.ClientSession, target: Target, said: Opinion) -> bool:
    body = {"requestId": said.request_id, "thumbs": "up" if said.up else "down", "user": said.user}
    for _ in range(_TRIES):
        try:
            async with session.post(f"{target.url}/v1/feedback", json=body) as answer:
                if answer.ok:
                    return True
        except (aiohttp.ClientError, TimeoutError):
            return False
        await asyncio.sleep(_TRY_AGAIN_S)  # the row of an answer may be written a moment after it
    return False


def run_jobs(client: GatewayClient, router: str) -> dict[str, str]:
    """Re-score the router, then aggregate; how each ended, by name."""
    return {
        "rescore": _job(client, "rescore", {"routerId": router}),
        "aggregate": _job(client, "aggregate", None),
    }


def _job(client: GatewayClient, name: str, body: dict[str, Any] | None) -> str:
    """How the job ended, `running` where that takes long, or why it could not be started."""
    try:
        job = client.call("POST", f"/api/jobs/{name}", body)
        path = f"/api/jobs/{segment(job['id'])}"
        job = until_ended(job, lambda: client.call("GET", path), _JOB_PATIENCE_S)
    except Refused as refused:
        return f"not run: {refused.message}"
    return str(job["status"])


def learnt(taken: Sequence[Opinion], jobs: dict[str, str]) -> dict[str, Any]:
    """What the report says of it, as JSON."""
    ups = sum(each.up for each in taken)
    return {"ratings": len(taken), "thumbsUp": ups, "simulatedUsers": True, "jobs": jobs}


def learnt_table(result: dict[str, Any]) -> list[str]:
    """The same as lines."""
    said = f"{result['ratings']} answers rated by simulated users (the simulator marks its wrong answers)"
    lines = [f"{said}: {result['thumbsUp']} up, {result['ratings'] - result['thumbsUp']} down."]
    return [*lines, *(f"Job {name}: {ended}." for name, ended in result["jobs"].items())]


EXIT_INTERRUPTED = 130
_TIMEOUT_S = 150.0
_ROWS_PATIENCE_S = 10.0
RUN_TAG = "run"  # the tag by which the requests of one demo are found again


def command(
    count: Annotated[int, typer.Option(help="How many requests.", min=1, max=100_000)] = 300,
    concurrency: Annotated[int, typer.Option(help="How many at once.", min=1, max=500)] = 8,
    router: Annotated[str, typer.Option(help="The router's id.")] = "demo",
    learn: Annotated[bool, typer.Option(help="Let simulated users rate answers, then run the batch jobs.")] = True,
    as_json: AsJson = False,
) -> None:
    """Send sample traffic through a router, and show what was chosen, spent and saved.

    Ctrl-C stops it and shows what was done so far. Exit codes: 0 all answered, 1 some failed, 2 wrong usage or
    configuration, 3 the gateway is not reachable, 130 interrupted.
    """
    client = connect()
    try:
        router = client.call("GET", f"/api/routers/{segment(router)}")["id"]
    except Refused as refused:
        fail(refused.message)
    with shown(count, quiet=as_json) as advance:
        traffic = Traffic(client.target, router, demo_prompts(count), concurrency, advance)
        interrupted = asyncio.run(traffic.run())
    result = summary(traffic.answers, dict(traffic.failures), count, find_saving(client, traffic))
    lines = answers_table(result)
    if learn and traffic.answers and not interrupted:
        result["learning"] = _learn(client, traffic, quiet=as_json)
        lines += learnt_table(result["learning"])
    show_result(result, as_json, lambda: lines)
    if interrupted or traffic.failures:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else EXIT_FAILED)


def _learn(client: GatewayClient, traffic: "Traffic", *, quiet: bool) -> dict[str, Any]:
    """Ratings, then the jobs that take them in."""
    opinions = traffic.opinions
    with shown(len(opinions), quiet=quiet, what="ratings") as advance:
        taken = asyncio.run(rate(client.target, opinions, traffic.concurrency, advance))
    jobs = run_jobs(client, traffic.router)
    return learnt(taken, jobs)


def find_saving(client: GatewayClient, traffic: "Traffic") -> dict[str, Any] | None:
    """What the analytics API says that these requests saved, against the first baseline that it knows; None where it
    knows none or may not be asked."""
    wanted = urlencode({"routerId": traffic.router, f"tag.{RUN_TAG}": traffic.run_id})
    give_up_at = time.monotonic() + _ROWS_PATIENCE_S
    try:
        found = client.call("GET", f"/api/analytics/summary?{wanted}")
        while found["requests"] < len(traffic.answers) and time.monotonic() < give_up_at:
            time.sleep(_TRY_AGAIN_S)  # the row of an answer may be written a moment after it
            found = client.call("GET", f"/api/analytics/summary?{wanted}")
    except Refused:
        return None
    known: dict[str, dict[str, Any]] = {each["baseline"]: each for each in found["savings"]["baselines"]}
    return next((known[name] for name in BASELINE_NAMES if known.get(name, {}).get("requests")), None)


@dataclass
class Traffic:
    """Requests with bounded concurrency. `answers`, `failures` (by reason) and `opinions` grow while it runs."""

    target: Target
    router: str
    prompts: Sequence[DemoPrompt]
    concurrency: int
    advance: Advance
    answers: list[Answered] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    opinions: list[Opinion] = field(default_factory=list)
    run_id: str = field(default_factory=lambda: secrets.token_hex(4))

    async def run(self) -> bool:
        """Send everything; whether Ctrl-C ended it early."""
        waiting = iter(self.prompts)
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=self.concurrency)
        async with aiohttp.ClientSession(headers=self.target.headers, timeout=timeout, connector=connector) as session:
            sending = asyncio.gather(*(self._send_some(session, waiting) for _ in range(self.concurrency)))
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, sending.cancel)
            try:
                await sending
            except asyncio.CancelledError:
                return True
        return False

    async def _send_some(self, session: aiohttp.ClientSession, waiting: Iterator[DemoPrompt]) -> None:
        for prompt in waiting:
            try:
                await self._send(session, prompt)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failures[f"no answer: {type(error).__name__}"] += 1
            self.advance()

    async def _send(self, session: aiohttp.ClientSession, prompt: DemoPrompt) -> None:
        tags = {"source": "demo", RUN_TAG: self.run_id}
        body = {
            "messages": [{"role": "user", "content": prompt.text}],
            "modelpilot": {"tags": {**tags, "kind": prompt.kind, "difficulty": prompt.difficulty}},
        }
        url = f"{self.target.url}/router/{segment(self.router)}"
        async with session.post(url, json=body) as answer:
            content = await answer.json(content_type=None)
            if answer.ok:
                self.answers.append(answered(content))
                said = opinion(content, len(self.answers))
                self.opinions += [said] if said is not None else []
            else:
                self.failures[f"{answer.status}: {error_message(content) or 'no message'}"] += 1
