"""What can go wrong at a provider, and what has to happen then: one table for `bench faults` and the fault tests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

# The sixteen faults of the field, as the table of `bench faults` names them. The last two need more than one request
# or more than one fault: `fault_flapping` and the scenario "accounting".
RATE_LIMIT_TIMED, RATE_LIMIT, ONCE, FOR_EVER = "429 with Retry-After", "429 without", "500 once", "503 for ever"
RESET, SILENCE, SLOW, CUT, STALL = "reset", "silence", "slow first token", "cut", "stall"
MALFORMED, NO_DONE, CONTEXT, FILTER = "malformed chunk", "no [DONE]", "context length", "content filter"
PREFILL, FLAPPING, ACCOUNTING = "prefill-averse fallback", "flapping", "accounting"
FAULTS = (
    RATE_LIMIT_TIMED, RATE_LIMIT, ONCE, FOR_EVER, RESET, SILENCE, SLOW, CUT, STALL, MALFORMED, NO_DONE, CONTEXT, FILTER,
    PREFILL, FLAPPING, ACCOUNTING,
)  # fmt: skip
# Beside the sixteen: a 200 that is no answer.
NO_ANSWER = "200 without an answer"

ANSWER_TOKENS = 60
# No fallback here has to think: whatever takes long is the fault.
QUICK = "medium+latency5"
# Short, so that nobody waits long for silence; far longer than a busy machine keeps a healthy answer waiting.
SILENT_AFTER_MS = 1_000
IMPATIENT = {"firstTokenMs": SILENT_AFTER_MS, "idleMs": SILENT_AFTER_MS, "totalMs": 60_000}
PATIENT = {"firstTokenMs": 20_000, "idleMs": 20_000, "totalMs": 60_000}
# The jittered wait before the first and the second repeat is at least half of 250 and 500 ms
# (modelpilot/providers/retries.py).
LEAST_JITTERED_S = (0.125, 0.25)


@dataclass(frozen=True, slots=True)
class Expected:
    """One provider call: which of the scenario's models, how it fails (None: it answers), whether it cost something."""

    model: int
    error: str | None = None
    produced: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """One request. `models` are the simulator's, faults included: the first is called, `fallbacks` are positions.

    Without `error` the client must get the whole answer of the last call; otherwise exactly this status and code, a
    streamed error after the first byte having status 200. `gaps_s` are the least seconds between one call and the next.
    """

    name: str
    fault: str
    models: tuple[str, ...]
    calls: tuple[Expected, ...]
    fallbacks: tuple[int, ...] | None = None
    retry_attempts: int | None = None
    same_model_retries: int = 1
    timeouts: Mapping[str, int] = field(default_factory=lambda: PATIENT)
    stream: bool = False
    error: tuple[int, str] | None = None
    says: str = ""  # words of the provider's reason that the error must pass on
    finish: str = "stop"
    gaps_s: tuple[float, ...] = ()
    prompt_words: int = 0

    @property
    def fallback_positions(self) -> Sequence[int]:
        """All models behind the first, in order, unless the scenario says otherwise."""
        return range(1, len(self.models)) if self.fallbacks is None else self.fallbacks

    def router_fields(self, model_ids: Sequence[str]) -> dict[str, Any]:
        """The router's body, without its id."""
        fallbacks = [model_ids[position] for position in self.fallback_positions]
        attempts = len(fallbacks) if self.retry_attempts is None else self.retry_attempts
        return {
            "mode": "preferredModel",
            "preferredModel": model_ids[0],
            "availableModels": list(dict.fromkeys(model_ids)),
            "fallbackStrategy": {"fallbackModels": fallbacks, "retryAttempts": attempts},
            "timeouts": dict(self.timeouts),
            "sameModelRetries": self.same_model_retries,
        }


def provider_model(model: str) -> str:
    """The simulator's model of a known length."""
    base, _, faults = model.partition("+")
    return f"{base}+tokens{ANSWER_TOKENS}" + (f"+{faults}" if faults else "")


def undisturbed(model: str) -> str:
    """The same without what breaks it: its answer is what a client should get."""
    base, _, faults = model.partition("+")
    kept = "+filtered" if "filtered" in faults.split("+") else ""
    return f"{base}+tokens{ANSWER_TOKENS}+latency0{kept}"


def _ok(model: int) -> Expected:
    return Expected(model)


