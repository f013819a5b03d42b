"""A model with several deployments or keys: failures go to another one, and rate-limited ones rest."""

from dataclasses import replace
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.requests.balancer import LoadBalancer
from activities.requests.call import ModelCaller
from activities.requests.deployments import Target
from modelpilot.providers.deployments import Deployment, ProviderFacts
from modelpilot.providers.retries import BudgetRules, RetryBudget
from modelpilot.requests.outcome import Attempt, ProviderError, Remedy
from modelpilot.requests.route_request import FallbackInput
from tests.support.core import A, B, Core, ManualClock, failure, received, routed
from tests.support.processes import until
from tests.support.routing_samples import OWNER, plan, request, spec, stream

EAST, WEST = {"provider": "east"}, {"provider": "west", "providerModel": "a2", "priority": 1}
BOTH = spec("sim/a", quality_score=0.9, deployments=[EAST, WEST])
NOW = failure("server_error", Remedy.RETRY_SAME)
LIMITED = failure("rate_limited", http_status=429, retry_after_s=30.0)


def core_of(model: Any = BOTH, keys: int = 1, **changes: Any) -> Core:
    """A gateway whose best model is this one; its providers have so many keys each, sim/b's just one."""
    plain = routed(**{"same_model_retries": 1, **changes})
    facts = {name: ProviderFacts("simulator", keys) for name in ("east", "west", "simulator")}
    core = Core(replace(plain, models={**plain.models, "sim/a": model}, providers=facts))
    core.configuration.key_counts = dict.fromkeys(facts, keys)
    core.providers.scripts["a2"] = [stream()]
    return core


async def no_waiting(wait_s: float) -> bool:
    """Fail where a wait before a repeat is begun."""
    raise AssertionError(f"waited for {wait_s} s")


@pytest.mark.parametrize(
    "error",
    [
        NOW,
        LIMITED,
        failure("timeout_first_token"),
        failure("not_found", http_status=404),
        failure("authentication", http_status=401, refused="key"),
    ],
    ids=lambda error: error.error_type,
)
async def test_another_deployment_answers_at_once(error: ProviderError) -> None:
    """Whatever speaks of the deployment and not of the request; both attempts say where they went."""
    core = core_of()
    core.sleep = no_waiting
    core.providers.will(A, [error])
    outcome = await core.answer()
    assert (outcome.status, outcome.model, outcome.provider) == ("completed", "sim/a", "west")
    assert [(attempt.provider, attempt.deployment) for attempt in outcome.attempts] == [
        ("east", "east/a"),
        ("west", "west/a2"),
    ]
    assert core.providers.models == ["a", "a2"]


@pytest.mark.parametrize(
    ("error", "retries"),
    [(failure("bad_request", Remedy.GIVE_UP), 1), (failure("content_filter"), 1), (NOW, 0)],
    ids=["bad_request", "content_filter", "no_retries"],
)
async def test_what_no_deployment_mends_goes_to_none(error: ProviderError, retries: int) -> None:
    """The request's own faults, and anything beyond `sameModelRetries`."""
    core = core_of(same_model_retries=retries)
    core.providers.will(A, [error])
    assert len((await core.answer()).attempts) == 1
    assert core.providers.models == ["a"]


async def test_a_rate_limited_deployment_rests() -> None:
    """Retry-After 30: for that long nobody calls it while the other one serves; then it is the first again."""
    core = core_of()
    core.providers.will(A, [LIMITED], stream())
    assert len((await core.answer()).attempts) == 2
    assert [(await core.answer()).attempts[0].deployment for _ in range(3)] == ["west/a2"] * 3
    (east, west) = core.health.snapshot(OWNER)
    assert (east.deployment, east.excluded_because, east.next_probe_s) == (
        "east/a",
        "rate limited, next try in 30 s",
        30.0,
    )
    assert (west.deployment, west.excluded_because) == ("west/a2", None)
    core.clock.now_s += 30.0
    assert (await core.answer()).attempts[0].deployment == "east/a"


