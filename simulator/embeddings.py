"""Embeddings: texts that share words get similar vectors. Pure and deterministic."""

import base64
import re
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from simulator import request as fields
from simulator.errors import SimError
from simulator.text import count_tokens

DIMENSIONS = 256
MAX_DIMENSIONS = 4096
_WORD = re.compile(r"\w+")


@lru_cache(maxsize=4096)
def _direction(word: str, dimensions: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(zlib.crc32(word.encode()))
    return generator.standard_normal(dimensions).astype(np.float32)


def embed(text: str, dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """Return a unit vector of shape (dimensions,): the sum of one fixed random direction per word."""
    total = np.sum([_direction(word, dimensions) for word in _WORD.findall(text.lower()) or [""]], axis=0)
    unit: NDArray[np.float32] = (total / np.linalg.norm(total)).astype(np.float32)
    return unit


def inputs(value: Any) -> list[str]:
    """Read OpenAI's `input`: a text, texts, token numbers, or lists of token numbers. Raises `SimError` 400."""
    items = [value] if isinstance(value, str) or (isinstance(value, list) and value and _is_token(value[0])) else value
    if not isinstance(items, list) or not items or len(items) > 2048:
        raise SimError(400, "input must be a text or a list of 1 to 2048 texts", param="input")
    texts = [" ".join(map(str, item)) if isinstance(item, list) else item for item in items]
    if not all(isinstance(text, str) and text for text in texts):
        raise SimError(400, "input must hold non-empty texts or lists of token numbers", param="input")
    return texts


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def embeddings_body(body: Mapping[str, Any], texts: list[str]) -> bytes:
    """Answer `POST /v1/embeddings` in floats or, with `encoding_format: base64`, in little-endian float32."""
    dimensions = fields.whole(body, "dimensions", 1, MAX_DIMENSIONS) or DIMENSIONS
    packed = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = embed(text, dimensions)
        shown: Any = base64.b64encode(vector.astype("<f4").tobytes()).decode() if packed else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": body.get("model"), "usage": usage})
