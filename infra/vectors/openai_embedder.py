"""Embeddings from any OpenAI-compatible endpoint."""

from typing import Any

import aiohttp
import numpy as np

from infra.vectors.cool_down import CoolDown
from infra.vectors.text import embeddable
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch
from modelpilot.learning.estimation.surface import SURFACE_COLUMNS, with_surface
from modelpilot.requests.records import Vector


class OpenAIEmbedder:
    """`Embedder` over HTTP: one call, no retry, since the request can go on without its neighbours.

    `dimension` must be what the model answers; another one raises EmbedderMismatch. While the endpoint is away,
    a cool-down keeps requests from waiting `timeout_ms` each.
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
        self._cool_down = CoolDown()

    async def embed(self, text: str) -> Vector:
        """[dimension], unit length; zeros for blank text (which endpoints refuse). Raises DependencyUnavailable."""
        prepared = embeddable(text)
        if not prepared.strip():
            return np.zeros(self.dimension, np.float32)
        pause_s = self._cool_down.remaining_s()
        if pause_s > 0.0:
            raise DependencyUnavailable("the embeddings endpoint failed a moment ago", retry_after_s=pause_s)
        try:
            vector = await self._call(prepared)
        except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
            self._cool_down.failed()
            raise DependencyUnavailable(f"the embeddings endpoint failed: {type(error).__name__}") from error
        self._cool_down.succeeded()
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
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0.0:
            return np.zeros(self.dimension, np.float32)
        return with_surface(vector / np.float32(length), text)
