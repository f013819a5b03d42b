"""Accepting a request: what may be spent before what is durable."""

import asyncio
from typing import Any

import pytest

from modelpilot.errors import DependencyUnavailable, NoCandidate, NotFound, Overloaded
from modelpilot.requests.outcome import INLINE_LIMIT_BYTES, Outcome, Remedy
from tests.support.core import A, Core, failure, routed, settle
from tests.support.processes import until
from tests.support.routing_samples import stream

AWAY = DependencyUnavailable("Temporal does not answer")
LARGE = "x" * (INLINE_LIMIT_BYTES + 1)


async def test_both_stores_away_spends_nothing() -> None:
    """Refused at once, with a time to come back, before a provider is called."""
    core = Core()
    core.postgres.up = core.workflows.up = False
    with pytest.raises(DependencyUnavailable) as caught:
        await core.submit()
    assert caught.value.retry_after_s
    await settle()
    assert (core.providers.made, core.ledger.open, len(core.registry)) == ([], {}, 0)


@pytest.mark.parametrize("changes", [{"idempotency_key": "k"}, {"client_name": "mine"}, {"text": LARGE}])
async def test_what_needs_postgres_spends_nothing_without_it(changes: dict[str, str]) -> None:
    """Names are nowhere else, and Temporal carries no large body: refused before a name is reserved."""
    core = Core()
    core.postgres.up = False
    with pytest.raises(DependencyUnavailable):
        await core.submit(**changes)
    await settle()
    assert (core.providers.made, core.ledger.names, len(core.registry)) == ([], {}, 0)


async def test_temporal_away_is_no_matter() -> None:
    """A request that needs no fallback has no use for it; named and large ones neither."""
    core = Core()
    core.workflows.up, core.workflows.refusal = False, AWAY
    for changes in ({}, {"idempotency_key": "k"}, {"text": LARGE}):
        record = await core.submissions.ended(await core.submit(**changes))
        assert (record.outcome.status, record.degraded) == ("completed", ())
    assert not core.workflows.asked.is_set()


async def test_postgres_away_is_said_and_written_later() -> None:
    """Temporal has accepted it; the row and the request come when Postgres is back."""
    core = Core()
    core.postgres.up, core.ledger.down = False, True
    submission = await core.submit()
    record = await core.submissions.ended(submission)
    assert (record.outcome.status, record.degraded) == ("completed", ("postgres",))
    assert submission.key in core.workflows.accepted
    assert core.ledger.rows == {}
    core.ledger.down = False
    await until(lambda: submission.key in core.ledger.rows)
    assert submission.key in core.ledger.open, "a closer must find it"


async def test_overload_spends_nothing() -> None:
    """Beyond the limit requests are refused with a time to come back, and accepted again when one has ended."""
    core, gate = Core(), asyncio.Event()
    core.limit(1)
    core.providers.will(A, [gate, *stream()])
    first = await core.submit()
    with pytest.raises(Overloaded) as caught:
        await core.submit(text="another")
    assert caught.value.retry_after_s
    await settle()
    assert (len(core.providers.made), len(core.ledger.open)) == (1, 1)
    gate.set()
    await core.submissions.ended(first)
    assert (await core.answer()).status == "completed"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"router_id": "unknown"}, NotFound),
        ({"fields": {"tools": [{"type": "function"}]}}, NoCandidate),
    ],
)
async def test_a_refused_request_leaves_nothing_behind(changes: dict[str, object], error: type[Exception]) -> None:
    """Nothing is called, accepted or held for a request that cannot be routed."""
    core = Core()
    with pytest.raises(error):
        await core.submit(**changes)
    await settle()
    assert (core.providers.made, core.ledger.open, len(core.registry)) == ([], {}, 0)