@pytest.mark.parametrize(("retry_after_s", "rests_s"), [(None, 7.0), (0.0, 0.0), (86_400.0, 600.0)])
async def test_how_long_it_rests(retry_after_s: float | None, rests_s: float) -> None:
    """Its own `cooldownSeconds` where the provider does not say; a provider's word up to ten minutes."""
    core = core_of(spec("sim/a", quality_score=0.9, deployments=[{**EAST, "cooldownSeconds": 7}, WEST]))
    core.providers.will(A, [failure("rate_limited", http_status=429, retry_after_s=retry_after_s)])
    await core.answer()
    assert core.health.snapshot(OWNER)[0].next_probe_s == rests_s


@pytest.mark.parametrize(
    ("kind", "retry_after_s", "next_one"),
    [("rate_limited", None, "sim/a"), ("rate_limited", 30.0, "sim/b"), ("overloaded", 30.0, "sim/b")],
)
async def test_an_only_deployment_rests_where_it_is_asked_to(
    kind: str, retry_after_s: float | None, next_one: str
) -> None:
    """One deployment is nothing to be chosen from, but another model is; without a word of the provider it goes on."""
    core = core_of(A)
    core.providers.will(A, [failure(kind, retry_after_s=retry_after_s)], stream())
    await core.answer()
    assert [(await core.answer()).model for _ in range(3)] == [next_one] * 3
    core.clock.now_s += 30.0
    assert (await core.answer()).model == "sim/a"


@pytest.mark.parametrize(
    ("later", "began_s"),
    [("ok", -1.0), ("ok", 1.0), ("shorter", -1.0), ("shorter", 1.0), ("unasked", 1.0), ("other", 1.0)],
)
async def test_what_a_provider_asked_for_is_kept(later: str, began_s: float) -> None:
    """Neither a success, begun before or after, nor a 429 that asks for less, nor another failure makes it shorter."""
    health, target, clock = Core().health, Target(OWNER, "sim/a", Deployment("simulator", "a")), ManualClock()
    health.clock = clock
    balancer = LoadBalancer(Core().cache, health)
    limited, other = (Attempt(0, "sim/a", "simulator", "error", kind) for kind in ("rate_limited", "server_error"))
    await balancer.learn(target, limited, clock(), retry_after_s=30.0, refused=None, alone=False)
    clock.now_s += 2.0
    attempt = {"ok": Attempt(0, "sim/a", "simulator", "ok"), "other": other}.get(later, limited)
    asked_s = 3.0 if later == "shorter" else None
    began = clock() - 2.0 + began_s
    await balancer.learn(target, attempt, began, retry_after_s=asked_s, refused=None, alone=True)
    assert health.why_not(target) == "rate limited, next try in 28 s"
    clock.now_s += 28.0
    assert health.why_not(target) is None


async def test_our_own_guess_ends_with_a_success() -> None:
    """Nobody asked for the configured rest: a call that began in it and succeeded ends it, one from before does not."""
    core = core_of()
    target = Target(OWNER, "sim/a", Deployment("east", "a"))
    core.health.cool_down(target, None, core.clock())
    answered = Attempt(0, "sim/a", "east", "ok")
    core.health.record(target, answered, core.clock() - 1.0)
    assert core.health.why_not(target) is not None
    core.health.record(target, answered, core.clock())
    assert core.health.why_not(target) is None


@pytest.mark.parametrize("during_the_wait", [False, True])
async def test_a_repeat_keeps_to_the_longest_wish(during_the_wait: bool) -> None:
    """Before or while a request waits for its short Retry-After, another call is asked for half a minute."""
    core = core_of(A)
    target = Target(OWNER, "sim/a", Deployment("simulator", "a"))

    async def waited(_: float) -> bool:
        core.health.cool_down(target, 30.0, core.clock())
        return True

    core.sleep = waited if during_the_wait else no_waiting
    core.providers.will(A, [failure("rate_limited", Remedy.RETRY_SAME, retry_after_s=1.0)])
    if not during_the_wait:
        core.health.cool_down(target, 30.0, core.clock())
        core.health.cool_down(Target(OWNER, "sim/b", Deployment("simulator", "b")), 60.0, core.clock())
    assert len((await core.answer()).attempts) == 1


