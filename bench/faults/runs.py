"""Runs one scenario against a gateway and collects what client, gateway and simulator saw of it."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import aiohttp
import orjson

from bench.faults.scenarios import Scenario, provider_model, undisturbed
from bench.faults.verdicts import Answered, Evidence, Judgement, Prices, judge
from bench.gateway.targets import BadAnswer

GIVE_UP_S = 60.0
_SETTLE_S = 15.0
_ASK_AGAIN_S = 0.05
# Quick repeats of a model may be a fifth of the traffic: so much healthy traffic belongs to each.
_CALLS_PER_REPEAT = 5
_PLAIN = "faults/plain"
_EVENT = "data: "


@dataclass(frozen=True, slots=True)
class Result:
    """One scenario, what was seen of it, and what to think of it."""

    scenario: Scenario
    seen: Evidence
    judgement: Judgement


def prices(position: int) -> Prices:
    """Each model of a scenario has its own prices, so that no cost can be mistaken for another's."""
    return Prices(1e-6 * (position + 1), 2e-6 * (position + 1))


def open_lab_session(admin_key: str) -> aiohttp.ClientSession:
    """A client with the key of an admin; it waits longer than anything here should take, and not for ever."""
    headers = {"authorization": f"Bearer {admin_key}"}
    return aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=GIVE_UP_S))


