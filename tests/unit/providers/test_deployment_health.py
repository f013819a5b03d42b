"""Breakers, refused keys and the retry budget within one gateway's core."""

from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.requests.call import ModelCaller
from activities.requests.deployments import KEY_COOL_DOWN_S, DeploymentHealth, Target
from modelpilot.management.resources import HealthScope
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.providers.deployments import Deployment
from modelpilot.providers.retries import BudgetRules, RetryBudget
from modelpilot.requests.outcome import Attempt, Remedy
from modelpilot.requests.route_request import FallbackInput
from tests.support.core import A, B, C, Core, ManualClock, failure, received, routed
from tests.support.processes import until
from tests.support.routing_samples import OWNER, plan, request, stream

AT_A = Target(OWNER, "sim/a", Deployment("simulator", "a"))
AT_B = Target(OWNER, "sim/b", Deployment("simulator", "b"))


def break_down(core: Core, deployment: Target = AT_A) -> None:
    """Five failures in a row."""
    for _ in range(5):
        attempt = Attempt(0, deployment.model, deployment.provider, "error", "server_error")
        core.health.record(deployment, attempt, core.clock())


def chosen(decision: Any) -> tuple[str, dict[str, str | None]]:
    """The model, and why others were left out."""
    return decision.selected, {c.model: c.excluded_because for c in decision.candidates}


async def decided(core: Core) -> tuple[str, dict[str, str | None]]:
    """The decision for a simple question."""
    return chosen((await core.submissions.decide(received())).decision)


async def test_an_open_breaker_excludes_with_a_reason() -> None:
    """The decision names since when, and when it is probed; the next best model is chosen."""
    core = Core()
    break_down(core)
    model, reasons = await decided(core)
    assert model == "sim/b"
    assert "circuit breaker open since 20" in (reasons["sim/a"] or "")
    assert (reasons["sim/a"] or "").endswith("next probe in 5 s")


async def test_failures_open_and_a_probe_closes() -> None:
    """Five failed requests; then nobody calls the model; after its time one call succeeds, and it is back."""
    core = Core(routed())
    core.providers.will(A, *([failure()] for _ in range(5)), stream())
    for _ in range(5):
        await core.answer()
    assert [(await core.answer()).model for _ in range(3)] == ["sim/b"] * 3
    assert core.providers.models == ["a"] * 5 + ["b"] * 3
    core.clock.now_s += 5.0
    assert (await core.answer()).model == "sim/a"
    assert core.health.why_not(AT_A) is None


@pytest.mark.parametrize(
    ("kind", "limit"),
    [("timeout_connect", "connect_ms"), ("timeout_first_token", "first_token_ms"), ("timeout_idle", "idle_ms")],
)
@pytest.mark.parametrize("hasty", [True, False])
async def test_a_router_s_short_limits_open_nobody_s_breaker(kind: str, limit: str, hasty: bool) -> None:
    """However often it gives a call up early; the default limits speak, since they are long enough for anybody."""
    router_changes = {"timeouts": {limit: 100}} if hasty else {}
    core = Core(routed(**router_changes))
    core.providers.will(A, *([failure(kind)] for _ in range(6)))
    for _ in range(5):
        await core.answer()
    (seen,) = core.health.snapshot(OWNER)
    assert (seen.state, seen.calls, seen.failures) == (("closed", 0, 0) if hasty else ("open", 5, 5))


async def test_a_probe_that_was_given_up_early_makes_room_for_another() -> None:
    """It neither closes the breaker nor lengthens its time."""
    core = Core(routed(timeouts={"first_token_ms": 100}))
    break_down(core)
    core.clock.now_s += 5.0
    core.providers.will(A, [failure("timeout_first_token")], stream())
    assert (await core.answer()).status == "failed"
    assert (core.health.snapshot(OWNER)[0].state, core.health.why_not(AT_A)) == ("half_open", None)
    assert (await core.answer()).model == "sim/a"
    assert core.health.snapshot(OWNER)[0].state == "closed"


