"""A request from HTTP to Temporal, Postgres and Milvus, over one real gateway."""

from functools import partial

import aiohttp
import pytest
from temporalio.client import Client

from infra.crypto.keyring import Keyring
from infra.db.engine import Database
from infra.temporal.codec import data_converter
from infra.vectors.embedders import WordLlamaEmbedder
from infra.vectors.milvus import MilvusHistory
from modelpilot.requests.records import HistoryScope
from tests.support.requests import ask, chat, ended, put_model, put_router
from tests.support.world import KEYRING, Gateway, World, closed, eventually

SIX_ACTIVITIES = [
    "load_router",
    "embed_prompt",
    "query_history",
    "score_models",
    "call_provider",
    "store_performance",
]


async def _temporal(world: World) -> Client:
    return await Client.connect(world.temporal_address, data_converter=data_converter(Keyring([KEYRING])))


async def test_answer_has_the_provider_s_shape_and_our_object(client: aiohttp.ClientSession) -> None:
    """A stock client sees an OpenAI completion; our object stands beside it."""
    status, answer = await ask(client, "demo", chat("What is 12 * 7?"))
    assert status == 200
    assert "84" in answer["choices"][0]["message"]["content"]
    described = answer["modelpilot"]
    assert described["routerId"] == "demo"
    assert described["selectedModel"].startswith("sim/")
    assert [attempt["status"] for attempt in described["attempts"]] == ["ok"]
    assert described["costUsd"] > 0
    assert described["overheadMs"] > 0
    assert described["workflowId"] == f"route/admin/{described['requestId']}"


async def test_reference_case_picks_the_cheap_model(client: aiohttp.ClientSession) -> None:
    """The reference case: gpt-4 and gpt-3.5-turbo, cost .8, quality .2, "Simple question" → gpt-3.5-turbo."""
    await put_model(
        client, "gpt-4", "gpt-4", qualityScore=0.95, avgLatencyMs=2500, costPerInputToken=3e-5, costPerOutputToken=6e-5
    )
    await put_model(
        client, "gpt-3.5-turbo", "gpt-3.5-turbo", qualityScore=0.7, costPerInputToken=5e-7, costPerOutputToken=1.5e-6
    )
    weights = {"costWeight": 0.8, "qualityWeight": 0.2}
    await put_router(client, "reference", ["gpt-4", "gpt-3.5-turbo"], objective=weights)
    _, answer = await ask(client, "reference", chat("Simple question"))
    assert answer["modelpilot"]["selectedModel"] == "gpt-3.5-turbo"


async def test_workflow_of_a_request_has_the_six_activities(world: World, client: aiohttp.ClientSession) -> None:
    """Each request is one workflow, found under its readable id, with a marker per step and decoded payloads."""
    _, answer = await ask(client, "demo", chat("Name three rivers"))
    await eventually(partial(closed, world, answer["modelpilot"]["requestId"]), "no closed workflow")
    handle = (await _temporal(world)).get_workflow_handle(answer["modelpilot"]["workflowId"])
    result = await handle.result()
    history = await handle.fetch_history()
    markers = [
        event.marker_recorded_event_attributes
        for event in history.events
        if event.HasField("marker_recorded_event_attributes")
    ]
    codec = data_converter(Keyring([KEYRING])).payload_codec
    assert codec is not None
    names = []
    for marker in markers:
        data = await codec.decode(marker.details["data"].payloads)
        names.append(next(name for name in SIX_ACTIVITIES if f'"{name}"'.encode() in data[0].data))
    assert names == SIX_ACTIVITIES
    assert result["answer"]["choices"] == answer["choices"]


async def test_workflows_are_found_by_router_model_and_outcome(world: World, client: aiohttp.ClientSession) -> None:
    """The Web UI's filters work, and a summary says in one line what was asked of whom."""
    await put_router(client, "findable", ["sim/small"])
    _, answer = await ask(client, "findable", chat("Find me"))
    temporal = await _temporal(world)
    query = "RouterId = 'findable' AND Model = 'sim/small' AND Provider = 'simulator' AND Outcome = 'completed'"

    async def found() -> list[str]:
        return [execution.id async for execution in temporal.list_workflows(query)]

    ids = await eventually(found, "no workflow under these search attributes")
    assert ids == [answer["modelpilot"]["workflowId"]]
    described = await temporal.get_workflow_handle(ids[0]).describe()
    assert (await described.static_summary() or "").startswith("findable → sim/small")


