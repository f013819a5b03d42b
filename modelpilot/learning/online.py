"""What routers learn online: the answers that count, how a state follows from them, and the port to both in the store.

An answer counts by what is known of it now. Whatever becomes known later (a grade, another grade, a repeat) replaces
what its prompt has contributed before, exactly: the state depends on the answers, and not on the order of what was
heard.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from modelpilot.learning.estimation import Learner, Outcome, Outlooks
from modelpilot.learning.estimation.basis import Basis, make_basis
from modelpilot.learning.estimation.kernel import LANDMARKS
from modelpilot.requests.records import HistoryPoint, HistoryScope, Vector

# Answers of one model to one prompt that are kept, the newest: more than count (`estimation.REPEAT_CAP`).
KEPT_REPEATS = 20
# Prompts from which on a router has features of its own; twice as many, about, make them anew.
OWN_BASIS_PROMPTS, OWN_BASIS_GROWTH = 50, 1.8
# What other routers of an owner have learnt counts as so many grades of each model at most, and as this share.
INHERITED_GRADES, INHERITED_SHARE = 20.0, 0.25


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a router. `weight` is how much its quality counts (0.0: nobody has said anything); `prompt` names
    the prompt, without telling it; `at` is Unix seconds."""

    request_id: str
    prompt: str
    model: str
    quality: float
    weight: float
    input_tokens: float
    output_tokens: float
    latency_ms: float
    prompt_tokens: float
    at: float
    embedding: Vector


def answer_of(point: HistoryPoint) -> Answer:
    """The answer that a history point is about."""
    return Answer(
        request_id=point.request_id,
        prompt=point.point_id.removesuffix(f"/{point.model}"),
        model=point.model,
        quality=point.quality or 0.0,
        weight=0.0 if point.quality is None else point.quality_weight,
        input_tokens=float(point.input_tokens),
        output_tokens=float(point.output_tokens),
        latency_ms=point.latency_ms,
        prompt_tokens=float(point.prompt_tokens),
        at=point.timestamp,
        embedding=point.embedding,
    )


def kept(answers: Iterable[Answer]) -> list[Answer]:
    """The newest `KEPT_REPEATS` of each model to each prompt, in an order of their own."""
    groups: dict[tuple[str, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.prompt, answer.model].append(answer)
    ordered = (sorted(group, key=lambda each: (each.at, each.request_id)) for group in groups.values())
    return [answer for group in ordered for answer in group[-KEPT_REPEATS:]]


def learn(learner: Learner, answers: Iterable[Answer], sign: float = 1.0) -> None:
    """Have all that is known of these answers' prompts learnt, or forgotten (-1)."""
    prompts: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        prompts[answer.prompt].append(answer)
    for group in prompts.values():
        by_model: dict[str, list[Answer]] = defaultdict(list)
        for answer in sorted(group, key=lambda each: (each.at, each.request_id)):
            by_model[answer.model].append(answer)
        learner.learn(group[0].embedding, [_outcome(each) for _, each in sorted(by_model.items())], sign)


def _outcome(answers: Sequence[Answer]) -> Outcome:
    def mean(name: str) -> float:
        return float(np.mean([getattr(answer, name) for answer in answers]))

    weight = float(sum(answer.weight for answer in answers))
    graded = float(sum(answer.weight * answer.quality for answer in answers))
    return Outcome(
        model=answers[0].model,
        count=float(len(answers)),
        quality=graded / weight if weight else 0.0,
        weight=weight,
        input_tokens=mean("input_tokens"),
        output_tokens=mean("output_tokens"),
        latency_ms=mean("latency_ms"),
        prompt_tokens=mean("prompt_tokens"),
        timestamp=max(answer.at for answer in answers),
    )


def inherited(basis: Basis | None, others: Sequence[Learner], now: float) -> Learner:
    """What a new router knows from its owner's other ones: the same, and less sure."""
    learner = Learner(basis, now)
    for other in others:
        most = float(other.quality.weight.max(initial=0.0))
        share = min(INHERITED_SHARE, INHERITED_GRADES / most) if most else INHERITED_SHARE
        learner.merge(other, share / len(others), now)
    return learner


def own_basis(vectors: Sequence[Vector] | Vector, prompts_before: int) -> Basis | None:
    """Features made of these prompts [n, dimension], where there are enough of them, and many more than before."""
    if len(vectors) < max(OWN_BASIS_PROMPTS, OWN_BASIS_GROWTH * prompts_before):
        return None
    return make_basis(np.asarray(vectors, np.float32), LANDMARKS)


def basis_may_be_due(before: float, after: float) -> bool:
    """Whether it is time to look, between so many answers and so many: as they double."""
    steps = [math.frexp(answers / OWN_BASIS_PROMPTS)[1] for answers in (before, after)]
    return after >= OWN_BASIS_PROMPTS and steps[0] < steps[1]


@dataclass(frozen=True, slots=True)
class LearnerVersion:
    """A state of what a router has learnt online. `updated_at` (Unix s) is when it was written: as of then it counts,
    in every process."""

    version: int
    updated_at: float
    learner: Learner

    def outlooks(self) -> Outlooks:
        """What it makes of catalogues."""
        return Outlooks(self.learner, self.updated_at)


class LearnerStore(Protocol):
    """States of routers, and the answers that they follow from. Everything raises DependencyUnavailable."""

    async def learn(self, points: Sequence[HistoryPoint]) -> None:
        """Take new answers in; what was taken in already changes nothing."""
        ...

    async def regrade(self, limit: int) -> int:
        """Take in up to `limit` grades that were revised; how many there were."""
        ...

    async def forget(self, user_id: str, request_ids: Sequence[str]) -> None:
        """Take these requests out of whatever was learnt of them."""
        ...

    async def recount(self, scope: HistoryScope, prompts: Sequence[str]) -> None:
        """Take out what was learnt of these prompts by requests that are gone."""
        ...

    async def forget_model(self, user_id: str, model: str) -> None:
        """Take a deleted model out of all that its owner's routers have learnt."""
        ...

    async def renew(self, scope: HistoryScope) -> bool:
        """Make the router's features of its own prompts where there are enough; whether it was done."""
        ...

    async def state(self, scope: HistoryScope, than: int | None = None) -> LearnerVersion | None:
        """The newest state, if it is newer than version `than`. A router that has learnt nothing yet has version 0:
        what its owner's other routers know."""
        ...