def _fails(model: int, error: str, *, produced: bool = False) -> Expected:
    return Expected(model, error, produced)


def _both(scenario: Scenario) -> tuple[Scenario, Scenario]:
    """The same for a client that streams: what fails before the first byte must look the same to it."""
    return scenario, replace(scenario, name=f"{scenario.name}-stream", stream=True)


def _limited(name: str, faults: str, least_s: float) -> Scenario:
    calls = (_fails(0, "rate_limited"), _ok(0))
    return Scenario(name, RATE_LIMIT_TIMED, (f"small+429x1+{faults}", QUICK), calls, gaps_s=(least_s,))


def _rate_limits() -> list[Scenario]:
    failed = _fails(0, "rate_limited")
    once, twice = LEAST_JITTERED_S
    return [
        _limited("retry-after-seconds", "retryafter=2", 2.0),
        _limited("retry-after-date", "retrydate2", 0.9),  # HTTP dates have whole seconds: one may be lost
        _limited("retry-after-negative", "retryafter=-1", once),
        _limited("retry-after-garbage", "retryafter=soon", once),
        _limited("retry-after-past", "retrydate-100", 0.0),
        *_both(
            Scenario("retry-after-9999", RATE_LIMIT_TIMED, ("small+429+retryafter=9999", QUICK), (failed, _ok(1)))
        ),
        *_both(Scenario("429-fallback", RATE_LIMIT, ("small+429", QUICK), (failed, failed, _ok(1)), gaps_s=(once,))),
        Scenario(
            "429-persistent", RATE_LIMIT, ("small+429",), (failed,) * 3, same_model_retries=2,
            error=(502, "provider_failed"), gaps_s=(once, twice),
        ),
        # The model is its own fallback: the first at once, then the durable waits.
        Scenario(
            "429-own-fallback", RATE_LIMIT, ("small+429",), (failed,) * 4, fallbacks=(0,), retry_attempts=3,
            same_model_retries=0, error=(502, "provider_failed"), gaps_s=(0.0, 1.0, 2.0),
        ),
    ]  # fmt: skip


def _server_errors() -> list[Scenario]:
    failed, reset = _fails(0, "server_error"), _fails(0, "connection_error")
    return [
        *_both(Scenario("500-once", ONCE, ("small+500x1", QUICK), (failed, _ok(0)))),
        *_both(Scenario("503-fallback", FOR_EVER, ("small+503", QUICK), (failed, failed, _ok(1)))),
        *_both(Scenario("503-alone", FOR_EVER, ("small+503",), (failed,) * 2, error=(502, "provider_failed"))),
        Scenario(
            "503-everywhere", FOR_EVER, ("small+503", "medium+503"),
            (failed, *(_fails(1, "server_error"),) * 3), retry_attempts=3, same_model_retries=0,
            error=(502, "provider_failed"), gaps_s=(0.0, 1.0, 2.0),
        ),
        *_both(Scenario("reset-fallback", RESET, ("small+reset", QUICK), (reset, reset, _ok(1)))),
        Scenario("reset-once", RESET, ("small+resetx1", QUICK), (reset, _ok(0))),
    ]  # fmt: skip


def _silences() -> list[Scenario]:
    silent, idle = _fails(0, "timeout_first_token"), _fails(0, "timeout_idle", produced=True)
    alone = (504, "provider_timeout")
    late = ("small+firsttoken60000", QUICK)
    return [
        *_both(Scenario("hang-fallback", SILENCE, ("small+hang", QUICK), (silent, _ok(1)), timeouts=IMPATIENT)),
        *_both(Scenario("hang-alone", SILENCE, ("small+hang",), (silent,), timeouts=IMPATIENT, error=alone)),
        *_both(Scenario("slow-within", SLOW, ("small+firsttoken700", QUICK), (_ok(0),))),
        *_both(Scenario("slow-beyond", SLOW, late, (silent, _ok(1)), timeouts=IMPATIENT)),
        Scenario("stall-resumed", STALL, ("small+stall40", "small"), (idle, _ok(1)), timeouts=IMPATIENT, stream=True),
        Scenario("stall-whole", STALL, ("small+stall40", QUICK), (idle, _ok(1)), timeouts=IMPATIENT),
        Scenario("stall-alone", STALL, ("small+stall40",), (idle,), timeouts=IMPATIENT, error=alone),
        Scenario(
            "stall-alone-stream", STALL, ("small+stall40",), (idle,), timeouts=IMPATIENT, stream=True,
            error=(200, "provider_timeout"),
        ),
    ]  # fmt: skip


