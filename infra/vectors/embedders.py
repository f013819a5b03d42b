"""The configured embedder: wordllama in process (static embeddings: a token table in the wheel, no network), or any
OpenAI-compatible embeddings endpoint over HTTP."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import aiohttp
import numpy as np

from infra.vectors import LEAVE_ALONE
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch, InvalidRequest
from modelpilot.learning.estimation.surface import SURFACE_COLUMNS, with_surface
from modelpilot.providers.breaker import Breaker
from modelpilot.requests.ports import Embedder
from modelpilot.requests.records import Vector

_HEAD_CHARS = 4_000
_TAIL_CHARS = 4_000
_MEANING = 256  # dimensions that wordllama gives


class ClosableEmbedder(Embedder, Protocol):
    """An embedder with something to let go of at shutdown."""

    async def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """Which embedder. Everything but `kind` matters for "openai" only; there `model` and `dimension` are needed."""

    kind: Literal["wordllama", "openai"] = "wordllama"
    base_url: str = "https://api.openai.com/v1"
    model: str = ""
    dimension: int = 0
    api_key: str | None = field(default=None, repr=False)
    timeout_ms: float = 1_000.0


def create_embedder(config: EmbedderConfig) -> ClosableEmbedder:
    """Make the embedder (wordllama: a quarter of a second). Raises InvalidRequest naming what is missing."""
    if config.kind == "wordllama":
        return WordLlamaEmbedder()
    if not config.model or config.dimension < 1:
        raise InvalidRequest("an OpenAI-compatible embedder needs a model and its dimension", param="embedder")
    return OpenAIEmbedder(
        config.base_url,
        config.model,
        config.dimension,
        api_key=config.api_key,
        timeout_ms=config.timeout_ms,
    )


class OpenAIEmbedder:
    """`Embedder` over HTTP: one call, no retry, since the request can go on without its neighbours.

    `dimension` must be what the model answers; another one raises EmbedderMismatch. While the endpoint is away,
    a breaker keeps requests from waiting `timeout_ms` each.
    """

    def __init__(
        self, base_url: str, model: str, dimension: int, *, api_key: str | None = None, timeout_ms: float = 1_000.0
    ) -> None:
        self.name = f"openai:{model}+surface-1"
        self.dimension = dimension + SURFACE_COLUMNS
        self._asked = dimension
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_ms / 1_000)
        self._session: aiohttp.ClientSession | None = None
        self._breaker = Breaker(LEAVE_ALONE)

    async def embed(self, text: str) -> Vector:
        """[dimension], unit length; zeros for blank text (which endpoints refuse). Raises DependencyUnavailable."""
        prepared = embeddable(text)
        if not prepared.strip():
            return np.zeros(self.dimension, np.float32)
        breaker, began_s = self._breaker, time.monotonic()
        if not breaker.admits:
            pause_s = breaker.next_probe_s
            raise DependencyUnavailable("the embeddings endpoint failed a moment ago", retry_after_s=pause_s)
        breaker.reserve()
        try:
            vector = await self._call(prepared)
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            breaker.record(healthy=False, began_s=began_s)
            raise DependencyUnavailable(f"the embeddings endpoint failed: {type(error).__name__}") from error
        breaker.record(healthy=True, began_s=began_s)
        return self._checked(vector, prepared)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _call(self, text: str) -> Vector:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        body = {"model": self._model, "input": [text], "encoding_format": "float"}
        async with self._session.post(self._url, json=body) as response:
            response.raise_for_status()
            answer: Any = await response.json(content_type=None)
        return np.array(list(answer["data"][0]["embedding"]), np.float32)

    def _checked(self, vector: Vector, text: str) -> Vector:
        if vector.shape != (self._asked,):
            raise EmbedderMismatch(
                f"{self.name} answers vectors of shape {vector.shape}, but dimension {self._asked} is configured"
            )
        return _unit(vector, text)


class WordLlamaEmbedder:
    """`Embedder` with wordllama's 256 dimensions and the text's surface. Loads in a quarter of a second, offline."""

    name = "wordllama-l2_supercat-256+surface-1"
    dimension = _MEANING + SURFACE_COLUMNS

    def __init__(self) -> None:
        import wordllama

        # With the package as cache directory and downloads off, a missing file is an error and never a request.
        self._model = wordllama.WordLlama.load(
            cache_dir=Path(wordllama.__file__).parent, dim=_MEANING, disable_download=True
        )
        # The tokenizer takes a whole text for one word, so its cache of words would be one of prompts: hardly any comes
        # twice, and with ten thousand in it a look-up takes as long as half the tokenizing.
        self._model.tokenizer.model._resize_cache(0)

    async def embed(self, text: str) -> Vector:
        """[dimension], unit length, at once; zeros for a text without tokens. Long texts: see `embeddable`."""
        prepared = embeddable(text)
        if not prepared.strip():
            return np.zeros(self.dimension, np.float32)
        # What the model's own `embed` comes to, bit for bit, for one text without padding; in half the time.
        tokens = self._model.tokenizer.encode(prepared, add_special_tokens=False).ids
        vector = self._model.embedding[tokens].sum(axis=0) / np.float32(max(len(tokens), 1))
        return _unit(vector, prepared)

    async def close(self) -> None:
        """Nothing to let go of."""


def embeddable(text: str) -> str:
    """`text` without what tokenizers and JSON encoders choke on, and at most 8,000 characters of it.

    Of longer texts the first and the last 4,000 characters stay: the beginning has the instructions and the end the
    question, and the time is bounded (some 4 ms with wordllama). NUL becomes a space, a lone surrogate "?".
    """
    if len(text) > _HEAD_CHARS + _TAIL_CHARS:
        text = f"{text[:_HEAD_CHARS]} {text[-_TAIL_CHARS:]}"
    return text.replace("\x00", " ").encode("utf-8", "replace").decode()


def _unit(vector: Vector, text: str) -> Vector:
    """`vector` at length 1 with the text's surface; zeros where it has no direction."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0.0:
        return np.zeros(len(vector) + SURFACE_COLUMNS, np.float32)
    return with_surface(vector / np.float32(length), text)
