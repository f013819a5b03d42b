"""The configured embedder: wordllama in process, or any OpenAI-compatible embeddings endpoint over HTTP."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from infra.vectors.openai_embedder import OpenAIEmbedder
from infra.vectors.wordllama_embedder import WordLlamaEmbedder
from modelpilot.errors import InvalidRequest
from modelpilot.requests.ports import Embedder


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
