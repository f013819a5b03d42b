"""The online model's arithmetic: exact, whatever the order, and taken back as it was taken in."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelpilot.errors import InvalidRequest
from modelpilot.learning.estimation import Learner, Outcome, Outlook, Outlooks
from modelpilot.learning.estimation.basis import make_basis
from modelpilot.learning.estimation.gaussian import Answers, Deviations, Evidence, Noise, posterior
from modelpilot.learning.online import Answer, inherited, kept, learn
from modelpilot.providers.catalogue import CatalogueColumns
from modelpilot.requests.records import Vector
from tests.support.routing_samples import NOW, spec

WIDTH, MODELS = 3, ("a", "b", "c")
NOISE, DEVIATIONS = Noise(0.14, 0.06), Deviations(offset=0.05, common=0.2, own=0.05)
LEVEL = np.array([0.05, 0.2, 0.05])


def prompts(seed: int, count: int = 12) -> list[Answers]:
    """Prompts with the answers of one to three models, of different weights and ages."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        models = tuple(draw.permutation(MODELS)[: draw.integers(1, 4)])
        features = np.append(1.0, draw.standard_normal(WIDTH - 1))
        values, weights = draw.random((len(models), 1)), draw.uniform(0.1, 3.0, len(models))
        found.append(Answers(features, models, values, weights, float(draw.uniform(0.2, 2.0))))
    return found


def evidence(answers: list[Answers]) -> Evidence:
    """All of them learnt, one by one."""
    made = Evidence(WIDTH, 1, NOISE)
    made.meet(MODELS)
    for each in answers:
        made.add(each)
    return made


