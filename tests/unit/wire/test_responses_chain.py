"""Responses that build on earlier ones: ids that lead back to their requests, and items that only name others."""

from typing import Any

import pytest
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from modelpilot.errors import InvalidRequest
from modelpilot.wire.identity import request_id_of
from modelpilot.wire.responses_chain import item_id, listed, named_requests, resolved

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
SAID = {"type": "message", "id": "msg_req_1_0", "role": "assistant", "content": []}


@pytest.mark.parametrize("request_id", ["req_0a", "key_0b", "the-client.s:own_name_"])
def test_an_item_leads_back_to_its_request(request_id: str) -> None:
    """Whatever a client called its request."""
    items = [{"type": "item_reference", "id": item_id("msg", request_id, 3)}]
    assert named_requests(items) == {request_id}
    assert request_id_of(f"resp_{request_id}") == request_id
    assert request_id_of(request_id) is None


def test_only_items_that_are_named_alone_are_looked_up() -> None:
    """A message that is there as a whole needs no look into the database; nor do ids of others."""
    sealed = {"type": "reasoning", "id": "rs_req_1_0", "summary": [], "encrypted_content": "x"}
    assert named_requests([SAID, sealed, {"type": "item_reference", "id": "msg_68af"}, {"role": "user"}]) == set()
    assert named_requests([{**sealed, "encrypted_content": None}, {"id": "msg_req_2_0"}]) == {"req_1", "req_2"}


def test_references_become_what_they_name() -> None:
    """A reference that nobody knows is an error; reasoning that nobody knows is left as it came."""
    thought = {"type": "reasoning", "id": "rs_req_1_0", "summary": []}
    named: list[dict[str, Any]] = [{"type": "item_reference", "id": "msg_req_1_0"}, thought]
    assert resolved(named, {"msg_req_1_0": SAID}) == [SAID, thought]
    with pytest.raises(InvalidRequest) as caught:
        resolved(named, {})
    assert caught.value.param == "input[0].id"


def test_listed_items_are_whole_ones() -> None:
    """The SDK parses them: ids, statuses, contents as parts."""
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": "1"}
    items = listed([{"role": "user", "content": "Hi"}, {**SAID, "content": "Yo"}, call, output], "req_2")
    for item in items:
        ITEM.validate_python(item)
    assert [item["id"] for item in items] == ["in_req_2_0", "msg_req_1_0", "in_req_2_2", "in_req_2_3"]
    assert items[0]["content"] == [{"type": "input_text", "text": "Hi"}]