def _broken_streams() -> list[Scenario]:
    cut, bad = _fails(0, "stream_cut", produced=True), _fails(0, "malformed_response", produced=True)
    failed = (200, "provider_failed")
    return [
        Scenario("cut-same", CUT, ("small+cut40x1", "small"), (cut, _ok(0)), stream=True),
        Scenario("cut-fallback", CUT, ("small+cut40", "small"), (cut, cut, _ok(1)), stream=True),
        Scenario("cut-whole", CUT, ("small+cut40", QUICK), (cut, cut, _ok(1))),
        Scenario("cut-alone", CUT, ("small+cut40",), (cut,), stream=True, same_model_retries=0, error=failed),
        Scenario("malformed-same", MALFORMED, ("small+malformed40x1", "small"), (bad, _ok(0)), stream=True),
        Scenario("malformed-fallback", MALFORMED, ("small+malformed40", "small"), (bad, bad, _ok(1)), stream=True),
        Scenario("malformed-whole", MALFORMED, ("small+malformed40", QUICK), (bad, bad, _ok(1))),
        *_both(Scenario("no-done", NO_DONE, ("small+nodone", QUICK), (_ok(0),))),
        # Neither the mark nor the end of the connection: nobody may wait for either.
        *_both(Scenario("no-done-open", NO_DONE, ("small+nodone+linger", QUICK), (_ok(0),))),
        Scenario("prefill-averse", PREFILL, ("small+cut40", "small+noprefill"), (cut, cut, _ok(1)), stream=True),
        Scenario(
            "accounting", ACCOUNTING, ("small+503", "small+cut40", "small"),
            (_fails(0, "server_error"), _fails(1, "stream_cut", produced=True), _ok(2)), same_model_retries=0,
            stream=True, gaps_s=(0.0, 1.0),
        ),
        Scenario(
            "accounting-whole", ACCOUNTING, ("small+503", "small+cut40", QUICK),
            (_fails(0, "server_error"), _fails(1, "stream_cut", produced=True), _ok(2)), same_model_retries=0,
        ),
    ]  # fmt: skip


def _refusals() -> list[Scenario]:
    long, filtered = _fails(0, "context_length"), _fails(0, "content_filter")
    larger = ("small", "large+latency5")  # the windows of 16,384 and 262,144 tokens
    words = 20_000
    return [
        *_both(Scenario("context-fallback", CONTEXT, larger, (long, _ok(1)), prompt_words=words)),
        *_both(
            Scenario(
                "context-alone", CONTEXT, ("small",), (long,), prompt_words=words,
                error=(400, "context_length_exceeded"),
                says="maximum context length is 16384 tokens",
            )
        ),
        *_both(Scenario("filter-fallback", FILTER, ("small+filter", QUICK), (filtered, _ok(1)))),
        *_both(
            Scenario(
                "filter-alone", FILTER, ("small+filter",), (filtered,), error=(400, "content_filter"),
                says="the content filter",
            )
        ),
        *_both(Scenario("filter-midway", FILTER, ("small+filtered", QUICK), (_ok(0),), finish="content_filter")),
    ]  # fmt: skip


def _no_answers() -> list[Scenario]:
    kinds = {"errorbody": "server_error", "html": "malformed_response", "comments": "malformed_response"}
    cut = _fails(0, "stream_cut", produced=True)
    return [
        scenario
        for name, error in kinds.items()
        for scenario in _both(
            Scenario(f"200-{name}", NO_ANSWER, (f"small+{name}", QUICK), (*(_fails(0, error),) * 2, _ok(1)))
        )
    ] + [
        Scenario("200-truncated", NO_ANSWER, ("small+truncated", QUICK), (cut, cut, _ok(1))),
        Scenario("200-truncated-stream", NO_ANSWER, ("small+truncated", "small"), (cut, cut, _ok(1)), stream=True),
    ]


SCENARIOS: tuple[Scenario, ...] = (
    *_rate_limits(), *_server_errors(), *_silences(), *_broken_streams(), *_refusals(), *_no_answers(),
)  # fmt: skip
