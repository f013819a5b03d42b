"""One provider call and the first phase: what comes out, what it cost, what the client saw."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from activities.requests.call import CallContext, ModelCaller
from activities.requests.sink import ChunkSink
from modelpilot.errors import NotFound
from modelpilot.requests.outcome import Remedy, Usage
from modelpilot.requests.route_request import CallPlan
from tests.support.core import COST_USD, A, Core, failure
from tests.support.processes import until
from tests.support.routing_samples import plan, profile, request, stream
from tests.support.samples import chunk, delta

WORDS = stream("one two three", tokens=None)


def context(core: Core, *, sink: ChunkSink | None = None, left_s: float = 30.0, **changes: Any) -> CallContext:
    """The context of a request for sim/a."""
    call_plan: CallPlan = replace(plan(A), **changes)
    deadline = asyncio.get_running_loop().time() + left_s
    return CallContext(request(call_plan).key, {"sim/a": A}, profile("Simple question"), call_plan, deadline, sink)


async def read(sink: ChunkSink) -> list[dict[str, Any]]:
    """Everything that reached the client."""
    sink.finish()
    return [chunk.data for chunk in await sink.get()]


async def test_a_whole_answer() -> None:
    """The outcome has answer, usage, cost, time to first token and one attempt."""
    core = Core()
    outcome = await core.caller.call(context(core), "sim/a", seq=0)
    assert (outcome.status, outcome.finish_reason, outcome.success) == ("completed", "stop", True)
    assert outcome.answer is not None
    assert outcome.answer["choices"][0]["message"]["content"] == "Hello there"
    assert outcome.usage == Usage(10, 5)
    assert outcome.cost_usd == pytest.approx(COST_USD)
    (attempt,) = outcome.attempts
    assert (attempt.status, attempt.seq) == ("ok", 0)
    assert attempt.cost_usd == outcome.cost_usd
    assert attempt.ttft_ms is not None
    assert 0.0 <= attempt.ttft_ms <= attempt.latency_ms


async def test_the_provider_gets_what_the_client_sent() -> None:
    """Its own model name, the body, the configured timeouts and its key; the key is in no repr."""
    core = Core()
    await core.caller.call(context(core, first_token_ms=11, idle_ms=22, connect_ms=33), "sim/a", seq=0)
    call = core.providers.made[0].call
    assert (call.model, call.request_id) == ("a", "r1")
    assert (call.first_token_ms, call.idle_ms, call.connect_ms) == (11, 22, 33)
    assert call.body == {"messages": [{"role": "user", "content": "Simple question"}]}
    assert "provider-secret" not in repr(call)


async def test_a_router_may_ask_for_whole_answers() -> None:
    """Nothing is heard of one before it is complete, so that only the total time bounds it. Streams are the default."""
    core = Core()
    await core.caller.call(context(core, upstream="whole", first_token_ms=11, total_ms=99_000), "sim/a", seq=0)
    await core.caller.call(context(core, sink=ChunkSink(), first_token_ms=11), "sim/a", seq=0)
    asked = [(made.call.whole, made.call.first_token_ms, made.call.gather_ms > 0) for made in core.providers.made]
    assert asked == [(True, 99_000, True), (False, 11, False)]


async def test_a_missing_usage_report_is_estimated() -> None:
    """An answer that came costs something even where the provider does not count."""
    core = Core()
    core.providers.will(A, WORDS)
    outcome = await core.caller.call(context(core), "sim/a", seq=0)
    assert outcome.usage == Usage(profile("Simple question").prompt_tokens, 3)  # "one two three"
    assert outcome.cost_usd == pytest.approx(9e-6 + 3 * 2e-6)


async def test_a_failure_before_any_output_costs_nothing() -> None:
    """Providers bill what they generated."""
    core = Core()
    core.providers.will(A, [failure(http_status=503, retry_after_s=7.0)])
    outcome = await core.caller.call(context(core), "sim/a", seq=0)
    assert (outcome.status, outcome.cost_usd, outcome.error_status) == ("failed", 0.0, 503)
    assert (outcome.can_fall_back, outcome.transient, outcome.retry_after_s) == (True, False, 7.0)
    assert core.providers.made[0].closed


async def test_a_cut_stream_costs_what_had_come() -> None:
    """The words that arrived are billed, and nothing of a cut answer is an answer."""
    core = Core()
    core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    outcome = await core.caller.call(context(core), "sim/a", seq=0)
    assert (outcome.status, outcome.answer, outcome.error_code) == ("failed", None, "stream_cut")
    assert outcome.cost_usd == pytest.approx(9e-6 + 2 * 2e-6)
    assert outcome.can_fall_back, "the client has seen nothing, so another model may answer"


async def test_a_cut_tool_call_costs_what_had_come() -> None:
    """Arguments of calls are output like text, in every choice; an early report is of the beginning only."""
    core, arguments = Core(), '{"city": "' + "word " * 99
    piece = chunk(delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": arguments}}]))
    early = {**piece, "usage": {"prompt_tokens": 9, "completion_tokens": 1}}
    core.providers.will(A, [piece, failure("stream_cut")], [early, failure("stream_cut")])
    cut = await core.caller.call(context(core), "sim/a", seq=0)
    assert cut.attempts[0].usage == Usage(profile("Simple question").prompt_tokens, 105)
    assert (await core.caller.call(context(core), "sim/a", seq=1)).attempts[0].usage == Usage(9, 105)


async def test_a_paid_answer_survives_a_check_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quality is unknown then; the client has its answer, and the row its cost."""

    def broken(*_: object) -> float:
        raise TypeError("no such shape")

    monkeypatch.setattr("activities.requests.call.answer_quality", broken)
    core = Core()
    outcome = await core.caller.call(context(core), "sim/a", seq=0)
    assert (outcome.status, outcome.quality, outcome.success) == ("completed", None, True)
    assert outcome.cost_usd == pytest.approx(COST_USD)


