"""Tool calls leave with an index of their own, ascending, and their id and name once: so SDKs add them up."""

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.wire.assembler import ChunkAssembler
from modelpilot.wire.openai import OpenAIDecoder
from modelpilot.wire.reader import AnswerReader
from tests.support.samples import chunk, delta


def piece(
    index: int | None, call_id: str | None = None, name: str | None = None, arguments: str = ""
) -> dict[str, Any]:
    """A delta of one call; None is a field that is not there."""
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    known = {"index": index, "id": call_id, "type": None if call_id is None else "function"}
    return {**{key: value for key, value in known.items() if value is not None}, "function": function}


def passed(*deltas: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The tool calls of each chunk as a client gets them."""
    decoder = OpenAIDecoder()
    chunks = [taken for item in deltas for taken in decoder.take(chunk(delta(tool_calls=item)))]
    return [found["choices"][0]["delta"].get("tool_calls") for found in chunks]


def added_up(chunks: list[list[dict[str, Any]]]) -> list[tuple[str, str, str]]:
    """Id, name and arguments of every call, by the index alone, everything appended: as OpenAI's own SDK does."""
    calls: list[list[str]] = []
    for call in (call for deltas in chunks for call in deltas or []):
        if call["index"] == len(calls):
            calls.append(["", "", ""])
        function = call.get("function", {})
        for place, text in enumerate((call.get("id"), function.get("name"), function.get("arguments"))):
            calls[call["index"]][place] += text or ""
    return [(call[0], call[1], call[2]) for call in calls]


WANTED = [("a", "f", '{"x":1}'), ("b", "f", '{"x":2}')]


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([[piece(0, "a", "f", '{"x":1}')], [piece(0, "b", "f", '{"x":2}')]], id="every call has index 0"),
        pytest.param([[piece(None, "a", "f", '{"x":1}'), piece(None, "b", "f", '{"x":2}')]], id="none, in one chunk"),
        pytest.param([[piece(None, "a", "f", '{"x":1}')], [piece(None, "b", "f", '{"x":2}')]], id="none, one by one"),
        pytest.param([[piece(0, "a", "f", '{"x":1}'), piece(0, "b", "f", '{"x":2}')]], id="index 0, in one chunk"),
        pytest.param([[piece(1, "a", "f", '{"x":1}')], [piece(2, "b", "f", '{"x":2}')]], id="from 1"),
        pytest.param([[piece(7, "a", "f", '{"x":1}')], [piece(3, "b", "f", '{"x":2}')]], id="any numbers"),
        pytest.param(
            [[piece(0, "a", "f")], [piece(0, None, None, '{"x":1}')], [piece(0, "b", "f")],
             [piece(0, None, None, '{"x":')], [piece(0, None, None, "2}")]], id="index 0, in pieces",
        ),
        pytest.param(
            [[piece(0, "a", "f", '{"x"')], [piece(0, "a", "f", ":1}")], [piece(1, "b", "f", '{"x":2}')]],
            id="id and name with every piece",
        ),
        pytest.param(
            [[piece(None, "a", "f", '{"x"')], [piece(None, "b", "f", '{"x"')], [piece(None, "a", None, ":1}")],
             [piece(None, "b", None, ":2}")]], id="by their ids, in turns",
        ),
        pytest.param(
            [[piece(0, "a", "f", '{"x":1}')], [piece(0, "a", "f", '{"x":1}')], [piece(1, "b", "f", '{"x":2}')],
             [piece(0, "a", "f", '{"x":1}'), piece(1, "b", "f", '{"x":2}')]], id="each sent twice",
        ),
        pytest.param(
            [[piece(0, "a", "f")], [piece(0, None, None, '{"x":')], [piece(0, None, None, "1}")],
             [piece(1, "b", "f", '{"x":2}')], [piece(0, "a", "f", '{"x":1}')]], id="in pieces, then as a whole",
        ),
    ],
)  # fmt: skip
def test_sloppy_calls_are_numbered(deltas: Any) -> None:
    """Whatever the server's numbers, a client ends with the calls that were meant, and so does the record."""
    before = copy.deepcopy(deltas)
    found = passed(*deltas)
    assert added_up(found) == WANTED
    assert deltas == before
    assembler = ChunkAssembler()
    for calls in found:
        assembler.add(chunk(delta(tool_calls=calls)))
    whole = assembler.result()["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in whole] == WANTED


def test_calls_without_index_and_id() -> None:
    """A name behind whole arguments is another call, and every call gets a name that its result can name."""
    deltas = [[piece(0, None, "f", '{"x":1}')], [piece(0, None, "f", '{"x":2}')], [piece(0, None, "g", "")],
              [piece(0, None, None, "{}")]]  # fmt: skip
    assert added_up(passed(*deltas)) == [
        ("call_x_0_0", "f", '{"x":1}'),
        ("call_x_0_1", "f", '{"x":2}'),
        ("call_x_0_2", "g", "{}"),
    ]
    late = [[piece(0, "", "f", "{")], [piece(0, "late", None, "}")]]
    assert added_up(passed(*late)) == [("call_x_0_0", "f", "{}")]


def test_orderly_calls_keep_their_bytes() -> None:
    """Nothing is written anew that clients read rightly as it is; what is changed keeps all other fields."""
    calls = [
        [piece(0, "a", "f")],
        [piece(0, None, None, '{"x"')],
        [piece(1, "b", "g", "{}")],
        [piece(0, None, None, ":1}")],
    ]
    reader = AnswerReader(OpenAIDecoder())
    for item in (chunk(delta(tool_calls=deltas)) for deltas in calls):
        (found,) = reader.feed(b"data: " + orjson.dumps(item) + b"\n\n")
        assert found.raw == orjson.dumps(item)
    item = chunk(delta(tool_calls=[{**piece(0, "c", "f"), "extra": 1}]), x=1)
    (found,) = reader.feed(b"data: " + orjson.dumps(item) + b"\n\n")
    assert (found.raw, found.data["x"]) == (None, 1)
    assert found.data["choices"][0]["delta"]["tool_calls"] == [{**piece(2, "c", "f"), "extra": 1}]


def test_a_whole_answer_whose_calls_share_an_index() -> None:
    """They are numbered by their order, with or without ids."""
    calls = [{"index": 0, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "fg"]
    body = {"choices": [{"message": {"role": "assistant", "tool_calls": calls}, "finish_reason": "tool_calls"}]}
    assembler = ChunkAssembler()
    for item in OpenAIDecoder().decode_whole(body):
        assembler.add(item)
    found = assembler.result()["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["name"]) for call in found] == [("call_x_0_0", "f"), ("call_x_0_1", "g")]


ARGUMENTS = st.dictionaries(st.text("ab", max_size=2), st.integers(0, 9), min_size=1, max_size=2).map(
    lambda value: orjson.dumps(value).decode()
)


@given(st.lists(ARGUMENTS, min_size=1, max_size=4), st.data())
def test_calls_in_any_pieces(arguments: list[str], data: st.DataObject) -> None:
    """However a server numbers its calls and cuts them, their own ids keep them apart."""
    numbering = data.draw(st.sampled_from(["all 0", "none", "own"]))
    repeats = data.draw(st.booleans())
    deltas = []
    for position, text in enumerate(arguments):
        index = {"all 0": 0, "none": None, "own": position}[numbering]
        cut = data.draw(st.integers(0, len(text)))
        call_id, name = (f"id{position}", "f") if repeats else (None, None)
        deltas += [[piece(index, f"id{position}", "f", text[:cut])], [piece(index, call_id, name, text[cut:])]]
    assert added_up(passed(*deltas)) == [(f"id{n}", "f", text) for n, text in enumerate(arguments)]
