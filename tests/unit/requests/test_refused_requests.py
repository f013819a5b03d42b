"""What happens where a model refuses a request: the next model is asked, and what was learnt is remembered."""

from dataclasses import replace
from typing import Any

import pytest

from activities.requests.failures import outcome_error
from activities.requests.refusals import OPTIONS_S, PARAMETER_S, Refusals
from modelpilot.errors import ModelPilotError
from modelpilot.providers.deployments import Deployment
from modelpilot.requests.outcome import ProviderError, Refused, Remedy
from tests.support.core import A, B, C, Core, ManualClock, failure, received, routed
from tests.support.routing_samples import OWNER, plan, request, spec, stream

HOT: dict[str, Any] = {"temperature": 0}
D = spec("sim/d", quality_score=0.3)


def refusal(refused: Refused = "request", kind: str = "bad_request", **details: Any) -> ProviderError:
    """A provider's 400 about its model."""
    return failure(kind, refused=refused, http_status=400, **details)


async def no_waiting(wait_s: float) -> bool:
    """Fail where a wait is begun."""
    raise AssertionError(f"waited for {wait_s} s")


def core_of(*fallbacks: str, **changes: Any) -> Core:
    """A gateway whose router would choose sim/a, then sim/b, then sim/c."""
    core = Core(routed(*fallbacks, **{"available_models": ["sim/a", "sim/b", "sim/c"], **changes}))
    core.sleep = no_waiting
    return core


async def excluded(core: Core, **fields: Any) -> dict[str, str]:
    """Why which candidates of a request with these fields are left out."""
    decision = (await core.submissions.decide(received(fields=fields))).decision
    return {c.model: c.excluded_because for c in decision.candidates if c.excluded_because is not None}


@pytest.mark.parametrize(
    ("fallbacks", "models"), [([], ["a", "b"]), (["sim/c"], ["a", "c"]), (["sim/a", "sim/c"], ["a", "c"])]
)
async def test_a_refusal_goes_on_to_the_next_model_at_once(fallbacks: list[str], models: list[str]) -> None:
    """The configured fallbacks first, then the decision's next candidates; in the first phase, without a wait, and
    both attempts are shown."""
    core = core_of(*fallbacks)
    core.providers.will(A, [refusal()])
    outcome = await core.answer(fields=HOT)
    assert (outcome.status, core.providers.models) == ("completed", models)
    assert [(each.seq, each.status, each.error_type) for each in outcome.attempts] == [
        (0, "error", "bad_request"),
        (1, "ok", None),
    ]
    assert outcome.attempts[0].cost_usd == 0.0
    assert core.workflows.handed_over == {}


@pytest.mark.parametrize("stream_it", [False, True])
async def test_several_refuse(stream_it: bool) -> None:
    """Each is asked once, also in a stream, of which nothing has left yet."""
    core = core_of()
    core.providers.will(A, [refusal()])
    core.providers.will(B, [refusal("model", "permission")])
    outcome = await core.answer(fields={"stream": stream_it})
    assert (outcome.status, core.providers.models) == ("completed", ["a", "b", "c"])


async def test_at_most_three_other_candidates_are_asked() -> None:
    """A request that nobody takes does not go through a whole catalogue."""
    core = core_of(available_models=["sim/a", "sim/b", "sim/c", "sim/d", "sim/e"])
    known = {each.id: each for each in (A, B, C, D, spec("sim/e", quality_score=0.2))}
    core.configuration.shot = replace(core.configuration.shot, models=known)
    for model in known.values():
        core.providers.will(model, [refusal()])
    assert (await core.answer()).status == "failed"
    assert core.providers.models == ["a", "b", "c", "d"]


async def test_where_all_refuse_the_first_reason_about_the_request_is_told() -> None:
    """400 with the provider's own message, code and parameter."""
    core = core_of("sim/b")
    core.providers.will(A, [refusal("model", "not_found")])
    core.providers.will(B, [refusal(code="unsupported_value", param="temperature")])
    core.providers.will(C, [refusal(code="other", param="other")])
    outcome = await core.answer(fields=HOT)
    assert (outcome.status, outcome.model, len(outcome.attempts)) == ("failed", "sim/b", 3)
    error = outcome_error(outcome, "r")
    assert (type(error).__name__, error.message) == ("RequestRefused", "the provider says bad_request")
    assert (error.code, error.param) == ("unsupported_value", "temperature")


async def test_a_refusal_of_the_body_is_the_end() -> None:
    """No other model would take it."""
    core = core_of("sim/b")
    core.providers.will(A, [failure("bad_request", Remedy.GIVE_UP, code="invalid_json")])
    assert (await core.answer()).provider_code == "invalid_json"
    assert core.providers.models == ["a"]


@pytest.mark.parametrize("changes", [{"mode": "preferredModel", "preferred_model": "sim/a"}, {"router_id": None}])
async def test_without_a_next_model_a_refusal_is_the_end(changes: dict[str, Any]) -> None:
    """A preferred model without fallbacks, or one that is called directly."""
    direct = {"router_id": None, "model_id": "sim/a"} if "router_id" in changes else {}
    core = core_of(**({"available_models": ["sim/a"]} if direct else changes))
    core.providers.will(A, [refusal()])
    assert (await core.answer(**direct)).status == "failed"
    assert core.providers.models == ["a"]


