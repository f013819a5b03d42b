"""What models count to one of our tokens: learnt from reports, and what comes of it in decisions and calls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.chat.size import PromptSize
from modelpilot.providers.token_ratios import TokenRatios, TokenReport, reported_tokens, tokens_for
from modelpilot.requests.outcome import Usage
from modelpilot.requests.records import Neighbours
from modelpilot.routing.decision import Candidate
from modelpilot.routing.selection import decide
from tests.support.core import A as MODEL_A
from tests.support.core import B as MODEL_B
from tests.support.core import Core, received
from tests.support.routing_samples import OWNER, profile, router, snapshot, spec, stream

A, B = MODEL_A.id, MODEL_B.id
PROMPT = "Say in a few words what the weather will be in every town of this list. " * 40


def learnt(*reported: int, counted: int = 1_000, owner: str = OWNER) -> TokenRatios:
    ratios = TokenRatios()
    for each in reported:
        ratios.note(TokenReport(owner, A, counted, each))
    return ratios


@pytest.mark.parametrize(
    ("reported", "least", "most"),
    [
        ((), 1.0, 1.0),
        ((1_300,), 1.05, 1.2),
        ((1_300,) * 10, 1.22, 1.3),
        ((1_300,) * 40 + (200, 4_900), 1.27, 1.31),
        ((700,) * 40, 0.69, 0.72),
        ((4_900,) * 64, 2.9, 3.0),
        ((210,) * 64, 0.3, 0.31),
        ((1_300,) * 64 + (700,) * 64, 0.69, 0.72),
    ],
    ids=["none", "one", "ten", "wrong-ones", "fewer", "at-most-three", "at-least-0.3", "changed"],
)
def test_the_ratio_follows_what_is_reported(reported: tuple[int, ...], least: float, most: float) -> None:
    """Little is believed of one report; single wrong ones move nothing; a change is followed; bounded."""
    assert least <= learnt(*reported).of(OWNER).get(A, 1.0) <= most


@pytest.mark.parametrize(("counted", "reported"), [(1_000, 0), (1_000, 199), (1_000, 5_001), (0, 10), (1_000, 10**12)])
def test_what_cannot_be_about_the_prompt_is_not_learnt(counted: int, reported: int) -> None:
    """No report, a count of something else, or nothing to compare it with."""
    assert not learnt(reported, counted=counted).of(OWNER)


def test_a_short_prompt_says_little() -> None:
    """Half of its report may be what the provider puts around it."""
    short, long = learnt(16, 16, counted=8), learnt(2_000, 2_000)
    assert short.of(OWNER)[A] < 1.2 < long.of(OWNER)[A]


def test_tenants_teach_each_other_nothing() -> None:
    """A model of the same name may be another one."""
    assert learnt(*(1_300,) * 10).of("bob") == {}


def test_at_most_so_many_models_are_remembered() -> None:
    """The ones that were reported on least recently go."""
    ratios = TokenRatios(maximum=2)
    for model in ("a", "b", "a", "c"):
        ratios.note(TokenReport(OWNER, model, 1_000, 1_300))
    assert set(ratios.of(OWNER)) == {"a", "c"}


def test_what_was_before_counts_behind_what_was_noted() -> None:
    """A process that begins reads rows, the newest first, while its own requests go on."""
    ratios = learnt(*(700,) * 60)
    ratios.recall([TokenReport(OWNER, A, 1_000, 1_300)] * 500 + [TokenReport(OWNER, B, 1_000, 1_300)] * 10)
    assert ratios.of(OWNER)[A] < 0.72
    assert ratios.of(OWNER)[B] > 1.2
    ratios.renew([TokenReport(OWNER, B, 1_000, 700)] * 10)
    assert (A in ratios.of(OWNER), ratios.of(OWNER)[B] < 0.8) == (False, True)


@given(st.lists(st.tuples(st.integers(-5, 10**6), st.integers(-5, 10**7)), max_size=80))
def test_the_ratio_is_always_within_its_bounds(reports: list[tuple[int, int]]) -> None:
    """Whatever providers report."""
    ratios = TokenRatios()
    for counted, reported in reports:
        ratios.note(TokenReport(OWNER, A, counted, reported))
    assert all(0.3 <= ratio <= 3.0 for ratio in ratios.of(OWNER).values())


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


@pytest.mark.parametrize(
    ("content", "usage", "compared"),
    [
        (PROMPT, Usage(900, 5), True),
        ([{"type": "text", "text": PROMPT}, IMAGE], Usage(900, 5), False),
        (PROMPT, Usage(900, 5, web_searches=1), False),
        (PROMPT, Usage(900, 5, audio_input_tokens=3), False),
    ],
    ids=["text", "picture", "search", "sound"],
)
def test_only_counts_of_the_same_text_are_compared(content: Any, usage: Usage, compared: bool) -> None:
    """Pictures have rules of their own, and searches bring text that nobody here has seen."""
    size = PromptSize.of({"messages": [{"role": "user", "content": content}]})
    assert reported_tokens(size, usage) == ((size.text_tokens, 900) if compared else None)


def test_text_goes_by_the_ratio_and_pictures_by_their_rule() -> None:
    """Each side by what is known of it."""
    size = PromptSize.of({"messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT}, IMAGE]}]})
    model = spec(A, provider_model="claude-x")
    assert tokens_for(size, model, "anthropic", {A: 1.5}) == round(size.text_tokens * 1.5) + 1_399


def of(candidates: tuple[Candidate, ...], model: str) -> Candidate:
    return next(each for each in candidates if each.model == model)


def test_a_decision_prices_and_excludes_by_each_models_own_count() -> None:
    """Twice as many tokens cost twice as much, and do not fit where half of them would; prices rise where they do."""
    asked = profile(PROMPT)
    tight = {"context_window": asked.prompt_tokens * 3 // 2}
    steps = [{"unit": "input", "usd": 2e-6, "from_tokens": asked.prompt_tokens * 3 // 2}]
    same = {"cost_per_input_token": 1e-6, "cost_per_output_token": 1e-6}
    models = [spec("a", limits=tight), spec("b", limits=tight), spec("c", **same), spec("d", **same, prices=steps)]
    shot = snapshot(router(available_models=["a", "b", "c", "d"]), *models)

    def made(**ratios: float) -> tuple[Candidate, ...]:
        return decide(shot, asked, Neighbours.empty(), None, ratios=ratios).candidates

    before, after = made(), made(b=2.0, c=2.0, d=2.0)
    assert {each.prompt_tokens for each in before} == {asked.prompt_tokens}
    assert of(after, "c").prompt_tokens == 2 * asked.prompt_tokens
    assert [of(after, name).excluded_because is None for name in "abc"] == [True, False, True]
    assert "tokens of context" in (of(after, "b").excluded_because or "")
    cost = {name: of(after, name).cost.raw or 0.0 for name in "cd"}
    rise = cost["c"] - (of(before, "c").cost.raw or 0.0)
    assert rise == pytest.approx(asked.prompt_tokens * 1e-6)
    assert cost["d"] - cost["c"] == pytest.approx(2 * asked.prompt_tokens * 1e-6)


async def test_an_answers_usage_teaches_the_next_decision() -> None:
    """From the report of a call to candidates and to the count that clients ask for."""
    core = Core()
    ours = profile(PROMPT).prompt_tokens
    report = stream(tokens=(ours * 3 // 2, 2))
    core.providers.will(MODEL_A, *[report] * 20)
    for _ in range(20):
        assert (await core.answer(text=PROMPT)).status == "completed"
    asked = received(PROMPT)
    decision = (await core.submissions.decide(asked)).decision
    assert of(decision.candidates, A).prompt_tokens == pytest.approx(1.5 * ours, rel=0.1)
    assert await core.submissions.prompt_tokens(asked) == pytest.approx(1.5 * ours, rel=0.1)
    assert of(decision.candidates, B).prompt_tokens == decision.prompt_tokens == decision.text_tokens == ours


async def test_an_estimate_of_ours_teaches_nothing() -> None:
    """A provider that reports nothing says nothing of its tokenizer."""
    core = Core()
    core.providers.will(MODEL_A, stream(tokens=None))
    assert (await core.answer(text=PROMPT)).estimated
    assert not core.ratios.of(OWNER)
