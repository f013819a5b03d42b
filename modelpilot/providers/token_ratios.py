"""How many tokens a model counts to one of ours: learnt from the usage that its provider reports."""

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import NamedTuple

from modelpilot.chat.size import PromptSize
from modelpilot.providers.catalogue import ModelSpec
from modelpilot.requests.outcome import Usage

# What a model's ratio may be. A report beyond the wider bounds is about something else than this prompt.
LEAST_RATIO, MOST_RATIO = 0.3, 3.0
_LEAST_REPORTED, _MOST_REPORTED = 0.2, 5.0
# The newest reports of a model; their weighted median is not moved by single wrong ones, and follows a change.
_KEPT = 64
# Of a short prompt much is what the provider puts around it: it counts by its share of so many tokens and itself.
_FRAMING_TOKENS = 50.0
_PRIOR_WEIGHT = 2.0  # reports at which half of what they say is believed
Ratios = Mapping[str, float]  # by model
no_ratios: Ratios = {}


class TokenReport(NamedTuple):
    """A call that ended well: the tokens of its prompt by our count, without media, and by its provider's."""

    user_id: str
    model: str
    counted: int
    reported: int


class Measure(NamedTuple):
    """How a model counts: the tokens of a prompt, and how many of its tokens there are to one of ours."""

    prompt_tokens: int
    ratio: float = 1.0


class TokenRatios:
    """One process's memory of them, by owner and model, for at most `maximum`; those that were reported on least
    recently go first."""

    def __init__(self, maximum: int = 20_000) -> None:
        self._maximum = maximum
        self._reports: OrderedDict[tuple[str, str], deque[tuple[float, float]]] = OrderedDict()  # log ratio, weight
        self._ratios: dict[str, dict[str, float]] = {}

    def note(self, report: TokenReport) -> None:
        """Learn from a report, unless it cannot be about the prompt."""
        if _believable(report):
            self._kept(report).append(_weighed(report))
            self._refresh((report.user_id, report.model))

    def learn(self, user_id: str, model: str, size: PromptSize, usage: Usage) -> None:
        """Learn from the usage that a provider itself reports of a whole answer to a prompt of this size."""
        if (compared := reported_tokens(size, usage)) is not None:
            self.note(TokenReport(user_id, model, *compared))

    def measure(self, user_id: str, size: PromptSize, model: ModelSpec, kind: str | None) -> Measure:
        """How an owner's model, at a provider of this kind, counts a prompt."""
        ratios = self.of(user_id)
        return Measure(tokens_for(size, model, kind, ratios), ratios.get(model.id, 1.0))

    def recall(self, reports: Iterable[TokenReport]) -> None:
        """Learn from what was reported before this process began, the newest first, behind what it has noted itself."""
        touched = set()
        for report in reports:
            if _believable(report) and len(kept := self._kept(report)) < _KEPT:
                kept.appendleft(_weighed(report))
                touched.add((report.user_id, report.model))
        for key in touched & self._reports.keys():
            self._refresh(key)

    def renew(self, reports: Iterable[TokenReport]) -> None:
        """Know nothing but these, the newest first."""
        self._reports.clear()
        self._ratios.clear()
        self.recall(reports)

    def _kept(self, report: TokenReport) -> deque[tuple[float, float]]:
        key = report.user_id, report.model
        kept = self._reports.setdefault(key, deque(maxlen=_KEPT))
        self._reports.move_to_end(key)
        if len(self._reports) > self._maximum:
            (user_id, model), _ = self._reports.popitem(last=False)
            self._ratios.get(user_id, {}).pop(model, None)
        return kept

    def _refresh(self, key: tuple[str, str]) -> None:
        user_id, model = key
        self._ratios.setdefault(user_id, {})[model] = _ratio(self._reports[key])

    def of(self, user_id: str) -> Ratios:
        """The ratio of each model that has been reported on."""
        return self._ratios.get(user_id, no_ratios)


def _believable(report: TokenReport) -> bool:
    return report.counted > 0 and _LEAST_REPORTED <= report.reported / report.counted <= _MOST_REPORTED


def _weighed(report: TokenReport) -> tuple[float, float]:
    """The log ratio, and its weight in [0, 1]."""
    return math.log(report.reported / report.counted), report.counted / (report.counted + _FRAMING_TOKENS)


def _ratio(reports: Iterable[tuple[float, float]]) -> float:
    """The weighted median of the log ratios, shrunk towards 0."""
    ordered = sorted(reports)
    whole = sum(weight for _, weight in ordered)
    reached = accumulate(weight for _, weight in ordered)
    median = next(log for (log, _), until in zip(ordered, reached, strict=True) if 2.0 * until >= whole)
    return min(max(math.exp(median * whole / (whole + _PRIOR_WEIGHT)), LEAST_RATIO), MOST_RATIO)


def reported_tokens(size: PromptSize, usage: Usage) -> tuple[int, int] | None:
    """Our count of a prompt and its provider's (`usage`), where they are about the same text; None: they are not."""
    if size.media or usage.web_searches or usage.audio_input_tokens or usage.image_input_tokens:
        return None
    return size.text_tokens, usage.input_tokens


def tokens_for(size: PromptSize, model: ModelSpec, kind: str | None, ratios: Ratios) -> int:
    """The tokens of a prompt as a model counts them: text by its ratio, media by the rule of its provider's kind."""
    text = size.text_tokens * ratios.get(model.id, 1.0)
    return round(text) + (size.media_tokens(kind, model.provider_model) if size.media else 0)
