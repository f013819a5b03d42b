"""Responses that build on earlier ones: by `previous_response_id`, and by items that only name what was answered.

Every id that is given out has the id of its request in it: `resp_{request}`, `msg_{request}_0`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from modelpilot.errors import InvalidRequest
from modelpilot.wire.jsonb import JsonObject


class PreviousResponseNotFound(InvalidRequest):
    """The response to go on from was not stored, has expired, was deleted, or is somebody else's."""

    code = "previous_response_not_found"


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """What a request said, kept for as long as its answer: its body without the input, the items of the requests before
    it, its own items, and since when (Unix seconds)."""

    body: JsonObject
    created_at: int
    earlier: list[JsonObject] = field(default_factory=list)
    items: list[JsonObject] = field(default_factory=list)


def item_id(kind: str, request_id: str, number: int) -> str:
    """The id of item `number` of its kind in the answer to a request."""
    return f"{kind}_{request_id}_{number}"


def named_requests(items: Iterable[JsonObject]) -> set[str]:
    """The requests whose answers `items` name without saying what was in them."""
    found = (_request_of(str(item.get("id") or "")) for item in items if _only_names(item))
    return {request_id for request_id in found if request_id}


def resolved(items: Sequence[JsonObject], known: Mapping[str, JsonObject]) -> list[JsonObject]:
    """The items with those that are only named replaced by the ones of these ids. Raises InvalidRequest for a reference
    that nobody knows; reasoning that cannot be found is worth what is said in it."""
    whole: list[JsonObject] = []
    for index, item in enumerate(items):
        found = known.get(str(item.get("id"))) if _only_names(item) else item
        if found is None and item.get("type") != "reasoning":
            raise InvalidRequest.at(
                f"input[{index}].id", f"there is no item {str(item.get('id'))[:80]!r}; send the item itself"
            )
        whole.append(item if found is None else found)
    return whole


def listed(items: Sequence[JsonObject], request_id: str) -> list[JsonObject]:
    """Input items as `input_items` shows them: each with an id and a status, contents as lists of parts."""
    return [_shown(item, item_id("in", request_id, number)) for number, item in enumerate(items)]


def _shown(item: JsonObject, own_id: str) -> JsonObject:
    kind = item.get("type") or "message"
    shown = {"id": own_id, "status": "completed", **item, "type": kind}
    if kind == "message" and isinstance(item.get("content"), str):
        said = item.get("role") == "assistant"
        part = {"type": "output_text", "annotations": []} if said else {"type": "input_text"}
        shown["content"] = [{**part, "text": item["content"]}]
    return {**shown, "id": item.get("id") or own_id}


def _only_names(item: JsonObject) -> bool:
    kind = item.get("type")
    if kind == "reasoning":
        return not item.get("encrypted_content")
    return kind == "item_reference" or (kind is None and "role" not in item)


def _request_of(name: str) -> str:
    return name.partition("_")[2].rpartition("_")[0]
