"""What people say about answers, how much of it counts, and the ports to what is stored of both.

One source (an end user, or an API key that names none) counts for at most `SOURCE_SHARE` of all feedback on a router
and model, and one API key for no more than all other keys together, since a key may make up end users. What a source
says beyond that counts as the consensus: so the mean over all requests is the capped mean, however much one says.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

from modelpilot.requests.records import RequestKey

SOURCE_SHARE = 0.1
# So many requests count fully whoever speaks: with few sources a share of the whole would be nothing.
SOURCE_FLOOR = 5.0
KEY_SHARE = 0.5
# Where the consensus is that of very few, half of it is what nobody has said: neither good nor bad.
PRIOR_SCORE, PRIOR_WEIGHT = 0.5, 5.0
WINDOW_DAYS = 30

MAX_COMMENT_CHARACTERS = 2_000
MAX_END_USER_CHARACTERS = 200

_ROUNDING = 1e-9

Thumbs = Literal["up", "down"]
Name = TypeVar("Name")


def score_of(thumbs: Thumbs) -> float:
    """Thumbs as a score: up is 1, down is 0."""
    return 1.0 if thumbs == "up" else 0.0


@dataclass(frozen=True, slots=True)
class SourceTotal:
    """What one source has said about one router and model within the window: on how many requests, and the sum."""

    api_key: str
    source: str
    count: int
    score_sum: float


@dataclass(frozen=True, slots=True)
class Trust:
    """How the feedback on one router and model counts.

    `shares` maps (API key, source) to the part of its weight that counts, in (0, 1]; `consensus` is the capped mean.
    """

    shares: Mapping[tuple[str, str], float]
    consensus: float

    def tempered(self, api_key: str, source: str, score: float) -> float:
        """One score as it counts: its own part, and the consensus for the rest."""
        share = self.shares.get((api_key, source), 1.0)
        return share * score + (1.0 - share) * self.consensus


NO_TRUST = Trust({}, PRIOR_SCORE)


def capped_weights(weights: Mapping[Name, float], share: float, floor: float) -> dict[Name, float]:
    """Each weight, but at most `share` of the sum of the *capped* weights, or `floor` where that is more.

    A share of the uncapped sum would be no cap: who says a thousand times as much also raises the sum.
    """
    cap = _cap(sorted(weights.values()), share, floor)
    return {name: min(weight, cap) for name, weight in weights.items()}


def _cap(ascending: list[float], share: float, floor: float) -> float:
    """The largest cap c with c = max(floor, share · Σ min(w, c)).

    With the m largest weights at the cap, c = share · (sum of the others) / (1 - share · m); m is the smallest number
    for which the next largest weight fits beneath.
    """
    rest = sum(ascending)
    for at_cap, weight in enumerate(reversed(ascending)):
        room = 1.0 - share * at_cap
        if room <= 0.0:
            break
        cap = share * rest / room
        if weight <= cap * (1.0 + _ROUNDING):  # ten equal sources hold a tenth each, whatever 0.1 is in binary
            return max(cap, weight, floor)
        rest -= weight
    return floor


def trust(totals: Iterable[SourceTotal]) -> Trust:
    """How much of what each source of one router and model says counts."""
    said = {(total.api_key, total.source): total for total in totals if total.count > 0}
    weights = capped_weights({name: float(t.count) for name, t in said.items()}, SOURCE_SHARE, SOURCE_FLOOR)
    weights = _keys_capped(weights)
    total = sum(weights.values()) + PRIOR_WEIGHT
    scores = sum(weight * said[name].score_sum / said[name].count for name, weight in weights.items())
    consensus = (scores + PRIOR_SCORE * PRIOR_WEIGHT) / total
    return Trust({name: weight / said[name].count for name, weight in weights.items()}, consensus)


def _keys_capped(weights: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    by_key: dict[str, float] = defaultdict(float)
    for (api_key, _), weight in weights.items():
        by_key[api_key] += weight
    if len(by_key) < 2:  # the only voice there is: its users keep each other in check
        return dict(weights)
    allowed = capped_weights(by_key, KEY_SHARE, SOURCE_FLOOR)
    return {name: weight * allowed[name[0]] / by_key[name[0]] for name, weight in weights.items()}


@dataclass(frozen=True, slots=True)
class StoredText:
    """A request's body (without `modelpilot`) and its OpenAI-shaped answer; None where it failed."""

    body: dict[str, Any] = field(repr=False)
    answer: dict[str, Any] | None = field(repr=False)


class TextStore(Protocol):
    """Prompts and answers of routers that store them. Methods raise DependencyUnavailable."""

    async def read(self, user_id: str, request_ids: Sequence[str]) -> Mapping[str, StoredText]:
        """Those that are stored and have not expired, by request id."""
        ...

    async def delete(self, key: RequestKey) -> bool:
        """Delete every word of a request that ended: its stored text, its payloads kept for recovery, comments and
        judges' reasons. False where there was none."""
        ...


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one source says about one request. `end_user` is the client's own name for who says so, never stored in
    clear; None: the API key itself speaks."""

    key: RequestKey
    api_key_id: str
    score: float
    end_user: str | None = None
    comment: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rated:
    """A request after feedback: its quality now, and where that comes from."""

    request_id: str
    score: float
    quality: float
    quality_source: str


class FeedbackStore(Protocol):
    """Feedback, and the quality of the rows that it is about. Methods raise DependencyUnavailable."""

    async def router_of(self, key: RequestKey) -> str | None:
        """The router of an ended request ("" for a model called directly), or None: there is no such request."""
        ...

    async def put(self, feedback: Feedback) -> Rated:
        """Store it in place of what the same source said before, and revise the request's quality at once. Raises
        NotFound where the request has not ended, Conflict where it has no answer to rate."""
        ...