async def test_a_model_is_left_out_when_all_its_deployments_rest() -> None:
    """The reason names each; where nothing else is left, the one that is soonest well again is called."""
    core = core_of()
    core.providers.will(A, [LIMITED], stream())
    core.providers.scripts["a2"] = [[failure("rate_limited", http_status=429, retry_after_s=90.0)]]
    await core.answer()
    decision = (await core.submissions.decide(received())).decision
    assert decision.selected == "sim/b"
    (reason,) = (c.excluded_because for c in decision.candidates if c.model == "sim/a")
    assert reason == "east/a: rate limited, next try in 30 s; west/a2: rate limited, next try in 90 s"
    shot = core.configuration.shot
    core.configuration.shot = replace(shot, router=shot.router.model_copy(update={"available_models": ["sim/a"]}))
    core.cache.drop("router", OWNER, "support")
    assert (await core.answer()).attempts[0].deployment == "east/a"


async def test_a_repeat_stays_where_no_other_deployment_is_well() -> None:
    """With the other one broken it goes as with one deployment: the same again, after the wait."""
    core = core_of()
    for _ in range(5):
        attempt = Attempt(0, "sim/a", "west", "error", "server_error")
        core.health.record(Target(OWNER, "sim/a", Deployment("west", "a2")), attempt, core.clock())
    core.providers.will(A, [failure("rate_limited", Remedy.RETRY_SAME, retry_after_s=0.01)], stream())
    outcome = await core.answer()
    assert [attempt.deployment for attempt in outcome.attempts] == ["east/a", "east/a"]


async def test_going_elsewhere_needs_no_retry_budget() -> None:
    """Like a fallback, it adds nothing to the load of what has failed."""
    core = core_of()
    budget = RetryBudget(BudgetRules(share=0.0, floor=0), ManualClock())
    core.controller.caller = ModelCaller(core.providers, core.cache, core.health, budget)
    core.providers.will(A, [NOW])
    assert (await core.answer()).provider == "west"


@pytest.mark.parametrize(("kind", "refused"), [("authentication", "key"), ("rate_limited", "credit")])
async def test_a_refused_key_leaves_the_others(kind: str, refused: Any) -> None:
    """The second key answers; the first is skipped for every model, and only it is; a new configuration frees it."""
    core = core_of(A, keys=2)
    core.providers.will(A, [failure(kind, refused=refused)], stream())
    outcome = await core.answer()
    first, second = (made.call.endpoint for made in core.providers.made)
    assert {first.api_key, second.api_key} == {"provider-secret-0", "provider-secret-1"}
    assert [attempt.deployment for attempt in outcome.attempts] == [
        f"simulator/a#{first.key_index + 1}",
        f"simulator/a#{second.key_index + 1}",
    ]
    assert core.health.unhealthy_keys(OWNER) == (f"simulator#{first.key_index + 1}",)
    for _ in range(8):
        await core.answer()
    assert [made.call.endpoint.key_index for made in core.providers.made[2:]] == [second.key_index] * 8
    deployments = [Deployment("simulator", "b", index, 2) for index in range(2)]
    assert core.health.why_none(OWNER, "sim/b", deployments) is None
    assert core.health.why_none(OWNER, "sim/b", [deployments[first.key_index]]) is not None
    core.cache.drop("provider", OWNER, "simulator")
    assert core.health.unhealthy_keys(OWNER) == ()