async def test_what_fails_otherwise_behind_a_refusal_falls_back_as_ever() -> None:
    """The next model has its own quick repeat; the fallback phase does not call again who refused."""
    core = core_of("sim/a", "sim/b", same_model_retries=1)
    core.sleep = _at_once
    core.workflows.up = False
    core.providers.will(A, [refusal()])
    core.providers.will(B, [failure("overloaded", Remedy.RETRY_SAME)], [failure("overloaded")], stream())
    outcome = await core.answer()
    assert (outcome.status, core.providers.models) == ("completed", ["a", "b", "b", "b"])
    assert [each.seq for each in outcome.attempts] == [0, 1, 2, 100]


async def _at_once(wait_s: float) -> bool:
    return True


async def test_a_refusal_by_a_fallback_goes_on_to_the_candidates() -> None:
    """The decided model is down, the fallback refuses: the next candidate answers."""
    core = core_of("sim/b")
    core.sleep = _at_once
    core.workflows.up = False
    core.providers.will(A, [failure("overloaded")])
    core.providers.will(B, [refusal()])
    outcome = await core.answer()
    assert (outcome.status, core.providers.models) == ("completed", ["a", "b", "c"])


async def test_a_fallback_that_refuses_does_not_hide_why_the_first_model_failed() -> None:
    """A client that comes back may have better luck with that one."""
    core = core_of("sim/b", available_models=["sim/a"])
    core.sleep = _at_once
    core.workflows.up = False
    core.providers.will(A, [failure("overloaded", http_status=503)])
    core.providers.will(B, [refusal()])
    outcome = await core.answer()
    assert (outcome.error_code, [each.seq for each in outcome.attempts]) == ("overloaded", [0, 100])
    assert core.providers.models == ["a", "b"]


async def test_the_next_call_is_claimed_and_not_made_without_the_ledger() -> None:
    """Who could not tell others of a call does not make it."""
    core = core_of()
    core.providers.will(A, [refusal()])
    core.leases.down = True
    assert (await core.answer()).status == "failed"
    assert core.providers.models == ["a"]


async def test_who_takes_over_goes_on_as_decided() -> None:
    """The first gateway died between the calls: a worker begins again and asks the models of the plan."""
    core = Core()
    work = request(replace(plan(A), specs=plan(A, C).specs, next_models=("sim/c",)))
    core.providers.will(A, [refusal()])
    core.leases.alive.discard("gw-1")
    outcome = await Core(like=core, instance="worker-1").recovery.first_phase(work)
    assert (outcome.status, [each.seq for each in outcome.attempts]) == ("completed", [0, 1])
    assert core.providers.models == ["a", "c"]


async def test_a_named_parameter_is_remembered_where_another_model_took_it() -> None:
    """For ten minutes, any value of what is not supported, and nothing else."""
    core = core_of()
    core.providers.will(A, [refusal(code="unsupported_value", param="temperature")])
    await core.answer(fields=HOT)
    core.clock.now_s += 120.0
    assert await excluded(core, temperature=0.5) == {"sim/a": "refused `temperature` 2 minutes ago"}
    assert await excluded(core) == await excluded(core, top_p=0.5) == await excluded(core, temperature=None) == {}
    await core.answer(fields=HOT)
    assert core.providers.models == ["a", "b", "b"]
    core.clock.now_s += PARAMETER_S
    assert await excluded(core, **HOT) == {}


@pytest.mark.parametrize(("kind", "item"), [("provider", "simulator"), ("model", "sim/a"), (None, None)])
async def test_what_changes_is_asked_again(kind: str | None, item: str | None) -> None:
    """Somebody may have mended it; what others own changes nothing."""
    core = core_of()
    core.providers.will(A, [refusal(param="temperature")])
    await core.answer(fields=HOT)
    core.cache.drop(kind or "provider", "bob", item or "simulator")
    assert "sim/a" in await excluded(core, **HOT)
    core.cache.drop(kind, OWNER, item)
    assert await excluded(core, **HOT) == {}


async def test_a_value_that_is_out_of_range_is_remembered_alone() -> None:
    """A model that gives fewer tokens than were asked for serves who asks for less."""
    core = core_of()
    core.providers.will(A, [refusal(code="invalid_value", param="max_tokens")])
    await core.answer(fields={"max_tokens": 9_000})
    assert await excluded(core, max_tokens=9_000, top_p=1) == {"sim/a": "refused `max_tokens` 0 s ago"}
    assert await excluded(core, max_tokens=100) == {}


async def test_what_is_remembered_of_the_only_other_model_does_not_end_the_request() -> None:
    """It may have been a wrong guess; a refused call costs nothing."""
    core = core_of("sim/b", available_models=["sim/a"])
    place = (OWNER, "sim/b", Deployment("simulator", "b"))
    core.health.refusals.remember(*place, {"temperature": 0}, None)
    core.providers.will(A, [refusal()])
    assert (await core.answer(fields=HOT)).model == "sim/b"


