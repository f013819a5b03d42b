"""Requests meet the manners of their model: what is sent, what the answer says of it, and what refusals teach."""

from dataclasses import replace
from typing import Any

import pytest

from activities.requests.deployments import Target
from activities.requests.manners import LearntManners, Prepared
from api.gateway.described import request_view
from infra.db.requests.rows import load_outcome
from modelpilot.errors import NoCandidate
from modelpilot.providers.deployments import Deployment, ProviderFacts
from modelpilot.providers.manners import Manners
from modelpilot.requests.outcome import Adjustment, ProviderError, Remedy
from modelpilot.requests.records import ProviderEndpoint
from modelpilot.wire.jsonb import dump
from tests.support.core import A, B, Core, ManualClock, failure, routed
from tests.support.routing_samples import OWNER, plan, profile, spec, stream

TARGET = Target(OWNER, "sim/a", Deployment("simulator", "a"))
SENT = Prepared({"messages": []}, Manners(stream_options=True), False, ())


def refusal(message: str, status: int = 400, remedy: Remedy = Remedy.GIVE_UP) -> ProviderError:
    """A provider's refusal of a body."""
    return ProviderError("bad_request", message, remedy, http_status=status)


def core_of(parameters: dict[str, Any] | None = None, *fallbacks: str, **changes: Any) -> Core:
    """A gateway whose best model has these manners."""
    shot = routed(*fallbacks, **changes)
    model = spec("sim/a", quality_score=0.9, parameters=parameters)
    facts = {"simulator": ProviderFacts("simulator")}
    return Core(replace(shot, models={**shot.models, "sim/a": model}, providers=facts))


async def test_what_was_adjusted_is_sent_said_and_kept() -> None:
    """The provider gets the fitted body; answer and record say so, also when they are read again."""
    core = core_of({"omit": ["seed"], "maxTokens": 5})
    outcome = await core.answer(fields={"seed": 1, "max_tokens": 9})
    sent = core.providers.made[0].call.body
    assert ("seed" in sent, sent["max_tokens"]) == (False, 5)
    assert outcome.adjusted == (
        Adjustment("seed", "sim/a", "dropped", "this model does not take it"),
        Adjustment("max_tokens", "sim/a", "clamped", "the model gives at most 5 tokens here"),
    )
    assert load_outcome(dump(outcome)) == outcome
    (stored,) = core.ledger.rows.values()
    assert request_view(stored)["adjusted"][0] == {
        "field": "seed",
        "model": "sim/a",
        "action": "dropped",
        "reason": "this model does not take it",
    }


async def test_only_the_model_that_answered_is_spoken_of() -> None:
    """What a fallback took as it was, was not adjusted."""
    core = core_of({"omit": ["seed"]}, "sim/b")
    core.workflows.up = False  # so that the fallback is made here
    core.providers.will(A, [failure()])
    outcome = await core.answer(fields={"seed": 1})
    assert (outcome.model, outcome.adjusted) == ("sim/b", ())
    assert core.providers.made[-1].call.body["seed"] == 1


async def test_a_strict_router_asks_another_model() -> None:
    """`strictParameters`: a model that cannot take a hint is excluded; where none is left, the field is named."""
    core = core_of({"omit": ["seed"]}, strict_parameters=True)
    assert (await core.answer(fields={"seed": 1})).model == "sim/b"
    alone = core_of({"omit": ["seed"]}, strict_parameters=True, available_models=["sim/a"])
    with pytest.raises(NoCandidate, match="cannot honour seed"):
        await alone.answer(fields={"seed": 1})


async def test_a_model_that_does_not_stream_is_asked_for_whole_answers() -> None:
    """Whoever waits for a stream gets it all at once."""
    core = core_of({"streams": False})
    await core.answer()
    assert core.providers.made[0].call.whole


