"""What models have refused lately: a parameter by its name, or a request with the same options.

A parameter that the provider names is avoided for ten minutes: any value of it where the provider does not support it,
else the same value. Where it names none, or one that holds structure (tools, a schema), nobody knows which part it was:
then the same options with the same values are avoided, for two minutes. Unless the provider has no such parameter, that
takes another model that took the request, so that one bad body steers nobody away from a model.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelpilot.providers.deployments import Deployment
from modelpilot.wire.jsonb import dump

PARAMETER_S = 600.0
OPTIONS_S = 120.0
# Of one model at one deployment; beyond them the oldest is forgotten.
_MOST_OF_ONE = 16
# What a model refuses is not in these: the conversation, transport, bookkeeping.
_NO_OPTIONS = frozenset(
    {"messages", "model", "modelpilot", "stream", "stream_options", "user", "metadata", "store", "seed"}
    | {"prompt_cache_key", "prompt_cache_retention", "safety_identifier"}
)

_Place = tuple[str, str, str, str]  # owner, model, provider, the provider's name of the model


@dataclass(frozen=True, slots=True)
class _Refusal:
    names: tuple[str, ...]
    named: bool  # by the provider, so that other options do not matter
    digest: bytes | None  # of the values; None: any
    at_s: float

    @property
    def until_s(self) -> float:
        return self.at_s + (PARAMETER_S if self.named else OPTIONS_S)


class Refusals:
    """Per process and in memory, of at most `maximum` models at their deployments. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float], maximum: int = 10_000) -> None:
        self._clock, self._maximum = clock, maximum
        self._known: dict[_Place, list[_Refusal]] = {}

    def remember(
        self,
        user_id: str,
        model: str,
        deployment: Deployment,
        body: Mapping[str, Any],
        param: str | None,
        *,
        any_value: bool = False,
    ) -> None:
        """The model refused this request there, and `param` is what the provider named; `any_value`: it does not
        support that at all."""
        name = named_field(body, param)
        names = _options(body) if name is None else (name,)
        if not names:
            return  # nothing but the conversation, and the next one is another
        named = name is not None
        refusal = _Refusal(names, named, None if named and any_value else _digest(body, names), self._clock())
        place = (user_id, model, deployment.provider, deployment.provider_model)
        if place not in self._known and len(self._known) >= self._maximum:
            del self._known[next(iter(self._known))]
        others = [
            known for known in self._known.get(place, []) if (known.names, known.digest) != (names, refusal.digest)
        ]
        self._known[place] = [*others, refusal][-_MOST_OF_ONE:]

    def why_none(
        self, user_id: str, model: str, deployments: Sequence[Deployment], body: Mapping[str, Any]
    ) -> str | None:
        """Why the model will probably refuse this request wherever it is called, as a sentence; None: it may not."""
        if not self._known:
            return None  # as mostly
        reason = None
        for each in deployments:
            known = self._known.get((user_id, model, each.provider, each.provider_model), ())
            reason = next((why for refusal in known if (why := self._why(refusal, body)) is not None), None)
            if reason is None:
                return None
        return reason

    def forget(self, touched: Callable[[str, str, str], bool]) -> None:
        """Forget the places whose (owner, provider, model) are `touched`."""
        self._known = {
            place: known for place, known in self._known.items() if not touched(place[0], place[2], place[1])
        }

    def _why(self, refusal: _Refusal, body: Mapping[str, Any]) -> str | None:
        now_s = self._clock()
        if now_s >= refusal.until_s or any(body.get(name) is None for name in refusal.names):
            return None
        if not refusal.named and _options(body) != refusal.names:
            return None
        if refusal.digest is not None and _digest(body, refusal.names) != refusal.digest:
            return None
        what = f"`{refusal.names[0]}`" if refusal.named else f"a request with the same {', '.join(refusal.names)}"
        return f"refused {what} {_ago(now_s - refusal.at_s)}"


def named_field(body: Mapping[str, Any], param: str | None) -> str | None:
    """The field of the body that `param` (`temperature`, `stop[0]`) means, where it is one without structure."""
    name = re.split(r"[.\[]", param or "", maxsplit=1)[0]
    plain = isinstance(body.get(name), str | int | float)
    return name if plain and name not in _NO_OPTIONS else None


def _options(body: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(name for name, value in body.items() if value is not None and name not in _NO_OPTIONS))


def _digest(body: Mapping[str, Any], names: Sequence[str]) -> bytes:
    return hashlib.blake2b(dump([body[name] for name in names]), digest_size=16).digest()


def _ago(seconds: float) -> str:
    if seconds < 60.0:
        return f"{round(seconds)} s ago"
    minutes = round(seconds / 60.0)
    return "1 minute ago" if minutes == 1 else f"{minutes} minutes ago"
