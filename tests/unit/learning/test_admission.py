"""A fit takes part only where its choices are better; and what is far beyond the range learnt leads nowhere."""

import random
from dataclasses import replace

import numpy as np
import pytest

from infra.catalogue.basis import features_for, shipped_basis
from infra.vectors.embedders import WordLlamaEmbedder
from modelpilot.learning.estimation import FittedPredictor, Learner, Outcome, TrainingRows, fit, predict
from modelpilot.learning.estimation.admission import Rival, compare, taught
from modelpilot.learning.estimation.facts import RequestFacts
from modelpilot.learning.estimation.fit import NO_BETTER_CHOICES
from modelpilot.learning.online import own_basis
from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.requests.records import Vector
from tests.support.refit import MODELS, RIVAL, training_rows
from tests.support.routing_samples import NOW, spec


def one_answer_each(rows: TrainingRows) -> TrainingRows:
    """As production has it: of every prompt, the outcome of one model, drawn by lot."""
    kept = np.flatnonzero(np.random.default_rng(3).integers(0, 2, len(rows.vectors))[rows.prompt] == rows.model)
    names = ("prompt", "model", "quality", "quality_weight", "input_tokens", "output_tokens", "cost_usd")
    more = ("latency_ms", "ttft_ms", "count", "timestamp")
    return replace(rows, **{name: getattr(rows, name)[kept] for name in (*names, *more)})


@pytest.mark.parametrize("thinned", [False, True])
def test_a_fit_that_chooses_better_is_admitted(thinned: bool) -> None:
    """sim/a is right on one half of the prompts, sim/b on the other: the online model here cannot see which."""
    rows = training_rows(400)
    made = fit(one_answer_each(rows) if thinned else rows, NOW, RIVAL)
    assert made.predictor is not None, made.report
    assert made.report.choices is not None
    assert made.report.choices.gain > 0.2


def test_a_fit_that_foretells_better_and_chooses_no_better_is_refused() -> None:
    """One model is the best choice everywhere: how hard prompts are is learnt, and changes no choice."""
    rows = training_rows(400)
    hard = rows.vectors[rows.prompt, 0] > 0.0
    noise = np.random.default_rng(2).random(len(rows))
    quality = (noise < np.where(hard, 0.2, 0.6) + 0.3 * (rows.model == 0)).astype(float)
    made = fit(replace(rows, quality=quality), NOW, RIVAL)
    assert made.report.error is not None
    assert made.report.error < (made.report.global_mean_error or 0.0)
    assert made.predictor is None
    assert made.report.refused_because == NO_BETTER_CHOICES


def test_choices_that_were_never_made_prove_nothing() -> None:
    """All prompts went to one model: what the other one would have done is a guess, and no reason to follow a fit."""
    rows = training_rows(400)
    kept = np.flatnonzero(rows.model == 0)
    names = ("prompt", "model", "quality", "quality_weight", "input_tokens", "output_tokens", "cost_usd")
    more = ("latency_ms", "ttft_ms", "count", "timestamp")
    alone = replace(rows, **{name: getattr(rows, name)[kept] for name in (*names, *more)})
    assert fit(alone, NOW, RIVAL).predictor is None


def test_a_fit_against_itself_is_no_better() -> None:
    """Where the two choose alike the difference is nothing, however often they are compared."""
    rows = training_rows(200)
    cheap = [spec(name, cost_per_input_token=1e-6, cost_per_output_token=2e-6) for name in MODELS]
    rival = Rival(None, CatalogueColumns.of(cheap), (1.0, 0.0, 0.0, 0.0))  # cost alone, and both cost the same
    found = compare(rows, rival, NOW, lambda used: fit(rows, NOW).predictor or pytest.fail("no fit"))
    assert not found.better
    assert found.prompts == 200


def test_rows_teach_what_their_outcomes_teach() -> None:
    """The online model that a fit is compared with is that of the same outcomes, learnt one by one."""
    rows = training_rows(20)
    there = taught(rows, np.ones(len(rows), bool), None, NOW)
    here = Learner(None, NOW)
    for prompt in range(20):
        outcomes = [
            Outcome(MODELS[m], 1.0, rows.quality[2 * prompt + m], 1.0, 20.0, 100.0, 500.0, 0.0,
                    rows.timestamp[2 * prompt + m]) for m in range(2)
        ]  # fmt: skip
        here.learn(rows.vectors[prompt], outcomes)
    one, other = (each.outlook(RIVAL.columns, NOW).expected(None).level for each in (there, here))
    assert one == pytest.approx(other)


