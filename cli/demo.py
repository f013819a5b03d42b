"""`modelpilot demo`: a few hundred varied prompts through a router, so that the dashboard has something to show."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import aiohttp
import typer

from cli import demo_learning, demo_progress
from cli.client import EXIT_FAILED, GatewayClient, Refused, Target, connect, error_message, fail, segment
from cli.demo_prompts import DemoPrompt, demo_prompts
from cli.demo_report import Answered, Baseline, answered, rendered, summary
from cli.output import AsJson, print_json, show
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.pricing import call_cost_usd
from modelpilot.requests.outcome import Usage

EXIT_INTERRUPTED = 130
_TIMEOUT_S = 150.0
_ANSWER_ONLY = ("shared", "createdAt", "updatedAt")


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
        models = _models(client, router)
    except Refused as refused:
        fail(refused.message)
    with demo_progress.shown(count, quiet=as_json) as advance:
        traffic = Traffic(client.target, router, demo_prompts(count), concurrency, advance)
        interrupted = asyncio.run(traffic.run())
    result = summary(traffic.answers, dict(traffic.failures), count, baseline(models, traffic.answers))
    lines = rendered(result)
    if learn and traffic.answers and not interrupted:
        result["learning"] = _learn(client, traffic, quiet=as_json)
        lines += demo_learning.rendered(result["learning"])
    if as_json:
        print_json(result)
    else:
        show(*lines)
    if interrupted or traffic.failures:
        raise typer.Exit(EXIT_INTERRUPTED if interrupted else EXIT_FAILED)


def _learn(client: GatewayClient, traffic: "Traffic", *, quiet: bool) -> dict[str, Any]:
    """Ratings, then the jobs that take them in."""
    opinions = traffic.opinions
    with demo_progress.shown(len(opinions), quiet=quiet, what="ratings") as advance:
        taken = asyncio.run(demo_learning.rate(client.target, opinions, traffic.concurrency, advance))
    jobs = demo_learning.run_jobs(client, traffic.router)
    return demo_learning.learnt(taken, jobs)


def _models(client: GatewayClient, router: str) -> list[dict[str, Any]]:
    """The catalogue entries of the models that the router chooses from."""
    described = client.call("GET", f"/api/routers/{segment(router)}")
    names = described["availableModels"] or [described["preferredModel"]]
    return [client.call("GET", f"/api/models/{segment(name, slashes=True)}") for name in names]


def baseline(models: Sequence[dict[str, Any]], answers: Sequence[Answered]) -> Baseline:
    """The dearest of the models for everything: for the router `demo` that is sim/large."""
    costs = {model["id"]: _cost_usd(model, [answer.usage for answer in answers]) for model in models}
    dearest = max(costs, key=lambda name: costs[name] or 0.0)
    return Baseline(dearest, costs[dearest])


def _cost_usd(model: dict[str, Any], usages: Sequence[Usage]) -> float | None:
    spec = ModelSpec.model_validate({name: value for name, value in model.items() if name not in _ANSWER_ONLY})
    costs = [call_cost_usd(spec, usage) for usage in usages]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


@dataclass
class Traffic:
    """Requests with bounded concurrency. `answers`, `failures` (by reason) and `opinions` grow while it runs."""

    target: Target
    router: str
    prompts: Sequence[DemoPrompt]
    concurrency: int
    advance: demo_progress.Advance
    answers: list[Answered] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    opinions: list[demo_learning.Opinion] = field(default_factory=list)

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
        body = {
            "messages": [{"role": "user", "content": prompt.text}],
            "modelpilot": {"tags": {"source": "demo", "kind": prompt.kind, "difficulty": prompt.difficulty}},
        }
        url = f"{self.target.url}/router/{segment(self.router)}"
        async with session.post(url, json=body) as answer:
            content = await answer.json(content_type=None)
            if answer.ok:
                self.answers.append(answered(content))
                said = demo_learning.opinion(content, len(self.answers))
                self.opinions += [said] if said is not None else []
            else:
                self.failures[f"{answer.status}: {error_message(content) or 'no message'}"] += 1
