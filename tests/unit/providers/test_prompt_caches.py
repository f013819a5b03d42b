"""What is expected of providers' prompt caches: warm models in decisions, warm deployments in calls."""

import random
from dataclasses import replace
from typing import Any

import pytest

from modelpilot.chat.profile import RequestProfile
from modelpilot.providers.deployments import Deployment, ProviderFacts, choice
from modelpilot.providers.kinds import ProviderKind
from modelpilot.providers.prompt_caches import PromptCaches
from modelpilot.requests.outcome import Usage
from modelpilot.requests.records import Neighbours
from modelpilot.routing.decision import Decision
from modelpilot.routing.selection import decide
from tests.support.core import Core, ManualClock, routed
from tests.support.routing_samples import OWNER, chat_body, profile, router, snapshot, spec, stream

LONG = "word " * 4_000  # some 5,000 tokens
HERE = ("m", Deployment("p", "m"))
MARKED: list[dict[str, Any]] = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]


def turn(content: Any, *more: dict[str, Any], **fields: Any) -> RequestProfile:
    """A conversation's profile: its first message, and what followed."""
    return profile(messages=[{"role": "user", "content": content}, *more], **fields)


NEXT = {"role": "user", "content": [{"type": "text", "text": "go on", "cache_control": {"type": "ephemeral"}}]}
ANSWER = {"role": "assistant", "content": "done"}


def noted(kind: ProviderKind, usage: Usage, first: RequestProfile, name: str = "m") -> tuple[PromptCaches, ManualClock]:
    clock = ManualClock()
    caches = PromptCaches(clock)
    caches.note(OWNER, ("m", Deployment("p", name)), kind, first.prefix, usage)
    return caches, clock


def test_what_was_written_is_warm_until_its_time_is_over() -> None:
    """Tokens are those that the provider reported, in the prompt's own measure; for this owner only."""
    first, second = turn(MARKED), turn(LONG, ANSWER, NEXT)
    usage = Usage(4_000, 1, cache_write_5m_tokens=3_000)
    caches, clock = noted("anthropic", usage, first)
    (warmth,) = caches.warm(OWNER, second.prefix).values()
    assert warmth.tokens == round(first.prompt_tokens * 0.75)
    assert warmth.own
    assert caches.warm("bob", second.prefix) == {}
    clock.now_s += 299.0
    assert caches.warm(OWNER, second.prefix)
    clock.now_s += 2.0
    assert not caches.warm(OWNER, second.prefix)


@pytest.mark.parametrize(
    ("kind", "name", "first", "usage", "second", "warm"),
    [
        ("anthropic", "m", turn(MARKED), Usage(5_000, 1), turn(LONG, ANSWER, NEXT), False),
        ("anthropic", "m", turn(MARKED), Usage(5_000, 1, 4_000), turn(LONG, ANSWER), False),
        ("anthropic", "m", turn(LONG), Usage(5_000, 1, 4_000), turn(LONG, ANSWER, NEXT), False),
        ("anthropic", "m", turn(MARKED), Usage(5_000, 1, 4_000), turn(LONG, ANSWER, NEXT), True),
        ("openai", "m", turn(LONG), Usage(5_000, 1), turn(LONG, ANSWER), True),
        ("openai", "m", turn(LONG), Usage(5_000, 1), turn(f"{LONG}!", ANSWER), False),
        ("google", "m", turn(LONG), Usage(5_000, 1), turn(LONG, ANSWER), True),
        ("openrouter", "deepseek/v3", turn(LONG), Usage(5_000, 1), turn(LONG, ANSWER), True),
        ("openrouter", "anthropic/claude", turn(LONG), Usage(5_000, 1), turn(LONG, ANSWER, NEXT), False),
        ("simulator", "m", turn(LONG), Usage(5_000, 1), turn(LONG, ANSWER), False),
    ],
)
def test_kinds_of_caches(
    kind: ProviderKind, name: str, first: RequestProfile, usage: Usage, second: RequestProfile, warm: bool
) -> None:
    """Anthropic keeps what was marked and reads it for who marks again, others keep all; and some keep nothing."""
    caches, _ = noted(kind, usage, first, name)
    assert any(warmth.tokens for warmth in caches.warm(OWNER, second.prefix).values()) is warm


def test_a_cache_that_holds_nothing_is_believed_once() -> None:
    """A server without one reports no reads; from then on nothing is expected to cost less there until it does."""
    first, second, third = turn(LONG), turn(LONG, ANSWER), turn(LONG, ANSWER, ANSWER)
    caches, _ = noted("openai", Usage(5_000, 1), first)

    def expected() -> int:
        return caches.warm(OWNER, third.prefix)[HERE].tokens

    assert expected() > 4_000
    caches.note(OWNER, HERE, "openai", second.prefix, Usage(5_000, 1))
    assert expected() == 0
    caches.note(OWNER, HERE, "openai", second.prefix, Usage(5_000, 1, 4_096))
    assert expected() > 4_000