async def test_the_call_runs_beside_the_commit_but_no_answer_leaves_before_it() -> None:
    """Strict: the provider's time hides the commit's, and the answer waits for it."""
    core = Core()
    core.workflows.gate.clear()
    core.ledger.accept_gate.clear()
    submission = await core.submit()
    answering = asyncio.create_task(core.submissions.ended(submission))
    await until(lambda: bool(core.providers.made) and core.providers.made[0].completed)
    await settle()
    assert not answering.done()
    assert core.ledger.rows == {}
    core.ledger.accept_gate.set()
    core.workflows.gate.set()
    record = await answering
    assert (record.key, record.outcome.status) == (submission.key, "completed")
    await until(lambda: submission.key in core.ledger.rows)


async def test_a_relaxed_answer_does_not_wait_for_the_commit() -> None:
    """The router says so; the commit comes all the same, and with it the row."""
    core = Core(routed(durability="relaxed"))
    core.ledger.accept_gate.clear()
    submission = await core.submit()
    record = await core.submissions.ended(submission)
    assert (record.outcome.status, record.degraded) == ("completed", ())
    core.ledger.accept_gate.set()
    await until(lambda: submission.key in core.ledger.rows)


async def test_a_relaxed_router_does_not_relax_names() -> None:
    """A repeat must find the request: nothing is spent before the commit."""
    core = Core(routed(durability="relaxed"))
    core.ledger.accept_gate.clear()
    submitting = asyncio.create_task(core.submit(idempotency_key="k"))
    await settle()
    assert (core.providers.made, submitting.done()) == ([], False)
    core.ledger.accept_gate.set()
    assert (await core.submissions.ended(await submitting)).outcome.status == "completed"


async def test_the_ledger_keeps_the_whole_decision() -> None:
    """A recovery chooses nothing anew: decision, plan and owner are committed, and what each step did."""
    core = Core(routed("sim/b", "sim/c", timeouts={"connect_ms": 7}))
    submission = await core.submit(fields={"modelpilot": {"tags": {"team": "x"}, "sessionId": "s"}})
    await core.submissions.ended(submission)
    kept = core.ledger.open[submission.key]
    assert (kept.owner, kept.config_version, kept.provider) == ("gw-1", 3, "simulator")
    assert kept.decision["selectedModel"] == kept.plan.model == "sim/a"
    assert len(kept.decision["candidates"]) == 2
    assert (kept.plan.fallback_models, kept.plan.retry_attempts) == (("sim/b", "sim/c"), 3)
    assert (kept.plan.connect_ms, kept.plan.total_ms) == (7, 120_000)
    assert set(kept.plan.specs) == {"sim/a", "sim/b", "sim/c"}
    assert (kept.tags, kept.session_id, kept.api_key_id) == ({"team": "x"}, "s", "key_1")
    assert "provider-secret" not in repr(kept)
    details = {name: step.detail for name, step in kept.steps.items()}
    assert (details["load_router"]["version"], details["embed_prompt"]["embedder"]) == (3, "fake")
    assert (details["query_history"]["neighbours"], details["score_models"]["selected"]) == (0, "sim/a")


async def test_a_large_request_is_committed_with_its_body_and_stays_out_of_temporal() -> None:
    """Over 128 KiB Temporal carries a reference; the body is in Postgres before the workflow can need it."""
    core = Core()
    submission = await core.submit(text=LARGE)
    await core.submissions.ended(submission)
    assert core.ledger.open[submission.key].body is None
    assert LARGE.encode() in core.ledger.bodies[submission.key]
    assert "x" * 100 not in repr(core.ledger.open[submission.key].decision)


async def test_a_small_request_has_its_body_in_it() -> None:
    """One row, no second one for the body."""
    core = Core()
    submission = await core.submit()
    await core.submissions.ended(submission)
    assert core.ledger.bodies == {}
    assert "Simple question" in (core.ledger.open[submission.key].body or "")


