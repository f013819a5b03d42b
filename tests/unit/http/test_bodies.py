"""Parsing of bodies: whatever comes in, out comes a body or a coded error that names the field."""

import gc
import json
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from hypothesis import given
from hypothesis import strategies as st

from api.http.bodies import (
    LARGE_BODY_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    count_values,
    parse_object,
    read_with,
    refuse_unstorable,
    validate,
)
from modelpilot.chat.body import MAX_MESSAGES, ChatBody
from modelpilot.errors import InvalidRequest, MalformedBody
from modelpilot.routing.router import Router
from modelpilot.wire.jsonb import dump

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def nested(depth: int, inner: str = "1") -> bytes:
    return ('{"a":' + "[" * (depth - 1) + inner + "]" * (depth - 1) + "}").encode()


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"  \n", b"{", b"nope", b'{"a":}', b"\xff\xfe", b'{"a":"\xff"}', b'{"a":NaN}', b'{"a":Infinity}',
        b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":' + b"9" * 5_000 + b"}", b'{"a":"\x00"}', b"\xef\xbb\xbf{}",
        b'{"a":"\\ud800","b":NaN}', b'{"a":"\\ud800","b":1e999}', b'{"a":"\\ud800","b":' + b"9" * 5_000 + b"}",
        b'{"a":"\\ud800","b":"\xff"}', nested(100_000), nested(100_000, '"\\ud800"'), b"[" * 100_000, b'{"a"' * 100_000,
        b'{"a":"\xed\xa0\x80"}',
    ],
    ids=lambda raw: repr(raw[:24]),
)  # fmt: skip
def test_what_is_not_json_is_malformed(raw: bytes) -> None:
    """Every way of not being JSON is a 400, never a crash."""
    with pytest.raises(MalformedBody):
        parse_object(raw)


@pytest.mark.parametrize("raw", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_what_is_not_an_object_is_invalid(raw: bytes) -> None:
    """JSON of the wrong type is a 422 that says what was expected."""
    with pytest.raises(InvalidRequest, match="JSON object"):
        parse_object(raw)


def test_depth_is_bounded_where_it_can_still_be_written() -> None:
    """What is accepted can be serialized again for the provider."""
    deepest = parse_object(nested(MAX_DEPTH))
    assert json.loads(dump(deepest)) == deepest
    with pytest.raises(InvalidRequest, match="nested"):
        parse_object(nested(MAX_DEPTH + 1))


def test_many_shallow_brackets_are_fine() -> None:
    """The cheap bracket count only decides when to look closer."""
    assert parse_object(b'{"a":"' + b"[{" * 500 + b'"}') == {"a": "[{" * 500}


def test_duplicate_keys_take_the_last() -> None:
    """As every JSON reader that clients use."""
    assert parse_object(b'{"a":1,"a":2}') == {"a": 2}


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\x00", "\ufeff", "\u202eabc", "👩‍👩‍👧", "\U0010ffff"])
def test_strange_text_survives_a_round_trip(text: str) -> None:
    """Lone surrogates, NUL, right-to-left marks and emoji reach the provider as they came."""
    body = validate(parse_object(json.dumps({"messages": [{"role": "user", "content": text}]}).encode()), ChatBody)
    assert body.messages[0].content == text
    again = json.loads(dump(body.model_dump(mode="python", exclude_unset=True)))
    assert again["messages"][0]["content"] == text


@given(JSON)
def test_every_json_object_survives_a_round_trip(value: Any) -> None:
    """Parsing what we wrote gives what we had, surrogates included."""
    assert parse_object(json.dumps({"a": value}).encode()) == {"a": value}
    assert parse_object(dump({"a": value})) == {"a": value}


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_a_body_or_a_coded_error(raw: bytes) -> None:
    """No input leads to any other exception."""
    with suppress(MalformedBody, InvalidRequest):
        assert validate(parse_object(raw), Router).id


def _values(value: Any) -> int:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else None
    return 1 if inner is None else 1 + sum(map(_values, inner)) + (not inner)


@given(JSON)
def test_values_are_counted_outside_of_texts(value: Any) -> None:
    """Commas, brackets, quotes and backslashes in texts and keys are no structure."""
    assert count_values(json.dumps([value]).encode()) == _values([value])


@pytest.mark.parametrize("one", ["1", "[]", "{}", '""', "[[[[]]]]"])
def test_a_body_of_a_million_values_is_refused_unread(one: str) -> None:
    """Reading ten million arrays holds the event loop for seconds."""
    with pytest.raises(InvalidRequest, match="more than 1000000 values"):
        parse_object(b'{"a":[' + b",".join([one.encode()] * MAX_VALUES) + b"]}")


def test_a_text_with_a_million_marks_is_one_value() -> None:
    """Code and tables have as many brackets and commas as they like."""
    text = '[{",\\' * MAX_VALUES
    assert parse_object(dump({"a": text})) == {"a": text}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [1] * 5_000},
        {"messages": [{"role": "user", "content": [1] * 5_000}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [1] * 5_000},
    ],
)
def test_the_first_of_many_wrong_entries_is_named(fields: dict[str, Any]) -> None:
    """Describing a million of them takes seconds."""
    with pytest.raises(InvalidRequest) as caught:
        validate(fields, ChatBody)
    assert "[0]" in str(caught.value.param)
    assert len(caught.value.details.get("errors", [])) <= 2


