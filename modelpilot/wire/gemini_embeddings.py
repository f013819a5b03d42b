"""Embeddings in Gemini's format as OpenAI's request and back: embedContent (one) and batchEmbedContents (several)."""

from typing import Annotated, Any

from pydantic import Field

from modelpilot.chat.body import Objects, RequestOptions
from modelpilot.errors import InvalidRequest
from modelpilot.wire.gemini_front import Open
from modelpilot.wire.gemini_schema import camel
from modelpilot.wire.jsonb import JsonObject, as_object, as_objects

MAX_TEXTS = 2_048


class EmbedContentBody(Open):
    """An embedContent request; the model is in the path. What tells the text's purpose (`taskType`, `title`) is left
    out: other providers have no word for it."""

    content: dict[str, Any]
    output_dimensionality: int | None = None
    modelpilot: RequestOptions | None = None


class BatchEmbedContentsBody(Open):
    """A batchEmbedContents request: several of embedContent, which ask for the same number of dimensions."""

    requests: Annotated[Objects, Field(min_length=1, max_length=MAX_TEXTS)]
    modelpilot: RequestOptions | None = None


def embeddings_request_of(body: JsonObject, model: str) -> JsonObject:
    """OpenAI's body for either request. Raises InvalidRequest."""
    fields = camel(body)
    requests = [camel(request) for request in as_objects(fields.get("requests"))] or [fields]
    sizes = {request.get("outputDimensionality") for request in requests}
    if len(sizes) > 1:
        raise InvalidRequest("requests: they ask for different outputDimensionality", param="requests")
    size = sizes.pop()
    asked = {"model": model, "input": [_text(request) for request in requests]}
    more = {"dimensions": size, "modelpilot": fields.get("modelpilot")}
    return {**asked, **{name: value for name, value in more.items() if value is not None}}


def _text(request: JsonObject) -> str:
    parts = as_objects(as_object(request.get("content")).get("parts"))
    texts = [part.get("text") for part in parts]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) < len(texts) or not "".join(found):
        raise InvalidRequest("content: a text was expected", param="content")
    return "\n".join(found)


def embeddings_of(answer: JsonObject, *, batch: bool) -> JsonObject:
    """Gemini's response for OpenAI's `answer`, with our object as it stands there."""
    values = [{"values": item["embedding"]} for item in sorted(answer["data"], key=lambda item: item["index"])]
    counted = {"usageMetadata": {"promptTokenCount": as_object(answer.get("usage")).get("prompt_tokens", 0)}}
    found = {"embeddings": values} if batch else {"embedding": values[0]}
    return {**found, **counted, "modelpilot": answer["modelpilot"]}