def textbook(answers: list[Answers], prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of [common, own of a, b, c] by the formulas for all observations at once."""
    rows, values = [], []
    for each in answers:
        noise = (np.diag(NOISE.own / each.weights) + NOISE.shared) / each.scale
        block = np.zeros((len(each.models), WIDTH * (1 + len(MODELS))))
        for place, model in enumerate(each.models):
            begin = WIDTH * (1 + MODELS.index(model))
            block[place, :WIDTH] = block[place, begin : begin + WIDTH] = each.features
        root = np.linalg.inv(np.linalg.cholesky(noise))
        rows.append(root @ block)
        values.append(root @ (each.values[:, 0] - [prior[MODELS.index(model)] for model in each.models]))
    design, target = np.vstack(rows), np.concatenate(values)
    common = np.array([DEVIATIONS.offset, *[DEVIATIONS.common] * (WIDTH - 1)])
    own = np.array([[level, *[DEVIATIONS.own] * (WIDTH - 1)] for level in LEVEL]).ravel()
    covariance = np.linalg.inv(design.T @ design + np.diag(np.concatenate([common, own]) ** -2.0))
    return covariance @ design.T @ target, covariance


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000))
def test_one_by_one_is_all_at_once(seed: int) -> None:
    """The posterior is that of the whole batch by the textbook, several answers to one prompt included."""
    answers, prior = prompts(seed), np.array([0.4, 0.6, 0.8])
    mean, covariance = textbook(answers, prior)
    found = posterior(evidence(answers), prior, LEVEL, DEVIATIONS)
    assert found.common == pytest.approx(mean[:WIDTH], abs=1e-9)
    assert found.own.ravel() == pytest.approx(mean[WIDTH:], abs=1e-9)
    for place in range(len(MODELS)):
        own = slice(WIDTH * (1 + place), WIDTH * (2 + place))
        cross = covariance[:WIDTH, own]
        whole = covariance[:WIDTH, :WIDTH] + cross + cross.T + covariance[own, own]
        assert found.covariance[place] == pytest.approx(whole, abs=1e-9)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_changes_nothing_and_what_is_taken_back_leaves_nothing(seed: int, order: object) -> None:
    """Late, revised and withdrawn grades: what counts is what is known in the end."""
    answers, prior = prompts(seed), np.full(3, 0.5)
    shuffled = list(answers)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = evidence(answers), evidence(shuffled)
    for each in prompts(seed + 1):
        other.add(each)
        other.add(each, -1.0)
    first, second = (posterior(each, prior, LEVEL, DEVIATIONS) for each in (one, other))
    assert second.common == pytest.approx(first.common, abs=1e-9)
    assert second.own == pytest.approx(first.own, abs=1e-9)
    assert second.covariance == pytest.approx(first.covariance, abs=1e-9)
    assert other.weight == pytest.approx(one.weight)


def test_more_of_the_same_is_surer_and_never_back() -> None:
    """Every further bad answer lowers the expectation and narrows its deviation; few move hardly anything."""
    found = []
    for count in (0, 1, 10, 100, 1_000):
        made = Evidence(WIDTH, 1, NOISE)
        made.meet(MODELS)
        for _ in range(count):
            made.add(Answers(np.eye(WIDTH)[0], ("a",), np.zeros((1, 1)), np.ones(1)))
        found.append(posterior(made, np.full(3, 0.6), LEVEL, DEVIATIONS))
    levels = [float(each.common[0] + each.own[0, 0]) for each in found]
    spreads = [float(each.covariance[0, 0, 0]) for each in found]
    assert levels == sorted(levels, reverse=True)
    assert spreads == sorted(spreads, reverse=True)
    assert levels[1] > -0.02 > -0.55 > levels[-1]


def test_answers_to_one_prompt_tell_models_apart_better_than_answers_to_many() -> None:
    """How hard the prompt is cancels out."""
    z = np.eye(WIDTH)[0]
    paired, apart = (Evidence(WIDTH, 1, NOISE) for _ in range(2))
    for made in (paired, apart):
        made.meet(MODELS)
    for _ in range(50):
        paired.add(Answers(z, ("a", "b"), np.array([[1.0], [0.0]]), np.ones(2)))
        for model, value in (("a", 1.0), ("b", 0.0)):
            apart.add(Answers(z, (model,), np.array([[value]]), np.ones(1)))
    gaps = []
    for made in (paired, apart):
        own = posterior(made, np.full(3, 0.5), np.full(3, 0.05), DEVIATIONS).own[:, 0]
        gaps.append(float(own[0] - own[1]))
    assert gaps[0] > 1.1 * gaps[1] > 0.0


def vectors(count: int, seed: int = 0) -> Vector:
    """Prompts all over a sphere."""
    found = np.random.default_rng(seed).standard_normal((count, 16)).astype(np.float32)
    unit: Vector = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def test_features_have_a_length_of_one_and_survive_storage() -> None:
    """Over the prompts that they were made of: mean 0, mean square length 1, a name of their own."""
    made = make_basis(vectors(300), 100)
    features = made.features(vectors(300))
    assert features[:, 0] == pytest.approx(1.0)
    assert features[:, 1:].mean(axis=0) == pytest.approx(0.0, abs=1e-5)
    assert (features[:, 1:] ** 2).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-3)
    assert made.name != make_basis(vectors(300, 1), 100).name


SAID = Outcome("sim/a", 1.0, 1.0, 1.0, 100.0, 20.0, 500.0, 100.0, NOW)
COLUMNS = CatalogueColumns.of([spec("sim/a", quality_score=0.6), spec("sim/b", quality_score=0.7)])


def test_a_state_survives_storage_and_another_basis_is_refused() -> None:
    """What was stored goes on as what was learnt, to the last digit."""
    basis = make_basis(vectors(300), 100)
    learner = Learner(basis, NOW)
    for place, vector in enumerate(vectors(40, 2)):
        learner.learn(vector, [replace(SAID, model=f"sim/{'ab'[place % 2]}", quality=float(place % 3 == 0))])
    again = Learner.from_bytes(learner.to_bytes(), basis, NOW)
    one, other = (each.outlook(COLUMNS, NOW).expected(vectors(1, 3)[0]) for each in (learner, again))
    assert one.prompt.tolist() == other.prompt.tolist()
    assert one.level.tolist() == other.level.tolist()
    assert again.to_bytes() == learner.to_bytes()
    with pytest.raises(InvalidRequest):
        Learner.from_bytes(learner.to_bytes(), None, NOW)


class Counting(Learner):
    """How often an outlook was worked out."""

    made = 0

    def outlook(self, columns: CatalogueColumns, now: float) -> Outlook:
        self.made += 1
        return super().outlook(columns, now)


def test_what_was_asked_before_is_worked_out_before_it_is_asked_again() -> None:
    """A new state is prepared for the catalogues in use, so that no request waits for an inversion; prices and other
    columns that change nothing of it are no reason to work it out again."""
    old, counting = Outlooks(Learner(None, NOW), NOW), Counting(None, NOW)
    old.of(COLUMNS)
    fresh = Outlooks(counting, NOW).prepare(old)
    assert counting.made == 1
    dearer = [spec("sim/a", quality_score=0.6, cost_per_input_token=9.0), spec("sim/b", quality_score=0.7)]
    assert fresh.of(COLUMNS) is fresh.of(CatalogueColumns.of(dearer))
    assert counting.made == 1


def answer(number: int, prompt: str, quality: float, at: float = NOW, model: str = "sim/a") -> Answer:
    """A graded answer."""
    return Answer(f"r{number}", prompt, model, quality, 1.0, 10.0, 20.0, 300.0, 10.0, at, vectors(1, 7)[0])


def test_a_revised_grade_replaces_the_old_one_exactly() -> None:
    """Taking out what was known and putting in what is known leaves what would have been learnt at once."""
    before, after = ([answer(1, "p", 0.0), answer(2, "q", 1.0)], [answer(1, "p", 1.0), answer(2, "q", 1.0)])
    revised, fresh = Learner(None, NOW), Learner(None, NOW)
    learn(revised, before)
    learn(revised, before, -1.0)
    learn(revised, after)
    learn(fresh, after)
    one, other = (each.outlook(COLUMNS, NOW).expected(None).level for each in (revised, fresh))
    assert one == pytest.approx(other, abs=1e-12)


def test_of_many_repeats_the_newest_are_kept() -> None:
    """A prompt that is asked for ever takes no more room than one that was asked twenty times."""
    answers = [answer(number, "p", 1.0, NOW + number) for number in range(50)]
    assert [each.request_id for each in kept(answers)] == [f"r{number}" for number in range(30, 50)]


def _loss(catalogue: list[float], true: np.ndarray, start: Learner, seed: int, requests: int = 600) -> float:
    """Points per request lost against the best model by a router that begins with `start`, a tenth graded."""
    draw = np.random.default_rng(seed)
    names = [f"sim/{place}" for place in range(len(true))]
    columns = CatalogueColumns.of([spec(n, quality_score=q) for n, q in zip(names, catalogue, strict=True)])
    learner, lost = start.copy(), 0.0
    for _ in range(requests):
        outlook = learner.outlook(columns, NOW)
        chosen = int((outlook.believed + outlook.expected(None).level).argmax())
        lost += float(true.max() - true[chosen])
        if draw.random() < 0.1:
            quality = float(draw.random() < true[chosen])
            learner.learn(None, [replace(SAID, model=names[chosen], quality=quality)])
    return 100.0 * lost / requests


def test_an_inverted_inheritance_loses_no_more_than_two_points() -> None:
    """Other routers of the owner that had it the other way round: what is inherited counts little, and wears off."""
    true, catalogue = np.array([0.60, 0.68, 0.75]), [0.62, 0.68, 0.73]
    extra = []
    for seed in range(6):
        draw, wrong = np.random.default_rng(seed), Learner(None, NOW)
        for place, share in enumerate(true[::-1]):
            for _ in range(400):
                quality = float(draw.random() < share)
                wrong.learn(None, [replace(SAID, model=f"sim/{place}", quality=quality)])
        plain, warm = (_loss(catalogue, true, start, seed) for start in (
            Learner(None, NOW), inherited(None, [wrong], NOW)))  # fmt: skip
        extra.append(warm - plain)
    assert float(np.mean(extra)) < 2.0


def test_a_right_inheritance_helps() -> None:
    """What the owner's other routers have found out, a new one need not find out again."""
    true, catalogue = np.array([0.60, 0.68, 0.75]), [0.70, 0.68, 0.68]
    draw, right = np.random.default_rng(0), Learner(None, NOW)
    for place, share in enumerate(true):
        for _ in range(400):
            quality = float(draw.random() < share)
            right.learn(None, [replace(SAID, model=f"sim/{place}", quality=quality)])
    losses = [[_loss(catalogue, true, start, seed) for seed in range(4)] for start in (
        Learner(None, NOW), inherited(None, [right, right], NOW))]  # fmt: skip
    assert np.mean(losses[1]) < np.mean(losses[0])