async def test_one_probe_at_a_time() -> None:
    """While a request probes, others go elsewhere; they are told apart before any call has begun."""
    core = Core(routed())
    break_down(core)
    core.clock.now_s += 5.0
    first, second = await core.submit(), await core.submit()
    outcomes = [(await core.submissions.ended(one)).outcome for one in (first, second)]
    assert sorted(outcome.model for outcome in outcomes) == ["sim/a", "sim/b"]


async def test_the_best_is_tried_where_all_are_blocked() -> None:
    """A router is never dead for its breakers alone; explaining says why the others were left out."""
    core = Core()
    break_down(core, AT_A)
    break_down(core, AT_B)
    model, reasons = await decided(core)
    assert (model, reasons["sim/a"]) == ("sim/a", None)
    assert "circuit breaker" in (reasons["sim/b"] or "")


async def test_breakers_of_one_tenant_are_nothing_to_another() -> None:
    """Providers of the same id are different ones for different owners."""
    core = Core()
    break_down(core, Target("bob", "sim/a", Deployment("simulator", "a")))
    assert (await decided(core))[0] == "sim/a"
    assert core.health.snapshot(OWNER) == ()


def test_a_changed_provider_has_a_clean_breaker() -> None:
    """What was seen of the old one says nothing about the new one."""
    core = Core()
    break_down(core, AT_A)
    assert "circuit breaker open" in (core.health.why_not(AT_A) or "")
    core.cache.drop("provider", OWNER, "simulator")
    assert core.health.why_not(AT_A) is None


def test_the_deployment_seen_first_is_forgotten_beyond_the_bound() -> None:
    """It begins again as healthy, its open breaker included."""
    core = Core()
    core.health = DeploymentHealth(clock=core.clock, maximum=1)
    break_down(core, AT_A)
    break_down(core, AT_B)
    assert core.health.why_not(AT_A) is None
    assert core.health.why_not(AT_B) is not None


@pytest.mark.parametrize("kind", ["provider", None])
async def test_a_refused_key_is_skipped_until_it_changes(kind: str | None) -> None:
    """401 marks the provider for all its models; a changed provider begins anew."""
    core = Core(routed())
    core.providers.will(A, [failure("authentication", refused="key")], stream())
    await core.answer()
    assert core.health.unhealthy_keys(OWNER) == ("simulator",)
    assert "refused its API key" in (core.health.why_not(AT_B) or "")
    core.cache.drop("provider", "bob", "simulator")
    assert core.health.unhealthy_keys(OWNER) == ("simulator",)
    core.cache.drop(kind, OWNER, "simulator")
    assert core.health.why_not(AT_B) is None


@pytest.mark.parametrize(
    ("scope", "well"),
    [
        (HealthScope(), {"a", "b"}),
        (HealthScope(provider="simulator"), {"a", "b"}),
        (HealthScope(model="sim/a"), {"a"}),
        (HealthScope("simulator", "sim/b"), {"b"}),
        (HealthScope("elsewhere"), set()),
        (HealthScope("simulator", "sim/c"), set()),
    ],
)
@pytest.mark.parametrize("ill", ["broken", "resting", "refused"])
def test_a_reset_lets_deployments_begin_again(scope: HealthScope, well: set[str], ill: str) -> None:
    """Breakers, rests and refused models of the scope are forgotten, and nothing of another tenant's."""
    core = Core()
    others = Target("bob", "sim/a", Deployment("simulator", "a"))
    for target in (AT_A, AT_B, others):
        core.health.record(target, Attempt(0, target.model, target.provider, "error", "rate_limited"), core.clock())
        if ill == "broken":
            break_down(core, target)
        elif ill == "resting":
            core.health.cool_down(target, 30.0, core.clock())
        else:
            core.health.refuse(target, "model", core.clock())
    assert core.health.reset(OWNER, HealthScope.of(scope.subject)) == len(well)
    assert {target.deployment.provider_model for target in (AT_A, AT_B) if core.health.why_not(target) is None} == well
    assert core.health.why_not(others) is not None


