"""The provider clients over real HTTP, against the simulator: every kind alike."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from infra.providers.clients import ProviderRegistry
from modelpilot.errors import InvalidRequest
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.assembler import ChunkAssembler
from simulator.server import running
from simulator.state import SimulatorConfig
from tests.support.provider_calls import BACK, SAME, ask, assert_secret_free, call, failure

PARAMETERS = {"type": "object", "properties": {"x": {"type": "string"}}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": PARAMETERS}}]
KINDS = ["openai", "anthropic", "google", "openrouter", "simulator"]


@pytest.fixture
async def simulator() -> AsyncIterator[str]:
    """A simulator that answers at once."""
    async with running(SimulatorConfig(latency_ms=0)) as base:
        yield base


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_answers(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """The same request gives the same text, finish reason and usage through every wire format."""
    answer = await ask(registry, call(simulator, kind))
    assert (answer.text, answer.finish_reason) == ("12 * 7 = 84.", "stop")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 5)
    assert answer.result()["id"]


@pytest.mark.parametrize("kind", KINDS)
async def test_the_official_sdk_understands_every_kind(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """Chunks and completions have the types that OpenAI's own SDK declares for them."""
    bodies: list[dict[str, Any]] = [{}, {"tools": TOOLS, "tool_choice": "required"}]
    for body in bodies:
        wanted = call(simulator, kind, **body)
        assembler = ChunkAssembler()
        async for chunks in registry.client_for(kind).stream_chat(wanted):
            for chunk in chunks:
                ChatCompletionChunk.model_validate(chunk.data, strict=True)
            assembler.extend(chunks)
        ChatCompletion.model_validate(assembler.result(), strict=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_answers_whole(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """Asked for one body instead of a stream: the same answer, in one batch of chunks."""
    client = registry.client_for(kind)
    (chunks,) = [batch async for batch in client.stream_chat(call(simulator, kind, whole=True))]
    assembler = ChunkAssembler()
    assembler.extend(chunks)
    assert (assembler.text, assembler.finish_reason) == ("12 * 7 = 84.", "stop")
    assert (assembler.usage.input_tokens, assembler.usage.output_tokens) == (5, 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_calls_tools(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """Tool calls arrive with an id, a name and valid arguments."""
    answer = await ask(registry, call(simulator, kind, tools=TOOLS, tool_choice="required"))
    assert answer.finish_reason == "tool_calls"
    tool_call = answer.result()["choices"][0]["message"]["tool_calls"][0]
    assert tool_call["id"]
    assert tool_call["function"]["name"] == "f"
    assert isinstance(json.loads(tool_call["function"]["arguments"]), dict)


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_gives_structured_output(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """A JSON schema is honoured."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}
    answer = await ask(registry, call(simulator, kind, response_format=wanted))
    assert isinstance(json.loads(answer.text)["n"], int)


@pytest.mark.parametrize("kind", ["openai", "google"])
async def test_several_choices(registry: ProviderRegistry, simulator: str, kind: str) -> None:
    """All choices are waited for."""
    choices = (await ask(registry, call(simulator, kind, n=3))).result()["choices"]
    assert [choice["finish_reason"] for choice in choices] == ["stop"] * 3


# Beside those that tests/fault sends through a whole gateway in each of the three wire formats.
FAULTS = [
    ("429+retryafter2", "rate_limited", SAME), ("429+retryafter9999", "rate_limited", BACK),
    ("429+retryafter-1", "rate_limited", SAME), ("429+retryaftergarbage", "rate_limited", SAME),
    ("500", "server_error", SAME), ("502", "server_error", SAME), ("401", "authentication", BACK),
    ("403", "permission", BACK), ("404", "not_found", BACK), ("422", "bad_request", BACK),
    ("reset", "connection_error", SAME), ("streamerror", "server_error", SAME), ("html", "malformed_response", SAME),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
@pytest.mark.parametrize(("fault", "error_type", "remedy"), FAULTS)
async def test_faults(
    registry: ProviderRegistry, simulator: str, kind: str, fault: str, error_type: str, remedy: Remedy
) -> None:
    """Every fault of a provider is classified alike through every wire format, and never shows the key."""
    error = await failure(registry, call(simulator, kind, f"small+tokens60+{fault}"))
    assert (error.error_type, error.remedy) == (error_type, remedy)
    assert_secret_free(error)


@pytest.mark.parametrize("fault", ["hang", "firsttoken60000"])
@pytest.mark.parametrize("kind", ["openai", "anthropic", "google"])
async def test_silence(registry: ProviderRegistry, simulator: str, kind: str, fault: str) -> None:
    """A provider that says nothing is given up after the limit for its first token, and is not asked again."""
    limits = {"first_token_ms": 50, "idle_ms": 20_000}
    error = await failure(registry, call(simulator, kind, f"small+tokens60+{fault}", **limits))
    assert (error.error_type, error.remedy) == ("timeout_first_token", BACK)


async def test_embeddings(registry: ProviderRegistry, simulator: str) -> None:
    """The embeddings endpoint of OpenAI's format, whole or as a classified failure."""
    endpoint = ProviderEndpoint("p", "simulator", f"{simulator}/v1", None)
    client = registry.embedder_for("simulator")
    answer = await client.embed(endpoint, "embedding", {"input": ["a", "b"]})
    assert [item["index"] for item in answer["data"]] == [0, 1]
    with pytest.raises(ProviderError):
        await client.embed(endpoint, "embedding", {"input": 5})


async def test_unknown_kinds(registry: ProviderRegistry) -> None:
    """A kind without a client is the caller's mistake."""
    for find in (registry.client_for, registry.embedder_for):
        with pytest.raises(InvalidRequest):
            find("carrier-pigeon")