def test_sizes_are_what_the_provider_counts() -> None:
    """Some scripts have a token in every character, of which we estimate a quarter; too short is too short."""
    first = turn("word " * 300)
    caches, _ = noted("openai", Usage(1_500, 1), first)
    assert caches.warm(OWNER, first.prefix)
    caches, _ = noted("openai", Usage(300, 1), first)
    assert not caches.warm(OWNER, first.prefix)


def test_instructions_that_others_share_are_warm_for_their_cost_only() -> None:
    """Another conversation reads them from the cache, but need not go to the same deployment for that."""
    system = {"role": "system", "content": LONG}
    first, other = (profile(messages=[system, {"role": "user", "content": said}]) for said in "ab")
    caches, _ = noted("openai", Usage(5_000, 1), first)
    assert [warmth.own for warmth in caches.warm(OWNER, other.prefix).values()] == [False]
    assert [warmth.own for warmth in caches.warm(OWNER, first.prefix).values()] == [True]


def test_the_memory_is_bounded() -> None:
    """What was used least recently is forgotten."""
    caches = PromptCaches(ManualClock(), maximum=10)
    turns = [turn(f"{number} {LONG}") for number in range(11)]
    for each in turns:
        caches.note(OWNER, HERE, "openai", each.prefix, Usage(5_000, 1))
    assert [bool(caches.warm(OWNER, each.prefix)) for each in turns] == [False, *[True] * 10]


DEAR = spec("dear", cost_per_input_token=3e-6, cost_per_cached_input_token=3e-7)
CHEAP = spec("cheap", cost_per_input_token=2e-6)


def decided(warm: dict[tuple[str, Deployment], int]) -> Decision:
    shot = snapshot(router("dear", "cheap", objective={"cost_weight": 1.0}), DEAR, CHEAP)
    return decide(shot, turn(LONG), Neighbours.empty(), random.Random(0), warm=warm)


def test_a_warm_model_wins_where_it_is_cheaper() -> None:
    """Its cost counts the cached tokens at their price, and the decision says how many they are."""
    assert decided({}).selected == "cheap"
    warm = decided({("dear", Deployment("simulator", "dear")): 4_000})
    assert warm.selected == "dear"
    shown = {each["model"]: each["cachedTokens"] for each in warm.to_wire()["candidates"]}
    assert shown == {"dear": 4_000, "cheap": 0}
    cold, hot = (next(c.cost.raw for c in each.candidates if c.model == "dear") for each in (decided({}), warm))
    assert cold is not None
    assert hot == pytest.approx(cold - 4_000 * 2.7e-6)


def test_what_is_warm_elsewhere_saves_nothing() -> None:
    """A deployment that the model does not have any more has no cache for it."""
    assert decided({("dear", Deployment("elsewhere", "dear")): 4_000}).selected == "cheap"


def test_a_conversation_stays_at_its_deployment() -> None:
    """Among healthy deployments of the first rank the warm one is called; none that is blocked or of a later rank."""
    east, west, spare = Deployment("east", "m"), Deployment("west", "m"), Deployment("spare", "m", priority=1)
    places, draw = [east, west, spare], random.Random(0)
    assert {choice(places, {}, draw, {west: 2_000, east: 1_500}) for _ in range(50)} == {west}
    assert {choice(places, {west: 9.0}, draw, {west: 2_000}) for _ in range(50)} == {east}
    assert {choice(places, {}, draw, {spare: 2_000}) for _ in range(50)} == {east, west}
    assert choice(places, {east: 9.0, west: 9.0}, draw, {spare: 2_000}) == spare


async def test_the_next_turn_goes_to_the_deployment_that_answered() -> None:
    """Turn after turn the same one of two, and the decision counts its cache."""
    model = spec("sim/a", quality_score=0.9, deployments=[{"provider": "east"}, {"provider": "west"}])
    shot = routed()
    facts = {name: ProviderFacts("openai") for name in ("east", "west")}
    core = Core(replace(shot, models={**shot.models, "sim/a": model}, providers=facts))
    reads = stream(tokens=(5_000, 5))
    reads[-1]["usage"]["prompt_tokens_details"] = {"cached_tokens": 4_096}
    core.providers.will(model, stream(tokens=(5_000, 5)), reads)
    messages = chat_body(LONG)["messages"]
    places = set()
    for _ in range(9):
        places.add((await core.answer(fields={"messages": messages})).provider)
        messages = [*messages, ANSWER, {"role": "user", "content": "go on"}]
    assert len(places) == 1
    described = (await core.submit(fields={"messages": messages})).flight
    assert described is not None
    cached = {each["model"]: each["cachedTokens"] for each in described.request.decision["candidates"]}
    assert cached["sim/a"] > 4_000
    assert cached["sim/b"] == 0
