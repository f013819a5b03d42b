"""What the prompt caches of providers probably hold: which beginnings of prompts were sent to which deployment not long
ago. Expectations for decisions and for the choice of a deployment; what a call costs, its own report says."""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpilot.chat.prefix import Beginning
from modelpilot.providers.deployments import Deployment
from modelpilot.providers.kinds import KINDS, ProviderKind
from modelpilot.requests.outcome import Usage

Place = tuple[str, Deployment]  # a model, and where it is called
_MARKS_ONLY = "anthropic/"  # OpenRouter's names of models whose provider caches nothing unasked


@dataclass(frozen=True, slots=True)
class Warmth:
    """Tokens of a prompt that a cache holds, as the prompt's own are estimated; 0 where it was sent there, but a cache
    that would save money is not to be expected. `own`: of this conversation, and not only instructions that others
    share."""

    tokens: int
    own: bool


@dataclass(frozen=True, slots=True)
class _Kept:
    tokens: int
    until: float
    by_marks: bool  # only a request with marks reads it


class PromptCaches:
    """One process's memory of them, for at most `maximum` beginnings; those that were used least recently go first.
    `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, maximum: int = 20_000) -> None:
        self._clock, self._maximum = clock, maximum
        self._kept: OrderedDict[tuple[str, bytes], dict[Place, _Kept]] = OrderedDict()
        self._cold: OrderedDict[tuple[str, Place], None] = OrderedDict()  # where reads were expected in vain

    def warm(self, user_id: str, prefix: Sequence[Beginning]) -> Mapping[Place, Warmth]:
        """Who has the longest beginning of a prompt in the cache."""
        found: dict[Place, Warmth] = {}
        now, marked = self._clock(), False
        for beginning in reversed(prefix if self._kept else ()):
            marked = marked or beginning.kept_s is not None
            for place, kept in self._kept.get((user_id, beginning.digest), {}).items():
                if place not in found and kept.until > now and (marked or not kept.by_marks):
                    tokens = 0 if (user_id, place) in self._cold else kept.tokens
                    found[place] = Warmth(tokens, not beginning.shared)
        return found

    def note(
        self, user_id: str, place: Place, kind: ProviderKind | None, prefix: Sequence[Beginning], usage: Usage
    ) -> None:
        """A call with this prompt has ended well. What its provider reports to have read and written counts; caches
        that report nothing when they are written are believed until they were expected to be read and were not."""
        facts = KINDS[kind].cache if kind is not None else None
        if not prefix or facts is None:
            return
        whole, reported = prefix[-1].tokens, usage.cached_tokens + usage.cache_write_tokens
        by_marks = not facts.automatic or place[1].provider_model.startswith(_MARKS_ONLY)
        if by_marks:
            kept = [each for each in prefix if each.kept_s is not None]
            most = round(reported / max(usage.input_tokens, 1) * whole)
        else:
            self._believe(user_id, place, prefix, reported)
            kept, most = [*[each for each in prefix if each.shared][-1:], prefix[-1]], whole
        # A model may count more tokens than we do.
        scale = max(usage.input_tokens / whole, 1.0)
        for each in kept:
            if each.tokens * scale >= facts.least_tokens:
                until = self._clock() + (each.kept_s if by_marks and each.kept_s else facts.lifetime_s)
                self._keep((user_id, each.digest), place, _Kept(min(each.tokens, most), until, by_marks))

    def _believe(self, user_id: str, place: Place, prefix: Sequence[Beginning], reported: int) -> None:
        if reported:
            self._cold.pop((user_id, place), None)
        elif place in self.warm(user_id, prefix):
            self._cold[user_id, place] = None
            _bound(self._cold, self._maximum)

    def _keep(self, key: tuple[str, bytes], place: Place, kept: _Kept) -> None:
        self._kept.setdefault(key, {})[place] = kept
        self._kept.move_to_end(key)
        _bound(self._kept, self._maximum)


def _bound(memory: OrderedDict[Any, Any], maximum: int) -> None:
    while len(memory) > maximum:
        memory.popitem(last=False)
