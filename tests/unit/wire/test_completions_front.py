"""OpenAI's old text completions over chat: requests, answers and streams."""

from typing import Any

import pytest

from modelpilot.chat.body import ChatBody
from modelpilot.errors import InvalidRequest
from modelpilot.wire.chunks import as_chunks, choice_of, chunk_of
from modelpilot.wire.completions_front import TextChunks, chat_request_of, completion_of, merged, prompts_of


def body(prompt: Any = "Once", **fields: Any) -> dict[str, Any]:
    """A text completion request."""
    return {"model": "router/a", "prompt": prompt, **fields}


def completion(*texts: str, **fields: Any) -> dict[str, Any]:
    """A chat completion with these answers."""
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", **fields}
        for index, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}


def test_a_prompt_becomes_a_message_of_the_user() -> None:
    """What means the same for chat stays, unknown fields too; 16 tokens are what OpenAI gives where none are named."""
    asked = chat_request_of(body(temperature=0.5, n=2, stop=["x"], user="u", top_k=3, echo=True), "Once")
    ChatBody.model_validate(asked)
    assert asked == {
        "model": "router/a", "messages": [{"role": "user", "content": "Once"}], "max_completion_tokens": 16,
        "temperature": 0.5, "n": 2, "stop": ["x"], "user": "u", "top_k": 3,
    }  # fmt: skip
    assert (
        chat_request_of(body(max_tokens=7, logprobs=0), "x").items()
        >= {
            "max_completion_tokens": 7,
            "logprobs": True,
            "top_logprobs": 0,
        }.items()
    )


@pytest.mark.parametrize(
    ("asked", "prompts"),
    [
        (body("a"), ["a"]),
        (body(""), [""]),
        (body(["a", "b"]), ["a", "b"]),
        (body("a", suffix=""), ["a"]),
        (body("a", n=3, best_of=3), ["a"]),
        (body("a", best_of=1), ["a"]),
    ],
)
def test_prompts_are_a_text_or_a_list_of_texts(asked: dict[str, Any], prompts: list[str]) -> None:
    """Each becomes a request."""
    assert prompts_of(asked) == prompts


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        (body([]), "prompt"),
        (body([1, 2]), "prompt"),
        (body([[1], [2]]), "prompt"),
        (body(["a", 1]), "prompt"),
        (body(["a"] * 65), "prompt"),
        (body(["a", "b"], stream=True), "prompt"),
        (body(suffix="end"), "suffix"),
        (body(best_of=3), "best_of"),
        (body(n=2, best_of=1), "best_of"),
        (body(max_tokens=0), "max_tokens"),
    ],
)
def test_what_chat_cannot_do_is_refused_and_named(asked: dict[str, Any], param: str) -> None:
    """Never answered as if it had not been asked."""
    with pytest.raises(InvalidRequest, match=f"^{param}: ") as refused:
        prompts_of(asked)
    assert refused.value.param == param


def test_an_answer_is_text() -> None:
    """Behind the prompt where that is to be echoed; tool calls end as a stop, which old clients know."""
    answer = completion_of(completion("one", "two", finish_reason="tool_calls"), "Say ", 4)
    assert (answer["object"], answer["id"], answer["model"]) == ("text_completion", "c", "m")
    assert answer["choices"] == [
        {"index": 4, "text": "Say one", "logprobs": None, "finish_reason": "stop"},
        {"index": 5, "text": "Say two", "logprobs": None, "finish_reason": "stop"},
    ]
    assert completion_of(completion("x", finish_reason="length"))["choices"][0]["finish_reason"] == "length"


LOGPROBS = {
    "content": [
        {"token": "ab", "logprob": -0.5, "bytes": [97], "top_logprobs": [{"token": "ab", "logprob": -0.5}]},
        {"token": "c", "logprob": -1.0, "bytes": [98], "top_logprobs": [{"token": "d", "logprob": -0.1}]},
    ]
}


def test_logprobs_have_the_old_columns() -> None:
    """Offsets count characters of the whole text, an echoed prompt included."""
    answer = completion_of(completion("abc", logprobs=LOGPROBS), "xyz")
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["ab", "c"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"ab": -0.5}, {"d": -0.1}],
        "text_offset": [3, 5],
    }


def test_several_answers_are_one() -> None:
    """Choices in the order of the prompts, tokens added up."""
    parts = [completion_of(completion("a", "b")), completion_of(completion("c"), first_index=2)]
    whole = merged(parts)
    assert [choice["text"] for choice in whole["choices"]] == ["a", "b", "c"]
    assert whole["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}


@pytest.mark.parametrize("echo", ["", "Say "])
def test_a_stream_adds_up_to_the_answer(echo: str) -> None:
    """Without the chunks that only chat has; offsets go on from chunk to chunk, and an empty answer has its prompt."""
    for given in (completion("", "two"), completion("one", logprobs=LOGPROBS)):
        translator = TextChunks(echo)
        made = [text for chunk in as_chunks(given) if (text := translator.take(chunk)) is not None]
        assert all(chunk["object"] == "text_completion" for chunk in made)
        for expected in completion_of(given, echo)["choices"]:
            parts = [each for chunk in made for each in chunk["choices"] if each["index"] == expected["index"]]
            assert "".join(part["text"] for part in parts) == expected["text"]
            assert parts[-1]["finish_reason"] == "stop"
            assert next((part["logprobs"] for part in parts if part["logprobs"]), None) == expected["logprobs"]


def test_a_role_alone_is_no_chunk() -> None:
    """The old stream has none for it; the usage keeps its own."""
    base = {"id": "c", "created": 1, "model": "m"}
    translator = TextChunks("Say ")
    assert translator.take(chunk_of(base, [choice_of({"role": "assistant", "content": ""})])) is None
    first = translator.take(chunk_of(base, [choice_of({"content": "one"})]))
    assert first is not None
    assert first["choices"][0]["text"] == "Say one"
    usage = translator.take(chunk_of(base, [], usage={"prompt_tokens": 1}))
    assert usage is not None
    assert (usage["choices"], usage["usage"]) == ([], {"prompt_tokens": 1})