def test_many_wrong_fields_are_counted_only() -> None:
    """A model whose fields cannot stop at the first one."""
    with pytest.raises(InvalidRequest, match="5000 values") as caught:
        validate({f"field{number}": 1 for number in range(4_999)}, Router)
    assert caught.value.param is None


def test_messages_are_bounded() -> None:
    """More than any provider takes, and still read in a fraction of a second."""
    message = {"role": "user", "content": "x"}
    assert validate({"messages": [message] * MAX_MESSAGES}, ChatBody)
    with pytest.raises(InvalidRequest) as caught:
        validate({"messages": [message] * (MAX_MESSAGES + 1)}, ChatBody)
    assert caught.value.param == "messages"


@pytest.mark.parametrize("size", [LARGE_BODY_BYTES, LARGE_BODY_BYTES + 1])
async def test_a_large_body_is_prepared_in_a_thread(
    aiohttp_client: Callable[..., Awaitable[TestClient[web.Request, web.Application]]], size: int
) -> None:
    """The event loop goes on with other requests meanwhile, and garbage collection with whatever else there is."""
    seen: list[tuple[bool, bool, int]] = []

    def prepare(raw: bytes) -> None:
        seen.append((threading.current_thread() is threading.main_thread(), gc.isenabled(), len(raw)))
        raise MalformedBody("as it does for small ones")

    async def handler(request: web.Request) -> web.Response:
        with pytest.raises(MalformedBody):
            await read_with(request, prepare)
        return web.Response()

    app = web.Application(client_max_size=2 * LARGE_BODY_BYTES)
    app.router.add_post("/", handler)
    client = await aiohttp_client(app)
    assert (await client.post("/", data=b"x" * size)).status == 200
    small = size <= LARGE_BODY_BYTES
    assert seen == [(small, small, size)]
    assert gc.isenabled()


def router_with(**changes: Any) -> bytes:
    return json.dumps({"id": "r", "availableModels": ["sim/small"], **changes}).encode()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"objective": {"costWeight": -1}}, "objective.costWeight"),
        ({"objective": {"costWeight": "1"}}, "objective.costWeight"),
        ({"objective": {"costWeight": True}}, "objective.costWeight"),
        ({"objective": {"sum": 1}}, "objective.sum"),
        ({"availableModels": ["a", "b", "c d"]}, "availableModels[2]"),
        ({"availableModels": "a"}, "availableModels"),
        ({"fallbackStrategy": {"fallbackModels": ["a", 1]}}, "fallbackStrategy.fallbackModels[1]"),
        ({"fallbackStrategy": {"retryAttempts": 1.5}}, "fallbackStrategy.retryAttempts"),
        ({"timeouts": {"idleMs": 10**400}}, None),
        ({"exploration": 1.5}, "exploration"),
        ({"mode": "clever"}, "mode"),
        ({"id": "a/b"}, "id"),
        ({"id": "a\n"}, "id"),
        ({"name": None}, "name"),
        ({"extra": 1}, "extra"),
        ({"\ud800": 1}, None),
        ({"x" * 5_000: 1}, "x" * 200),
        ({"availableModels": []}, None),
        ({"mode": "preferredModel"}, None),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_the_offending_field_is_named(changes: dict[str, Any], param: str | None) -> None:
    """`param` is the field in the client's spelling."""
    with pytest.raises((InvalidRequest, MalformedBody)) as caught:
        validate(parse_object(router_with(**changes)), Router)
    assert caught.value.param == param
    assert param is None or caught.value.message.startswith(f"{param}: ")


def test_union_members_are_no_fields() -> None:
    """Pydantic's names of union members stay out of `param`."""
    with pytest.raises(InvalidRequest) as caught:
        validate(parse_object(b'{"messages":[{"role":"user","content":[1]}]}'), ChatBody)
    assert caught.value.param is not None
    assert caught.value.param.startswith("messages[0].content")
    assert "str" not in caught.value.param


def test_values_stay_out_of_messages() -> None:
    """A refused value may be a secret."""
    with pytest.raises(InvalidRequest) as caught:
        validate(parse_object(router_with(name=["canary-secret"], mode="canary-secret")), Router)
    assert "canary" not in caught.value.message + json.dumps(caught.value.details)
    assert [item["param"] for item in caught.value.details["errors"]] == ["name", "mode"]


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"name": "a\x00"}, "name"),
        ({"list": ["ok", "\ud800"]}, "list[1]"),
        ({"a": {"b": "\udfff"}}, "a.b"),
        ({"k\x00": 1}, "k\x00"),
    ],
)
def test_text_that_postgres_cannot_keep_is_refused(data: dict[str, Any], param: str) -> None:
    """A 422 that names the field, instead of a database error."""
    with pytest.raises(InvalidRequest) as caught:
        refuse_unstorable(data)
    assert caught.value.param == param