@dataclass(slots=True)
class FaultLab:
    """A gateway, the simulator behind it, and a session as `open_lab_session` makes it.

    `provider` is where the models are called: one of another kind speaks another of the simulator's wire formats.
    """

    session: aiohttp.ClientSession
    api_url: str
    simulator_url: str
    provider: str = "simulator"

    async def run(self, scenario: Scenario) -> Result:
        """Create the router and its models, send the request, collect the evidence. Raises BadAnswer."""
        run = f"{scenario.name}.{secrets.token_hex(3)}"
        names = [provider_model(model) for model in scenario.models]
        models = [f"{run}/{position}" for position in range(len(names))]
        for position, (model, name) in enumerate(zip(models, names, strict=True)):
            await self.put_model(model, name, prices(position))
        await self.put("routers", run, scenario.router_fields(models))
        await self._healthy_traffic(_CALLS_PER_REPEAT * _repeats(scenario))
        tag = f"#{run}#"
        prompt = f"{tag} [easy] Explain routers." + " word" * scenario.prompt_words
        began = time.perf_counter()
        answered = await self.ask(f"/router/{run}", prompt, run, stream=scenario.stream)
        seconds = time.perf_counter() - began
        calls, view = await self._settled_calls(tag), await self.ended_view(run)
        called = [names.index(call["model"]) for call in calls]
        seen = Evidence(
            **{each.name: getattr(answered, each.name) for each in fields(Answered)},
            seconds=seconds,
            view=view,
            calls=calls,
            called=called,
            models=models,
            right_text=await self._right_text(undisturbed(scenario.models[called[-1] if called else 0]), prompt),
        )
        return Result(scenario, seen, judge(scenario, seen, [prices(position) for position in range(len(models))]))

    async def put_model(self, model: str, name: str, price: Prices) -> None:
        """A model of the simulator whose context window is unknown here. Raises BadAnswer."""
        cost = {"costPerInputToken": price.input_usd, "costPerOutputToken": price.output_usd}
        await self.put(
            "models", model, {"provider": self.provider, "providerModel": name, "capabilities": ["chat"], **cost}
        )

    async def put(self, kind: str, item: str, body: Mapping[str, Any]) -> None:
        """Create or replace a managed item. Raises BadAnswer."""
        async with self.session.put(f"{self.api_url}/api/{kind}/{item}", json={"id": item, **body}) as answer:
            if answer.status not in (200, 201):
                raise BadAnswer(f"PUT {kind} {item}: {answer.status} {(await answer.text())[:200]}")

    async def get(self, url: str, **params: str) -> Any:
        """JSON of a GET, None for 404. Raises BadAnswer."""
        async with self.session.get(url, params=params) as answer:
            if answer.status not in (200, 404):
                raise BadAnswer(f"GET {url}: {answer.status} {(await answer.text())[:200]}")
            return await answer.json() if answer.status == 200 else None

    async def ask(
        self, path: str, prompt: str, name: str | None = None, *, stream: bool = False, **fields: Any
    ) -> Answered:
        """One request; `name` is its x-request-id. A hang or a broken connection is status 0."""
        body = {"messages": [{"role": "user", "content": prompt}], "stream": stream, **fields}
        if stream:
            body["stream_options"] = {"include_usage": True}
        headers = {} if name is None else {"x-request-id": name}
        try:
            async with self.session.post(self.api_url + path, json=body, headers=headers) as answer:
                text = await answer.text()
                return read_stream(text) if stream and answer.status == 200 else read_whole(answer.status, text)
        except (aiohttp.ClientError, TimeoutError):
            return Answered(0)

    async def calls(self, tag: str) -> dict[str, Any]:
        """The simulator's log of the calls whose prompt has the tag: `calls` and `counts`."""
        found: dict[str, Any] = await self.get(f"{self.simulator_url}/_sim/calls", tag=tag)
        return found

    async def _healthy_traffic(self, count: int) -> None:
        if not count:
            return
        await self.put_model(_PLAIN, "small+latency0", prices(0))
        asks = [self.ask("/v1/chat/completions", f"traffic {number}", model=_PLAIN) for number in range(count)]
        failed = [answered.status for answered in await asyncio.gather(*asks) if not answered.ended]
        if failed:
            raise BadAnswer(f"healthy requests failed: {failed}")

    async def _settled_calls(self, tag: str) -> list[dict[str, Any]]:
        """The calls once none runs any more, or as they are when that takes too long."""

        async def settled() -> bool:
            return not (await self.calls(tag))["counts"]["running"]

        await until(settled, _SETTLE_S)
        calls: list[dict[str, Any]] = (await self.calls(tag))["calls"]
        return calls

    async def ended_view(self, name: str) -> dict[str, Any]:
        """`GET /v1/requests/{id}` once the request has ended, or as it is; {} without such a request."""
        view: dict[str, Any] = {}

        async def ended() -> bool:
            view.update(await self.get(f"{self.api_url}/v1/requests/{name}") or {})
            return view.get("status") in ("completed", "failed", "canceled")

        await until(ended, _SETTLE_S)
        return view

    async def _right_text(self, model: str, prompt: str) -> str:
        """The undisturbed answer, "" where the model has none."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
        async with self.session.post(f"{self.simulator_url}/v1/chat/completions", json=body) as answer:
            return read_whole(answer.status, await answer.text()).text


def read_whole(status: int, text: str) -> Answered:
    """An answer that came as one body; what is no JSON, or no answer, is one without text and error."""
    try:
        body: Any = orjson.loads(text)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return Answered(status)
    if not body.get("choices"):
        return Answered(status, error=body.get("error") or {})
    choice = body["choices"][0]
    return Answered(
        status,
        text=choice["message"].get("content") or "",
        ended=status == 200,
        finish=choice.get("finish_reason"),
        usage=body.get("usage") or {},
        described=body.get("modelpilot") or {},
    )


def read_stream(text: str) -> Answered:
    """An answer that came as server-sent events; only `[DONE]` says that it is whole."""
    data = [block.removeprefix(_EVENT) for block in text.split("\n\n") if block.startswith(_EVENT)]
    chunks = [orjson.loads(block) for block in data if block != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    return Answered(
        200,
        text="".join(choice["delta"].get("content") or "" for choice in choices),
        ended=bool(data) and data[-1] == "[DONE]",
        finish=next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None),
        usage=next((chunk["usage"] for chunk in chunks if chunk.get("usage")), {}),
        error=next((chunk["error"] for chunk in chunks if chunk.get("error")), {}),
        described=next((chunk["modelpilot"] for chunk in reversed(chunks) if chunk.get("modelpilot")), {}),
    )


async def until(condition: Callable[[], Awaitable[bool]], patience_s: float) -> bool:
    """Ask again and again until it holds; false where it did not within `patience_s`."""
    give_up_at = time.monotonic() + patience_s
    while not await condition():
        if time.monotonic() > give_up_at:
            return False
        await asyncio.sleep(_ASK_AGAIN_S)
    return True


def _repeats(scenario: Scenario) -> int:
    first = sum(1 for _ in itertools.takewhile(lambda call: call.model == 0, scenario.calls))
    return min(first - 1, scenario.same_model_retries)
