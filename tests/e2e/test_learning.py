"""From outcomes to decisions that use them: a router learns over a real gateway, worker, Postgres and Milvus."""

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import aiohttp
import pytest

from infra.db.engine import Database
from infra.db.learning.predictors import PostgresPredictors
from infra.vectors.embedders import WordLlamaEmbedder
from infra.vectors.milvus import MilvusHistory
from modelpilot.learning.refit import FittedArtifact
from modelpilot.requests.records import HistoryScope
from tests.support.refit import artifact, report
from tests.support.requests import ask, chat, put_model, put_router
from tests.support.world import Gateway, World, eventually

SCOPE = HistoryScope("admin", "learns")
ALPHA, BETA = "learn/alpha", "learn/beta"
KINDS = {
    "invoice": "Make an invoice for {n} boxes of screws, with tax, due date and customer number",
    "poem": "Write a short poem about {n} birds above the sea, with rhymes and a title",
}
REQUESTS = 160


def body(kind: str, number: int) -> dict[str, Any]:
    """A prompt of a kind whose answer has to be JSON, so that the deterministic checks can tell right from wrong."""
    return chat(KINDS[kind].format(n=number), response_format={"type": "json_object"})


async def _refuse(world: World, model: str, word: str) -> None:
    """The simulator's model refuses prompts with this word from now on."""
    told = {"model": model, "match": word, "faults": {"refuse": True}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{world.simulator_url}/_sim/faults", json=told) as answer,
    ):
        assert answer.status == 200, await answer.text()


@pytest.fixture(scope="module")
def taught(world: World, gateway: Gateway) -> None:
    """The router `learns` has had enough outcomes: alpha fails at invoices, beta at poems."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(_teach(world, gateway))


async def _teach(world: World, gateway: Gateway) -> None:
    async with world.client(gateway) as client:
        for model, name, word in ((ALPHA, "alpha+latency1", "invoice"), (BETA, "beta+latency1", "poem")):
            await put_model(client, model, name)
            await _refuse(world, name.partition("+")[0], word)
        await put_router(client, "learns", [ALPHA, BETA], objective={"qualityWeight": 1.0}, exploration=1.0)
        gate = asyncio.Semaphore(8)

        async def one(number: int) -> None:
            async with gate:
                status, answer = await ask(client, "learns", body("poem" if number % 2 else "invoice", number))
                assert status == 200, answer

        await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    embedder = WordLlamaEmbedder()
    history = MilvusHistory(world.milvus_uri, embedder=embedder.name, dimension=embedder.dimension)

    async def stored() -> bool:
        return await history.count(SCOPE) == REQUESTS

    await eventually(stored, "the points are not in the vector store")
    await history.close()


async def refit(client: aiohttp.ClientSession) -> dict[str, Any]:
    """Refit the router through the API and wait for the end; its report."""
    async with client.post("/api/routers/learns/refit") as answer:
        assert answer.status == 202, await answer.text()

    async def ended() -> dict[str, Any] | None:
        async with client.get("/api/routers/learns/refit") as answer:
            run: dict[str, Any] = await answer.json()
        if answer.status == 503:  # a busy Temporal could not be asked in time
            return None
        assert run["status"] != "failed", run
        return run["report"] if run["status"] == "completed" else None

    found: dict[str, Any] = await eventually(ended, "the refit did not end")
    return found


async def explained(client: aiohttp.ClientSession, kind: str) -> dict[str, Any]:
    """The decision for a prompt of this kind that was never asked: invoices have had even numbers, poems odd ones."""
    async with client.post("/router/learns/explain", json=body(kind, {"invoice": 77, "poem": 78}[kind])) as answer:
        assert answer.status == 200, await answer.text()
        decision: dict[str, Any] = (await answer.json())["decision"]
        assert not decision["explored"]  # though this router always explores
        return decision


async def decides(client: aiohttp.ClientSession, kind: str, model: str) -> dict[str, Any]:
    """Wait until prompts of this kind go to this model; the decision."""

    async def chosen() -> dict[str, Any] | None:
        decision = await explained(client, kind)
        return decision if decision["selectedModel"] == model else None

    found: dict[str, Any] = await eventually(chosen, f"no {kind} goes to {model}")
    return found


async def _decides_clearly(client: aiohttp.ClientSession, kind: str, model: str, other: str) -> dict[str, Any]:
    """Wait until this model is ahead of the other one by a tenth: outcomes are learnt behind their answers, and the
    first right choice may rest on a few of them. The decision."""

    async def ahead() -> dict[str, Any] | None:
        decision = await explained(client, kind)
        quality = {candidate["model"]: candidate["quality"]["raw"] for candidate in decision["candidates"]}
        return decision if quality[model] > 0.1 + quality[other] else None

    found: dict[str, Any] = await eventually(ahead, f"{model} is not ahead at prompts of the kind {kind}")
    assert found["selectedModel"] == model
    return found


async def test_outcomes_become_decisions(client: aiohttp.ClientSession, taught: None) -> None:
    """Without any refit each kind of prompt goes to the model that is right about it. The decision says what it rests
    on: the catalogue's word, what holds for every prompt, and what holds for this one."""
    for kind, model, other in (("invoice", BETA, ALPHA), ("poem", ALPHA, BETA)):
        decision = await _decides_clearly(client, kind, model, other)
        candidates = {c["model"]: c for c in decision["candidates"]}
        for candidate in candidates.values():
            learnt = candidate["learnt"]
            assert candidate["quality"]["raw"] == pytest.approx(
                learnt["catalogue"] + learnt["level"] + learnt["prompt"], abs=1e-3
            )
            assert 0.0 < learnt["sd"] == pytest.approx(candidate["quality"]["sd"], abs=1e-3)
            assert learnt["grades"] > 10.0
        assert candidates[model]["learnt"]["prompt"] > 0.03 > candidates[other]["learnt"]["prompt"]
        assert (decision["learner"]["decidedBy"], decision["predictor"]) == ("online", None)
        assert decision["learner"]["version"] > 0


