"""Whose spend: what sums are kept by, beside router, model and provider, and which requests hourly rows can tell apart.

An hourly row of a dimension knows one of these names, and the router, model and provider beside it. Two of them at
once (this customer's requests by user) are only in single requests, as are sessions, whose number has no bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from modelpilot.metrics.requests import AnalyticsScope, RequestFilter

# Kept for everybody. Their names are those of the API's filters.
BUILT_IN = ("userId", "keyId", "purpose")
TAG = "tag."
# Each tag that is a dimension adds a row per value, router, model and provider to every hour.
MOST_TAGS = 10
# Values of a dimension that an hour of an owner has rows for, the dearest first; the others are one row each router,
# model and provider, as are values of more bytes, which no index could hold.
MOST_VALUES, MOST_VALUE_BYTES = 200, 256
# The value of those rows; also of groups that a list has no more room for.
OTHER = "(other)"

METRICS, BY_DIMENSION, TOTALS_BY_DIMENSION = "hourly_metrics", "hourly_dimensions", "hourly_dimension_totals"

# The fields of a filter that are dimensions, and those that hourly rows know nothing of.
_FIELDS = {"end_user": "userId", "key": "keyId", "purpose": "purpose"}
_ONLY_RAW = ("status", "request_type", "fallback", "request_id", "session")
_ONLY_RAW_GROUPS = ("sessionId", "requestType")
_OF_GROUPS = ("model", "provider", "routerId")


@dataclass(frozen=True, slots=True)
class Hourly:
    """Which hourly rows answer a question: a table, and the dimension whose rows of it are meant (None: it has none).
    `value` narrows to the rows of a value; None does not."""

    table: str = METRICS
    dimension: str | None = None
    value: str | None = None


def hourly_for(scope: AnalyticsScope, wanted: RequestFilter, group: str | None = None) -> Hourly | None:
    """The hourly rows that tell these requests apart, by `group` (a name of the API's `groupBy`); None: none do."""
    if group in _ONLY_RAW_GROUPS or any(getattr(wanted, name) is not None for name in _ONLY_RAW):
        return None
    values = {one: getattr(wanted, name) for name, one in _FIELDS.items() if getattr(wanted, name) is not None}
    values |= {TAG + name: value for name, value in (wanted.tags or {}).items()}
    names = {*values, group} - {None, *_OF_GROUPS}
    if len(names) > 1:
        return None
    if not names:
        return Hourly()
    (dimension,) = names
    by_group = group in _OF_GROUPS or scope.routers is not None
    narrowed = by_group or any(one is not None for one in (wanted.router, wanted.model, wanted.provider))
    return Hourly(BY_DIMENSION if narrowed else TOTALS_BY_DIMENSION, dimension, values.get(str(dimension)))


@dataclass(frozen=True, slots=True)
class ChosenTags:
    """An owner's tags that are dimensions, by name. `pending_hours` of the owner's hours do not have all of them yet:
    until they do, single requests are read for those."""

    tags: tuple[str, ...] = ()
    pending_hours: int = 0


class Dimensions(Protocol):
    """Which tags are dimensions. All methods raise DependencyUnavailable."""

    async def chosen(self, user_id: str) -> ChosenTags:
        """The owner's choice as it stands."""
        ...

    async def choose(self, user_id: str, tags: Sequence[str], actor: str) -> ChosenTags:
        """Replace the choice: hours whose single requests are there get the new tags, rows of dropped ones go."""
        ...