@pytest.mark.parametrize("status", [400, 422])
async def test_a_refusal_of_what_we_added_is_repeated_without_it(status: int) -> None:
    """At once, as an attempt of its own, without counting as a repeat; and the next request knows."""
    core = core_of()
    core.providers.will(A, [refusal("unknown field: stream_options", status)], stream())
    outcome = await core.answer()
    assert [attempt.status for attempt in outcome.attempts] == ["error", "ok"]
    assert [made.call.whole for made in core.providers.made] == [False, True]
    assert len((await core.answer()).attempts) == 1


async def test_the_limit_is_said_under_its_other_name() -> None:
    """Once; a server that knows neither name is not asked for ever, and another model is."""
    core = core_of({"limitName": "max_completion_tokens"})
    core.providers.will(A, [refusal("unknown field: max_completion_tokens")])
    outcome = await core.answer(fields={"max_tokens": 9})
    assert [attempt.model for attempt in outcome.attempts] == ["sim/a", "sim/a", "sim/b"]
    assert "max_tokens" in core.providers.made[1].call.body


async def test_the_clients_own_words_are_refused_for_good() -> None:
    """A refusal that names nothing of ours is not repeated."""
    core = core_of()
    core.providers.will(A, [refusal("temperature is wrong")])
    outcome = await core.answer(fields={"temperature": 0.5})
    assert (outcome.status, len(outcome.attempts)) == ("failed", 1)


async def test_a_repeat_that_nobody_may_make_is_not_made() -> None:
    """It is claimed like any other call."""
    core = core_of()
    core.providers.will(A, [refusal("unknown field: stream_options")], stream())
    core.leases.down = True
    outcome = await core.answer()
    assert (outcome.status, len(core.providers.made)) == ("failed", 1)


async def test_a_recovery_knows_the_manners_as_well() -> None:
    """Whose address a provider has, and what its owner says of it."""
    core = core_of()
    core.configuration.base_url, core.configuration.parameters = "https://api.mistral.ai/v1", Manners(omit=("seed",))
    facts = await core.caller.look_up(OWNER, plan(A))
    assert facts == {"simulator": ProviderFacts("simulator", service="mistral", parameters=Manners(omit=("seed",)))}


def test_what_a_model_cannot_do_is_not_sent() -> None:
    """Where a provider has become another one since the decision, the call is refused, and another model may answer."""
    endpoint = ProviderEndpoint("p", "anthropic", "http://127.0.0.1:1", None)
    with pytest.raises(ProviderError, match="cannot honour: n") as caught:
        LearntManners().prepare(TARGET, A, endpoint, profile(n=2, seed=1), streamed=False, whole=False)
    assert (caught.value.error_type, caught.value.remedy) == ("bad_request", Remedy.FALL_BACK)


def test_what_was_learnt_is_forgotten_after_a_while() -> None:
    """The server may have been replaced meanwhile; of too many deployments the oldest go."""
    clock = ManualClock()
    learnt = LearntManners(keep_s=60.0, clock=clock, maximum=1)
    assert learnt.of(TARGET) is None
    assert learnt.learn(TARGET, SENT, refusal("no stream_options here"))
    assert learnt.of(TARGET) == Manners(stream_options=False)
    clock.now_s += 61.0
    assert learnt.of(TARGET) is None
    other = replace(TARGET, model="sim/b")
    for target in (TARGET, other):
        assert learnt.learn(target, SENT, refusal("no stream_options here"))
    assert (learnt.of(TARGET), learnt.of(other)) == (None, Manners(stream_options=False))


@pytest.mark.parametrize("error", [refusal("stream_options", 500), failure("server_error", http_status=400)])
def test_other_failures_teach_nothing(error: ProviderError) -> None:
    """Only a refused body does."""
    error.message = "stream_options"
    assert not LearntManners().learn(TARGET, SENT, error)


def test_the_other_model_is_known_by_its_own_refusals() -> None:
    """What one model taught says nothing about another one at the same server."""
    learnt = LearntManners()
    learnt.learn(TARGET, SENT, refusal("stream_options"))
    assert learnt.of(replace(TARGET, model=B.id)) is None