async def test_a_cut_after_the_first_byte_may_be_resumed() -> None:
    """The client has a part, and keeps it: another call may go on behind the same text."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [*WORDS[:3], failure("stream_cut")])
    outcome = await core.caller.call(context(core, sink=sink), "sim/a", seq=0)
    assert outcome.can_fall_back
    assert [chunk["choices"][0]["delta"].get("content") for chunk in await read(sink)] == ["", "one", " two"]


async def test_a_failure_before_content_leaves_the_client_untouched() -> None:
    """The role chunk alone is held back, so that the fallback's answer is the only one."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, [WORDS[0], failure()])
    outcome = await core.caller.call(context(core, sink=sink), "sim/a", seq=0)
    assert outcome.can_fall_back
    assert not sink.transcript.started
    assert await read(sink) == []


async def test_an_empty_answer_still_reaches_the_client() -> None:
    """Chunks without content are given out at the end."""
    core, sink = Core(), ChunkSink()
    core.providers.will(A, stream(""))
    await core.caller.call(context(core, sink=sink), "sim/a", seq=0)
    assert len(await read(sink)) == 4


async def test_a_canceled_call_reports_its_cost_and_the_task_goes_on() -> None:
    """Cancelling stops the upstream call; the outcome, and what had been generated, is still there to record."""
    core, endless = Core(), asyncio.Event()
    core.providers.will(A, [*WORDS[:2], endless])

    async def work() -> tuple[Any, bool]:
        outcome = await core.caller.call(context(core), "sim/a", seq=4)
        await asyncio.sleep(0)  # would raise, were the cancellation still pending
        async with asyncio.timeout(30.0):
            await asyncio.sleep(0)
        return outcome, True

    task = asyncio.create_task(work())
    await until(lambda: bool(core.providers.made))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    outcome, went_on = await task
    assert went_on
    assert (outcome.status, outcome.error_code, outcome.attempts[0].seq) == ("canceled", "request_canceled", 4)
    assert outcome.cost_usd == pytest.approx(9e-6 + 2e-6)
    assert (outcome.attempts[0].status, outcome.attempts[0].error_type) == ("canceled", "canceled")
    assert core.providers.made[0].closed


