"""The names that clients may use for an owner's routers and models beside their own, so that code with a model's name
in it goes where its owner wants.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from modelpilot.routing.router import ANYTHING, ROUTER_PREFIX


class Target(NamedTuple):
    """Whom a request is for."""

    kind: Literal["router", "model"]
    id: str


@dataclass(frozen=True)
class KnownAliases:
    """One owner's aliases, each with the target that has it, and the ids of the models that are the owner's own."""

    targets: Mapping[str, Target]
    own_models: frozenset[str] = frozenset()

    @classmethod
    def of(cls, named: Iterable[tuple[Target, Iterable[str]]], own_models: Collection[str] = ()) -> "KnownAliases":
        """Where two have the same alias, a router comes before a model, and then the first by name."""
        places = sorted(((alias, target) for target, aliases in named for alias in aliases), reverse=True, key=_place)
        return cls(dict(places), frozenset(own_models))

    def resolve(self, name: str) -> Target:
        """Whom a client means by the `model` that it sends: what `router/{id}` or an alias says, else the model called
        so. What was said of one name counts before a wildcard; an owner's own model does, too, but not one of the
        shared catalogue: an alias `openai/*` is there to catch those. Of several wildcards the longest counts."""
        if name.startswith(ROUTER_PREFIX):
            return Target("router", name.removeprefix(ROUTER_PREFIX))
        found = self.targets.get(name)
        if found is None and name not in self.own_models:
            found = next((target for pattern, target in self._wildcards if pattern.fullmatch(name)), None)
        return found or Target("model", name)

    @cached_property
    def _wildcards(self) -> list[tuple[re.Pattern[str], Target]]:
        aliases = sorted((alias for alias in self.targets if ANYTHING in alias), key=lambda alias: (-len(alias), alias))
        return [(_pattern(alias), self.targets[alias]) for alias in aliases]


def _place(named: tuple[str, Target]) -> tuple[str, bool, str]:
    alias, target = named
    return alias, target.kind == "model", target.id


def _pattern(alias: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, alias.split(ANYTHING))), re.DOTALL)


def taken(target: Target, aliases: Sequence[str], known: KnownAliases) -> Iterator[tuple[str, str]]:
    """What `target`, with these aliases, would be called like something else: the field, and what that is."""
    for place, alias in enumerate(aliases):
        holder = known.targets.get(alias, target)
        if holder != target:
            yield f"aliases[{place}]", f"'{alias}' is an alias of the {holder.kind} '{holder.id}'"
        elif alias in known.own_models and target != ("model", alias):
            yield f"aliases[{place}]", f"'{alias}' is the id of a model of yours"
    holder = known.targets.get(target.id, target)
    if target.kind == "model" and holder != target:
        yield "id", f"'{target.id}' is an alias of the {holder.kind} '{holder.id}'"