async def test_a_refused_model_leaves_the_provider_s_others() -> None:
    """A plan or a tier: this model is skipped with this key, for five minutes; nothing else of the provider is."""
    core = core_of(A)
    core.providers.will(A, [failure("permission", http_status=403, refused="model")], stream())
    assert (await core.answer()).model == "sim/b"
    assert core.health.unhealthy_keys(OWNER) == ()
    at_a, at_b = Deployment("simulator", "a"), Deployment("simulator", "b")
    assert core.health.why_none(OWNER, "sim/a", [at_a]) == "provider simulator refused this model, next try in 300 s"
    assert core.health.why_none(OWNER, "sim/b", [at_b]) is None
    assert core.health.snapshot(OWNER)[0].next_probe_s == 300.0
    core.clock.now_s += 300.0
    assert (await core.answer()).model == "sim/a"
    assert core.health.why_none(OWNER, "sim/a", [at_a]) is None


async def test_a_provider_is_out_when_all_its_keys_are() -> None:
    """Both were refused: decisions leave out every model that is served there only."""
    core = core_of(A, keys=2)
    core.providers.will(A, [failure("authentication", http_status=401, refused="key")])
    await core.answer()
    decision = (await core.submissions.decide(received())).decision
    reasons = {c.model: c.excluded_because or "" for c in decision.candidates}
    assert decision.selected == "sim/a"  # the best is tried where all are out
    assert "simulator/b#1: provider simulator#1 refused its API key" in reasons["sim/b"]
    assert "simulator/b#2: provider simulator#2 refused its API key" in reasons["sim/b"]


async def test_a_begun_stream_is_continued_by_who_began_it() -> None:
    """The same deployment is the likeliest to write the same words again, which verified resume needs."""
    core = core_of()
    core.providers.will(
        A, [*stream("one two three")[:3], failure("stream_cut", Remedy.RETRY_SAME)], stream("one two three")
    )
    outcome = await core.answer(fields={"stream": True})
    assert [attempt.deployment for attempt in outcome.attempts] == ["east/a", "east/a"]
    assert outcome.status == "completed"


@pytest.mark.parametrize(("deployments", "waits"), [([], True), ([EAST, WEST], False)])
async def test_a_fallback_waits_for_its_provider_only_where_it_must(deployments: list[Any], waits: bool) -> None:
    """A Retry-After is no reason to wait while another deployment of the same model is well."""
    core = Core()
    other = spec("sim/b", provider_model="b", deployments=deployments)
    core.providers.will(A, [failure()])
    core.providers.will(B, [LIMITED])
    flight = core.launched(request(replace(plan(A, other), total_ms=120_000)))
    await until(lambda: flight.key in core.workflows.handed_over)
    work = FallbackInput(flight.request, await core.recovery.first_phase(flight.request))
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(core.own_steps.call_fallback, work)
    assert (caught.value.next_retry_delay is not None) is waits


async def test_a_recovery_knows_the_keys_as_they_are_now() -> None:
    """A worker takes over: it asks for the providers of the plan, and shares the load like the first one."""
    core = Core()
    other = Core(like=core, instance="worker-1")
    other.configuration.key_counts = {"simulator": 2}
    core.leases.alive.discard("gw-1")
    context = await other.recovery.context(request(plan(A)), 1_000.0)
    assert context.providers == {"simulator": ProviderFacts("simulator", 2)}
    outcome = await other.recovery.first_phase(request(plan(A)))
    assert outcome.attempts[0].deployment in ("simulator/a#1", "simulator/a#2")


async def test_a_recovery_goes_on_without_a_provider_that_is_gone() -> None:
    """A deployment whose provider was deleted meanwhile is skipped."""
    core = core_of()
    gone = {"east": ProviderFacts(unavailable="provider east is not configured"), "west": ProviderFacts("simulator")}
    core.configuration.shot = replace(core.configuration.shot, providers=gone)
    assert [attempt.deployment for attempt in (await core.answer()).attempts] == ["west/a2"]