async def test_the_total_time_ends_a_call() -> None:
    """`totalMs` bounds the request; nobody else may go on after it."""
    core = Core()
    core.providers.will(A, [asyncio.Event()])
    outcome = await core.caller.call(context(core, left_s=0.01), "sim/a", seq=0)
    assert (outcome.status, outcome.error_code, outcome.can_fall_back) == ("failed", "timeout_total", False)
    assert core.providers.made[0].closed


async def test_a_provider_that_cannot_be_configured_is_a_failed_attempt() -> None:
    """A provider that was deleted meanwhile makes the request fall back, not crash."""
    core = Core()
    core.configuration.failure = NotFound("There is no such provider.")
    outcome = await core.caller.call(context(core), "sim/a", seq=0)
    assert (outcome.status, outcome.error_code, outcome.can_fall_back) == ("failed", "configuration", True)
    assert core.providers.made == []


NOW = failure("server_error", Remedy.RETRY_SAME, retry_after_s=0.0)


@pytest.mark.parametrize(
    ("errors", "retries", "calls", "status"),
    [
        ([NOW], 1, 2, "completed"),
        ([NOW, NOW], 2, 3, "completed"),
        ([NOW, NOW], 1, 2, "failed"),
        ([NOW], 0, 1, "failed"),
        ([failure("server_error", Remedy.RETRY_SAME, retry_after_s=6.0)], 1, 1, "failed"),
        ([failure("rate_limited", Remedy.FALL_BACK)], 1, 1, "failed"),
        ([failure("bad_request", Remedy.GIVE_UP)], 1, 1, "failed"),
    ],
)
async def test_only_transient_failures_repeat_the_same_model(
    errors: list[Exception], retries: int, calls: int, status: str
) -> None:
    """At most `sameModelRetries` times, never after a long Retry-After, never for what a repeat cannot mend."""
    core = Core()
    core.providers.will(A, *([error] for error in errors), stream())
    outcome = await core.caller.first_phase(context(core, same_model_retries=retries))
    assert (len(core.providers.made), outcome.status) == (calls, status)
    assert [attempt.seq for attempt in outcome.attempts] == list(range(calls))
    assert 29_000.0 < outcome.remaining_ms <= 30_000.0


async def test_no_repeat_when_the_time_is_too_short_for_it() -> None:
    """A wait that would outlast the request is not begun."""
    core = Core()
    core.providers.will(A, [failure("rate_limited", Remedy.RETRY_SAME, retry_after_s=4.0)], stream())
    outcome = await core.caller.first_phase(context(core, same_model_retries=1, left_s=2.0))
    assert (outcome.status, len(core.providers.made)) == ("failed", 1)


async def test_every_attempt_of_the_phase_is_paid() -> None:
    """The cut attempt's words and the answer's tokens add up."""
    core = Core()
    core.providers.will(A, [*WORDS[:2], NOW], stream())
    outcome = await core.caller.first_phase(context(core, same_model_retries=1))
    assert outcome.cost_usd == pytest.approx(COST_USD + 9e-6 + 2e-6)


async def test_a_cancellation_between_two_calls_ends_the_phase() -> None:
    """Nothing more is called for a client that has left during the wait."""
    core = Core()
    core.providers.will(A, [failure("server_error", Remedy.RETRY_SAME, retry_after_s=5.0)], stream())
    caller: ModelCaller = core.caller
    task = asyncio.create_task(caller.first_phase(context(core, same_model_retries=1)))
    await until(lambda: bool(core.providers.made) and core.providers.made[0].closed)
    task.cancel()
    outcome = await task
    assert (outcome.status, len(core.providers.made)) == ("failed", 1)