async def test_a_refit_is_reported_and_decides_only_if_it_chooses_better(
    client: aiohttp.ClientSession, taught: None
) -> None:
    """It reads the stored outcomes. What the online model has right already no fit can have righter: it is refused, and
    decisions say why the other one goes on deciding; they are as right as before."""
    made = await refit(client)
    assert made["rows"] == REQUESTS, made
    async with client.get("/api/routers/learns/predictor") as view:
        described = await view.json()
    newest = described["versions"][0]
    assert (newest["version"], newest["rows"]) == (made["version"], REQUESTS)
    assert described["version"] == (made["version"] if newest["accepted"] else None)

    async def says() -> bool:
        return f"version {made['version']}" in (await explained(client, "poem"))["learner"]["because"]

    await eventually(says, "no decision says what became of the fit")
    for kind, model in (("invoice", BETA), ("poem", ALPHA)):
        await decides(client, kind, model)


async def test_an_admitted_fit_decides_until_one_is_refused(
    world: World, client: aiohttp.ClientSession, taught: None
) -> None:
    """Decisions name the version that takes part; with a refusal it is dropped at once, and the reason is listed."""
    _, answer = await ask(client, "learns", body("invoice", 1), **{"x-modelpilot-explain": "true"})
    assert answer["modelpilot"]["decision"]["learner"]["version"] > 0

    async def takes_part(version: int | None) -> None:
        async def used() -> bool:
            predictor = (await explained(client, "poem"))["predictor"]
            return bool((predictor and predictor["version"]) == version)

        await eventually(used, f"decisions do not use version {version}")

    async with Database(world.database_url) as database:
        store = PostgresPredictors(database)
        admitted = await store.add(SCOPE, time.time(), REQUESTS, artifact())
        await takes_part(admitted)
        bad = FittedArtifact(None, report("worse than the global mean on a held-out slice"))
        refused = await store.add(SCOPE, time.time(), REQUESTS, bad)
        await takes_part(None)
    async with client.get("/api/routers/learns/predictor") as view:
        described = await view.json()
    assert described["version"] is None
    assert described["versions"][0]["version"] == refused
    assert described["versions"][0]["report"]["refusedBecause"].startswith("worse than the global mean")


