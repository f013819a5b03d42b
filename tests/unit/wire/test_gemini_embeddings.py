"""Embeddings for clients that speak Google's format."""

from typing import Any

import pytest

from modelpilot.errors import InvalidRequest
from modelpilot.wire.gemini_embeddings import embeddings_of, embeddings_request_of


def request(*texts: str, **fields: Any) -> dict[str, Any]:
    """One request of a batch."""
    return {"model": "models/sim/embed", "content": {"parts": [{"text": text} for text in texts]}, **fields}


def test_texts_and_dimensions_of_a_batch_are_asked_for() -> None:
    """In the order in which they came, either spelling of the size; what tells the purpose is left out."""
    body = {"requests": [request("a", output_dimensionality=8, taskType="RETRIEVAL_QUERY"), request("b", "c")]}
    body["requests"][1]["outputDimensionality"] = 8
    assert embeddings_request_of(body, "sim/embed") == {"model": "sim/embed", "input": ["a", "b\nc"], "dimensions": 8}


def test_one_text_is_asked_for() -> None:
    """The form without a batch, at the model's own size."""
    assert embeddings_request_of(request("a"), "sim/embed") == {"model": "sim/embed", "input": ["a"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"requests": [request("a", outputDimensionality=8), request("b")]}, "requests"),
        (request(), "content"),
        ({"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]}}, "content"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_named(body: dict[str, Any], param: str) -> None:
    """Sizes that differ, no text, and media."""
    with pytest.raises(InvalidRequest) as refused:
        embeddings_request_of(body, "sim/embed")
    assert refused.value.param == param


def test_vectors_come_in_the_order_of_their_texts() -> None:
    """Whatever order the provider's answer has, with the tokens and our object."""
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    answer = {"data": data, "usage": {"prompt_tokens": 3}, "modelpilot": {"requestId": "emb_1"}}
    rest = {"usageMetadata": {"promptTokenCount": 3}, "modelpilot": {"requestId": "emb_1"}}
    assert embeddings_of(answer, batch=True) == {"embeddings": [{"values": [1.0]}, {"values": [2.0]}], **rest}
    assert embeddings_of(answer, batch=False) == {"embedding": {"values": [1.0]}, **rest}