async def test_a_reset_of_a_model_frees_its_refused_key() -> None:
    """Whoever asks for the model again asks with that key."""
    core = Core(routed())
    core.providers.will(A, [failure("authentication", refused="key")], stream())
    await core.answer()
    core.health.reset(OWNER, HealthScope(model="sim/b"))
    assert core.health.unhealthy_keys(OWNER) == ("simulator",)
    core.health.reset(OWNER, HealthScope(model="sim/a"))
    assert core.health.unhealthy_keys(OWNER) == ()
    assert (await core.answer()).model == "sim/a"


async def test_a_refused_key_is_tried_again_after_its_cool_down() -> None:
    """It may have been mended at the provider."""
    core = Core(routed())
    core.health.refuse(AT_A, "key", core.clock())
    core.clock.now_s += KEY_COOL_DOWN_S
    assert core.health.why_not(AT_A) is None


def test_a_refusal_of_the_old_key_does_not_mark_the_new_one() -> None:
    """The call began before the configuration changed."""
    core = Core()
    began_s = core.clock()
    core.clock.now_s += 1.0
    core.cache.drop("provider", OWNER, "simulator")
    core.health.refuse(AT_A, "key", began_s)
    assert core.health.why_not(AT_A) is None


async def test_the_retry_budget_bounds_repeats() -> None:
    """Without budget a transient failure is not repeated on the same model."""
    core = Core(routed(same_model_retries=1))
    budget = RetryBudget(BudgetRules(floor=1), ManualClock())
    core.controller.caller = ModelCaller(core.providers, core.cache, core.health, budget)
    now = failure("server_error", Remedy.RETRY_SAME, retry_after_s=0.0)
    core.providers.will(A, [now], stream(), [now], stream())
    outcomes = [await core.answer() for _ in range(2)]
    assert [(o.status, len(o.attempts)) for o in outcomes] == [("completed", 2), ("failed", 1)]


async def test_what_is_broken_is_not_repeated() -> None:
    """The failure that opens the breaker is the last of that model."""
    core = Core(routed(same_model_retries=5))
    now = failure("server_error", Remedy.RETRY_SAME, retry_after_s=0.0)
    core.providers.will(A, [now])
    assert len((await core.answer()).attempts) == 5


def test_the_snapshot_says_what_a_decision_would() -> None:
    """State, counts and reason per deployment, and gauges over all of them."""
    core = Core()
    break_down(core)
    (report,) = core.health.snapshot(OWNER)
    assert (report.provider, report.model, report.state) == ("simulator", "sim/a", "open")
    assert report.excluded_because == core.health.why_not(AT_A)
    assert (core.health.count("open"), core.health.count("closed"), core.health.count_refused_keys()) == (1, 0, 0)


@pytest.mark.parametrize(
    ("broken", "before", "model"),
    [
        (["sim/b"], [], "c"),
        (["sim/b"], [C], "c"),
        (["sim/b", "sim/c"], [B], "c"),
        ([], [], "b"),
        ([], [C], "b"),
        (["sim/b"], [C, C], "c"),
    ],
)
async def test_fallbacks_with_an_open_breaker_are_skipped(
    broken: list[str], before: list[ModelSpec], model: str
) -> None:
    """Each model that is left has its turn, and all have where none is; a turn that was passed over shifts none."""
    core = Core()
    for name in broken:
        break_down(core, Target(OWNER, name, Deployment("simulator", name.removeprefix("sim/"))))
    core.providers.will(A, [failure()])
    flight = core.launched(request(plan(A, B, C)))
    await until(lambda: flight.key in core.workflows.handed_over)
    work = FallbackInput(flight.request, await core.recovery.first_phase(flight.request))
    made = [Attempt(100 + place, each.id, each.provider, "error", "server_error") for place, each in enumerate(before)]
    await core.ledger.record_attempts(flight.key, made)
    await ActivityEnvironment().run(core.own_steps.call_fallback, work)
    assert core.providers.models == ["a", model]