async def test_request_leaves_one_row_and_one_point(world: World, client: aiohttp.ClientSession) -> None:
    """The outcome is in Postgres and in Milvus; the same prompt asked again updates its point."""
    await put_router(client, "stored", ["sim/small"])
    for _ in range(2):
        await ask(client, "stored", chat("What colour is the sky?"))
    async with Database(world.database_url) as database:

        async def rows() -> bool:
            query = "SELECT status, success, model, request_type FROM requests WHERE router_id = %s"
            return [
                (row["status"], row["success"], row["model"]) for row in await database.fetch_all(query, ("stored",))
            ] == [("completed", True, "sim/small")] * 2

        await eventually(rows, "the two rows did not appear")
    embedder = WordLlamaEmbedder()
    history = MilvusHistory(world.milvus_uri, embedder=embedder.name, dimension=embedder.dimension, deadline_ms=5_000)
    vector = await embedder.embed("What colour is the sky?")

    async def counted() -> bool:
        found = await history.query(HistoryScope("admin", "stored"), vector, 10)
        return len(found) == 1 and found.count[0] == 2 and found.similarity[0] > 0.99

    try:
        await eventually(counted, "the point does not stand for two requests")
    finally:
        await history.close()


async def test_second_request_uses_history(client: aiohttp.ClientSession) -> None:
    """After an outcome is stored, a similar prompt's decision lists it as a neighbour."""
    await put_router(client, "learning", ["sim/small", "sim/medium"])
    await ask(client, "learning", chat("How do I bake bread?"))

    async def neighbours() -> list[object]:
        async with client.post("/router/learning/explain", json=chat("How do I bake rye bread?")) as answer:
            found: list[object] = (await answer.json())["decision"]["neighbours"]
            return found

    assert await eventually(neighbours, "no neighbour was found")


async def test_explain_header_adds_the_decision(client: aiohttp.ClientSession) -> None:
    """Every decision can be explained: raw and normalized components, weights and totals of each candidate."""
    _, answer = await ask(client, "demo", chat("Explain yourself"), **{"x-modelpilot-explain": "true"})
    candidates = answer["modelpilot"]["decision"]["candidates"]
    assert {candidate["model"] for candidate in candidates} == {"sim/small", "sim/medium", "sim/large"}
    for candidate in candidates:
        parts = [candidate[name] for name in ("cost", "latency", "quality", "carbon")]
        assert sum(part["score"] * part["weight"] for part in parts) == pytest.approx(candidate["total"], abs=1e-4)


async def test_preferred_model_is_always_taken(client: aiohttp.ClientSession) -> None:
    """The mode preferredModel does not weigh anything."""
    await put_router(client, "preferred", [], mode="preferredModel", preferredModel="sim/large")
    _, answer = await ask(client, "preferred", chat("Hello"))
    assert answer["modelpilot"]["selectedModel"] == "sim/large"


async def test_catalogue_model_is_called_directly(client: aiohttp.ClientSession) -> None:
    """`/v1/chat/completions` takes a model id as well as `router/{id}`, and records both."""
    for model, expected in (("sim/medium", "sim/medium"), ("router/demo", None)):
        async with client.post("/v1/chat/completions", json=chat("Direct call", model=model)) as answer:
            described = (await answer.json())["modelpilot"]
        assert expected in (None, described["selectedModel"])
        view = await eventually(partial(ended, client, described["requestId"]), "not recorded")
        assert view["status"] == "completed"
        assert view["answer"]["choices"]


async def test_large_body_travels_through_postgres(client: aiohttp.ClientSession) -> None:
    """A request and an answer over Temporal's payload size are served, recorded and retained."""
    text = "0123456789abcdef" * 40_000  # 640 kB
    await put_router(client, "large-body", ["sim/large"])
    status, answer = await ask(client, "large-body", chat(f"Reply with exactly: {text}"))
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"] == text
    request_id = answer["modelpilot"]["requestId"]
    view = await eventually(lambda: ended(client, request_id), "the request did not end")
    assert view["answer"]["choices"][0]["message"]["content"] == text


async def test_streamed_answer_ends_with_our_object(client: aiohttp.ClientSession) -> None:
    """Chunks come as server-sent events, the last one before [DONE] carries the `modelpilot` object."""
    async with client.post("/router/demo", json=chat("Stream it", stream=True)) as answer:
        assert answer.content_type == "text/event-stream"
        lines = [line async for line in answer.content if line.startswith(b"data: ")]
    assert lines[-1] == b"data: [DONE]\n"
    assert b'"modelpilot"' in lines[-2]
    assert b'"modelpilot"' not in b"".join(lines[:-2])


async def test_prompt_is_nowhere_readable(world: World, gateway: Gateway, client: aiohttp.ClientSession) -> None:
    """Neither Temporal's database, nor Postgres' files, nor the log hold prompt or answer text."""
    canary = "zanzibar-canary-48151623"
    _, answer = await ask(client, "demo", chat(f"Reply with exactly: {canary}"))
    assert canary in answer["choices"][0]["message"]["content"]
    await eventually(lambda: ended(client, answer["modelpilot"]["requestId"]), "the request did not end")
    async with Database(world.database_url) as database:
        await database.fetch_all("CHECKPOINT")
    for folder in ("temporal", "postgres"):
        for file in (world.directory / folder).rglob("*"):
            if file.is_file():
                assert canary.encode() not in file.read_bytes(), file
    assert canary not in gateway.log.read_text()