async def test_a_client_that_leaves_stops_the_spending() -> None:
    """The upstream call is canceled, and what it cost until then is recorded."""
    core = Core()
    core.providers.will(A, [*stream()[:2], asyncio.Event()])
    submission = await core.submit()
    await core.providers.called.wait()
    await settle()
    await core.submissions.abandon(submission)
    outcome = (await core.submissions.ended(submission)).outcome
    assert (outcome.status, outcome.error_code) == ("canceled", "request_canceled")
    assert core.providers.made[0].closed
    await until(lambda: submission.key in core.ledger.rows)
    assert core.ledger.rows[submission.key].outcome.cost_usd
    await settle()
    assert len(core.providers.made) == 1


async def test_a_client_that_leaves_before_the_call_spends_nothing() -> None:
    """The call is not begun for nobody."""
    core = Core()
    submission = await core.submit()
    await core.submissions.abandon(submission)
    outcome = (await core.submissions.ended(submission)).outcome
    assert (outcome.status, outcome.attempts, core.providers.made) == ("canceled", (), [])


async def test_a_client_that_leaves_during_the_fallback_cancels_the_workflow() -> None:
    """Between two fallback attempts only Temporal can stop the next one."""
    core = Core(routed("sim/b"))
    core.providers.will(A, [failure()])
    submission = await core.submit()
    await until(lambda: submission.key in core.workflows.handed_over)
    await core.submissions.abandon(submission)
    await until(lambda: core.workflows.canceled == [submission.key])


async def test_a_keyed_request_goes_on_without_its_client() -> None:
    """Its key can collect the answer later."""
    core, gate = Core(), asyncio.Event()
    core.providers.will(A, [*stream()[:2], gate, *stream()[2:]])
    submission = await core.submit(idempotency_key="k")
    await core.submissions.abandon(submission)
    gate.set()
    assert (await core.submissions.ended(submission)).outcome.status == "completed"
    assert core.workflows.canceled == []


async def test_the_answer_of_a_fallback_elsewhere_is_collected() -> None:
    """A later attempt ran in another process: its row in the ledger ends the flight here, which is forgotten."""
    core = Core(routed("sim/b"))
    core.providers.will(A, [failure()])
    submission = await core.submit()
    answering = asyncio.create_task(core.submissions.ended(submission))
    await until(lambda: submission.key in core.workflows.handed_over)
    request = core.ledger.open[submission.key]
    worker = Core(like=core, instance="worker-1")
    failed = await worker.recovery.first_phase(request)
    context = await worker.recovery.context(request, 9_000.0)
    found = await worker.fallbacks.attempt(context, failed, _plainly, lambda: False)
    assert isinstance(found, Outcome)
    await worker.recovery.record(request, found)
    record = await asyncio.wait_for(answering, 10.0)
    assert (record.outcome.status, record.outcome.model, record.fallback_used) == ("completed", "sim/b", True)
    assert [attempt.model for attempt in record.outcome.attempts] == ["sim/a", "sim/b"]
    assert len(core.registry) == 0


async def _plainly(work: Any) -> Any:
    return await work


async def test_give_up_failures_do_not_fall_back() -> None:
    """A request that is itself at fault fails at once, although fallbacks are configured."""
    core = Core(routed("sim/b"))
    core.providers.will(A, [failure("bad_request", Remedy.GIVE_UP, http_status=400)])
    outcome = await core.answer()
    assert (outcome.status, outcome.error_code, core.providers.models) == ("failed", "bad_request", ["a"])
    assert core.ledger.handed_over == set()


async def test_history_or_embedder_away_means_degraded_not_refused() -> None:
    """Priors decide, and the row says so."""
    core = Core()
    core.history.down = True
    assert (await core.submissions.ended(await core.submit())).degraded == ("vector",)
    core.embedder.down = True
    assert (await core.submissions.ended(await core.submit())).degraded == ("embedding",)


async def test_request_ids_are_unpredictable_and_per_owner() -> None:
    """Two requests never share an id."""
    core = Core()
    keys = {(await core.submit()).key for _ in range(20)}
    assert len(keys) == 20
    assert {key.user_id for key in keys} == {"alice"}