async def test_a_value_that_nobody_takes_is_held_against_nobody() -> None:
    """Only another model's answer shows that the request was not at fault."""
    core = core_of()
    for model in (A, B, C):
        core.providers.will(model, [refusal(param="temperature")])
    await core.answer(fields={"temperature": 2})
    assert await excluded(core, temperature=2) == {}


async def test_a_parameter_that_does_not_exist_is_remembered_at_once() -> None:
    """The provider says that the model has none such: nobody else has to show it."""
    core = core_of(available_models=["sim/a"])
    core.providers.will(A, [refusal("parameter", param="temperature")])
    await core.answer(fields=HOT)
    core.configuration.shot = core_of().configuration.shot
    core.cache.drop("router", OWNER, "support")
    assert await excluded(core, **HOT) == {"sim/a": "refused `temperature` 0 s ago"}


@pytest.mark.parametrize("param", [None, "tools[0].function.parameters", "generation_config.top_k"])
async def test_without_a_plain_parameter_only_the_same_options_are_avoided(param: str | None) -> None:
    """Which of them it was nobody knows: equal values only, whatever the messages, and for two minutes."""
    core = core_of()
    tools = [{"type": "function", "function": {"name": "f"}}]
    fields: dict[str, Any] = {"temperature": 0, "tools": tools}
    known = {name: core.configuration.shot.models[name] for name in ("sim/a", "sim/b", "sim/c")}
    able = {name: each.model_copy(update={"capabilities": ["chat", "functions"]}) for name, each in known.items()}
    core.configuration.shot = replace(core.configuration.shot, models=able)
    core.providers.will(A, [refusal(param=param)])
    await core.answer(fields=fields)
    same = {**fields, "user": "u"}
    assert await excluded(core, **same) == {"sim/a": "refused a request with the same temperature, tools 0 s ago"}
    for other in ({"temperature": 0.1, "tools": tools}, {"temperature": 0}, {**fields, "top_p": 1}):
        assert await excluded(core, **other) == {}
    core.clock.now_s += OPTIONS_S
    assert await excluded(core, **same) == {}


async def test_what_was_in_the_messages_is_not_remembered() -> None:
    """A refusal of a request without any option says nothing about the next one."""
    core = core_of()
    core.providers.will(A, [refusal()], stream())
    await core.answer()
    assert await excluded(core) == {}


async def test_where_nothing_else_is_left_who_refused_is_asked_again() -> None:
    """What is remembered keeps nobody from an answer."""
    core = core_of(available_models=["sim/a", "sim/b"])
    core.providers.will(A, [refusal("parameter", param="temperature")], stream())
    core.providers.will(B, [refusal("parameter", param="temperature")])
    assert (await core.answer(fields=HOT)).status == "failed"
    assert (await core.answer(fields=HOT)).model == "sim/a"


def test_what_is_remembered_is_bounded() -> None:
    """Sixteen refusals of a model, and so many models: the oldest are forgotten."""
    refusals = Refusals(ManualClock(), maximum=2)
    deployment = Deployment("simulator", "a")
    for number in range(17):
        refusals.remember(OWNER, "sim/a", deployment, {"stop": [number]}, None)
    assert refusals.why_none(OWNER, "sim/a", [deployment], {"stop": [0]}) is None
    assert refusals.why_none(OWNER, "sim/a", [deployment], {"stop": [1]}) is not None
    for model in ("sim/b", "sim/c"):
        refusals.remember(OWNER, model, deployment, {"stop": [1]}, None)
    assert refusals.why_none(OWNER, "sim/a", [deployment], {"stop": [1]}) is None


@pytest.mark.parametrize(
    ("error", "name", "code"),
    [
        (refusal(code="their_code"), "RequestRefused", "their_code"),
        (refusal(), "RequestRefused", "provider_rejected"),
        (refusal(kind="context_length", code="string_above_max_length"), "RequestRefused", "context_length_exceeded"),
        (failure("content_filter", code="ResponsibleAI"), "RequestRefused", "content_filter"),
        (refusal("model", "not_found", code="model_not_found"), "ModelRefused", "model_not_found"),
        (refusal("model", "not_found"), "ModelRefused", "model_not_found"),
        (refusal("request", "not_found"), "ProviderFailed", "provider_failed"),
        (refusal("model", "permission"), "ProviderFailed", "provider_failed"),
        (failure("authentication", refused="key"), "ProviderFailed", "provider_failed"),
        (failure("answer_too_large", Remedy.GIVE_UP), "ProviderRejected", "provider_rejected"),
    ],
)
async def test_what_a_refusal_is_called(error: ProviderError, name: str, code: str) -> None:
    """The codes that clients know from the providers; what concerns our account there is a failure of the provider."""
    core = core_of(available_models=["sim/a"])
    core.providers.will(A, [error])
    shown: ModelPilotError = outcome_error(await core.answer(), "r")
    assert (type(shown).__name__, shown.code) == (name, code)
    assert shown.details["providerStatus"] == error.http_status
