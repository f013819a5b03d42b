"""Models, routers, prompts, histories and requests for tests of the core."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from modelpilot.chat.body import ChatBody
from modelpilot.chat.profile import RequestProfile, profile_request
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.records import Neighbours, Principal, RouterSnapshot, coded
from modelpilot.requests.route_request import CallPlan, RouteRequestInput
from modelpilot.routing.router import Router
from modelpilot.wire.chunks import as_chunks

NOW = 1_790_000_000.25  # Unix seconds
OWNER = "alice"
PRINCIPAL = Principal(OWNER, "key_1", frozenset({"route"}), None)
SIMPLE = "Simple question"


def spec(name: str = "sim/a", **changes: Any) -> ModelSpec:
    """A model with known prices."""
    plain: dict[str, Any] = {
        "id": name,
        "provider": "simulator",
        "provider_model": name.rpartition("/")[2],
        "avg_latency_ms": 1_000.0,
        "cost_per_input_token": 1e-6,
        "cost_per_output_token": 2e-6,
        "quality_score": 0.5,
        "carbon_g_per_1k_tokens": 0.1,
    }
    return ModelSpec.model_validate({**plain, **changes})


def router(*models: str, **changes: Any) -> Router:
    """A router over `models` (camelCase or snake_case fields may be given)."""
    return Router.model_validate({"id": "support", "available_models": list(models), **changes})


def snapshot(rules: Router, *specs: ModelSpec, unavailable: dict[str, str] | None = None) -> RouterSnapshot:
    """The router at version 3 with its models."""
    return RouterSnapshot(OWNER, rules, 3, {model.id: model for model in specs}, unavailable or {})


def chat_body(text: str = SIMPLE, **fields: Any) -> dict[str, Any]:
    """A chat request of one user message."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def profile(text: str = SIMPLE, **fields: Any) -> RequestProfile:
    """The profile of such a request."""
    body = chat_body(text, **fields)
    return profile_request(body, ChatBody.model_validate(body))


def neighbours(rows: Sequence[dict[str, Any]]) -> Neighbours:
    """Past outcomes; a row has `model` and whatever differs from a typical one."""
    plain = {
        "similarity": 1.0,
        "quality": np.nan,
        "cost": np.nan,
        "latency": 1_000.0,
        "tokens": 100.0,
        "count": 1.0,
        "trust": 1.0,
    }
    columns = {name: np.array([row.get(name, default) for row in rows], np.float32) for name, default in plain.items()}
    models, model = coded([row["model"] for row in rows])
    return Neighbours(
        similarity=columns["similarity"],
        models=models,
        model=model,
        request_ids=tuple(f"past_{number}" for number in range(len(rows))),
        quality=columns["quality"],
        cost_usd=columns["cost"],
        latency_ms=columns["latency"],
        output_tokens=columns["tokens"],
        count=columns["count"],
        timestamp=np.full(len(rows), NOW),
        quality_weight=columns["trust"],
    )


def plan(*specs: ModelSpec, **changes: Any) -> CallPlan:
    """Call the first model, then fall back to the others; no repeats of the same model."""
    plain = CallPlan(
        model=specs[0].id,
        specs={model.id: dict(model.to_wire()) for model in specs},
        fallback_models=tuple(model.id for model in specs[1:]),
        retry_attempts=3 if len(specs) > 1 else 0,
        total_ms=30_000,
    )
    return replace(plain, **changes)


def request(call_plan: CallPlan, body: dict[str, Any] | None = None, **changes: Any) -> RouteRequestInput:
    """An accepted request of gateway `gw-1`."""
    decision = {"selectedModel": call_plan.model, "propensity": 1.0, "explored": False, "requestType": "chat"}
    plain = RouteRequestInput(
        user_id=OWNER,
        request_id="r1",
        router_id="support",
        owner="gw-1",
        created_at=NOW,
        config_version=3,
        plan=call_plan,
        decision=decision,
        body=json.dumps(body or chat_body()),
    )
    return replace(plain, **changes)


def completion(text: str = "Hello there", *, tokens: tuple[int, int] | None = (10, 5)) -> dict[str, Any]:
    """An OpenAI-shaped answer; `tokens` None leaves the usage out."""
    message = {"role": "assistant", "content": text}
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "a",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }
    if tokens is not None:
        answer["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return answer


def stream(text: str = "Hello there", *, tokens: tuple[int, int] | None = (10, 5)) -> list[dict[str, Any]]:
    """The same answer as the chunks of a stream: role, one word each, end, usage."""
    whole = completion(text, tokens=tokens)
    base = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in text.split(" ")[:1]]
    deltas += [{"content": f" {word}"} for word in text.split(" ")[1:]]
    chunks = [{**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    return chunks + as_chunks(whole)[1:]