def test_the_shipped_features_are_those_of_the_product_s_embedder() -> None:
    """Another embedder's vectors are other numbers: no features are shipped for them."""
    assert features_for(WordLlamaEmbedder.name) is shipped_basis()
    assert shipped_basis().dimension == WordLlamaEmbedder.dimension
    assert features_for("openai:text-embedding-3-small+surface-1") is None


PROMPTS = ("What is {n} plus {m}?", "Please add {n} and {m} and tell me the sum.", "Multiply {n} by {m}.")


async def _always_failing(count: int) -> tuple[WordLlamaEmbedder, TrainingRows]:
    embedder = WordLlamaEmbedder()
    texts = [PROMPTS[n % 3].format(n=n, m=3 * n + 1) for n in range(count)]
    vectors = np.stack([await embedder.embed(text) for text in texts])
    rows = training_rows(count)
    draw = np.random.default_rng(1).random(2 * count)
    quality = np.where(rows.model == 0, 0.0, draw < 0.8).astype(float)
    return embedder, replace(rows, vectors=vectors, quality=quality)


@pytest.mark.parametrize("number", [10**5, 10**9, 123_456_789_012_345, 3.141592653589793])
async def test_a_number_beyond_the_range_learnt_changes_little(number: float) -> None:
    """A model that has always failed at sums fails at sums of large numbers, too: by the fit and by the features."""
    embedder, rows = await _always_failing(240)
    usual, huge = [await embedder.embed(f"What is {n} plus 17?") for n in (41, number)]
    fitted = fit(rows, NOW).predictor
    assert fitted is not None
    specs = [spec(name, quality_score=0.6) for name in MODELS]
    outlook = taught(rows, np.ones(len(rows), bool), shipped_basis(), NOW).outlook(CatalogueColumns.of(specs), NOW)
    for with_fit in (fitted, None):
        usually, here = (_failing(specs, outlook, vector, with_fit) for vector in (usual, huge))
        assert here < 0.25
        assert here - usually < 0.15


def _failing(specs: list, outlook: object, vector: np.ndarray, fitted: FittedPredictor | None) -> float:  # type: ignore[type-arg]
    made = predict(CatalogueColumns.of(specs), RequestFacts(20, vector=vector), outlook, fitted)  # type: ignore[arg-type]
    return made[0].quality


KINDS = {
    "sums": ("What is {n} plus {m}?", "Add {n}, {m} and 3.", "Compute {n} times {m} minus {n}."),
    "poems": ("Write a poem about number {n}.", "Short verses on {n} birds, please.", "Compose {m} lines on the sea."),
}
SHARED = "You are the assistant of a company. Answer briefly, politely, and in the language of the customer. " * 30


@pytest.mark.parametrize("before", ["", SHARED])
@pytest.mark.parametrize("passed", [1.0, 0.25])
async def test_a_router_tells_sums_from_poems_after_thirty_of_each(before: str, passed: float) -> None:
    """One model is right on sums, one on poems; each prompt went to one of them, and a failure counts in full. New
    prompts of both kinds go to the right one, behind a long text that all share as well."""
    embedder, draw = WordLlamaEmbedder(), random.Random(5)

    async def prompt(kind: str) -> Vector:
        text = draw.choice(KINDS[kind]).format(n=draw.randint(2, 999), m=draw.randint(2, 99))
        return await embedder.embed(before + text)

    known = []
    for kind, right in (("sums", "sim/a"), ("poems", "sim/b")):
        for _ in range(30):
            model = draw.choice(MODELS)
            said = Outcome(model, 1.0, float(model == right), passed if model == right else 1.0, 20, 50, 300, 20, NOW)
            known.append((await prompt(kind), said))
    basis = own_basis([vector for vector, _ in known], 0)
    assert basis is not None
    learner = Learner(basis, NOW)
    for vector, outcome in known:
        learner.learn(vector, [outcome])
    outlook = learner.outlook(CatalogueColumns.of([spec(name, quality_score=0.6) for name in MODELS]), NOW)
    hits = 0
    for place, kind in enumerate(KINDS):
        for _ in range(12):
            found = outlook.expected(await prompt(kind))
            hits += int((found.level + found.prompt).argmax()) == place
    assert hits >= 22