async def test_a_word_on_an_answer_is_learnt_at_once(client: aiohttp.ClientSession, taught: None) -> None:
    """Feedback counts within seconds: neither a refit nor a re-scoring job is needed."""

    async def grades() -> float:
        return float(sum(c["learnt"]["grades"] for c in (await explained(client, "poem"))["candidates"]))

    _, answer = await ask(client, "learns", chat("Just say hello to the world"))
    request_id = answer["modelpilot"]["requestId"]
    before = await grades()

    async def rated() -> bool:  # its row is written behind its answer
        async with client.post("/v1/feedback", json={"requestId": request_id, "score": 1.0}) as said:
            return bool(said.status == 200)

    await eventually(rated, "the answer could not be rated")

    async def learnt() -> bool:
        return bool(await grades() > before + 0.5)

    await eventually(learnt, "the feedback was not learnt")


async def test_a_replay_says_what_would_have_been(client: aiohttp.ClientSession, taught: None) -> None:
    """The logged decisions of the exploring router, under a policy that does not explore: figures from predictions and
    from outcomes, over every request."""

    async def replayed() -> dict[str, Any] | None:
        told = {"exploration": 0.0, "limit": 10_000}
        async with client.post("/router/learns/replay", json=told) as answer:
            assert answer.status == 200, await answer.text()
            found: dict[str, Any] = await answer.json()
        return found if found["requests"] >= REQUESTS else None

    found = await eventually(replayed, "not every request is in the ledger")
    assert (found["unserved"], found["leftOut"]) == (0, 0)
    assert 0.0 < found["changedShare"] < 1.0
    quality = found["offPolicy"]["quality"]
    assert quality["logged"]["requests"] >= REQUESTS
    assert quality["doublyRobust"]["low"] < quality["doublyRobust"]["high"]
    assert 0.0 < quality["effectiveSampleSize"] <= quality["logged"]["requests"]
    assert found["offPolicy"]["unsupportedShare"] == 0.0
    assert sum(row["proposedShare"] for row in found["models"]) == pytest.approx(1.0)


async def test_what_was_learnt_goes_with_the_router(world: World, client: aiohttp.ClientSession) -> None:
    """Points, copies in memory and predictors: one that is made anew under the name knows nothing."""
    scope = HistoryScope("admin", "forgets")
    embedder = WordLlamaEmbedder()
    history = MilvusHistory(world.milvus_uri, embedder=embedder.name, dimension=embedder.dimension)

    async def counted(points: int) -> None:
        async def has() -> bool:
            return await history.count(scope) == points

        await eventually(has, f"the vector store does not have {points} points")

    async def neighbours() -> int:
        async with client.post("/router/forgets/explain", json=body("poem", 3)) as answer:
            return len((await answer.json())["decision"]["neighbours"])

    async def none_left() -> bool:
        return await neighbours() == 0

    await put_router(client, "forgets", [ALPHA])
    for number in range(4):
        assert (await ask(client, "forgets", body("poem", number)))[0] == 200
    await counted(4)
    assert await neighbours() > 0
    async with client.delete("/api/routers/forgets") as answer:
        assert answer.status == 204
    await counted(0)
    await put_router(client, "forgets", [ALPHA])
    await eventually(none_left, "the new router has the old one's neighbours")
    await history.close()


async def test_the_command_line_shows_the_same(world: World, gateway: Gateway, taught: None) -> None:
    """`modelpilot routers refit | predictor | replay` against the running gateway."""

    def modelpilot(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = {**world.environment, "MODELPILOT_API_URL": gateway.url, "MODELPILOT_API_KEY": world.admin_key}
        command = [sys.executable, "-m", "cli", "routers", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    refitted = await asyncio.to_thread(modelpilot, "refit", "learns")
    assert refitted.stdout.startswith("router learns: "), refitted.stderr
    assert ", version " in refitted.stdout
    shown = await asyncio.to_thread(modelpilot, "predictor", "learns")
    assert "version" in shown.stdout
    replayed = await asyncio.to_thread(modelpilot, "replay", "learns", "--cost-weight", "1", "--limit", "100")
    assert "doubly robust" in replayed.stdout, replayed.stderr
    data = await asyncio.to_thread(modelpilot, "replay", "learns", "--limit", "100", "--json")
    assert json.loads(data.stdout)["requests"] == 100
