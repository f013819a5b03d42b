"""Static embeddings from wordllama: a token table in the wheel, no network, microseconds."""

from pathlib import Path

import numpy as np

from infra.vectors.text import embeddable
from modelpilot.learning.estimation.surface import SURFACE_COLUMNS, with_surface
from modelpilot.requests.records import Vector

_MEANING = 256


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
        length = float(np.linalg.norm(vector))
        if not np.isfinite(length) or length == 0.0:
            return np.zeros(self.dimension, np.float32)
        return with_surface(vector / np.float32(length), prepared)

    async def close(self) -> None:
        """Nothing to let go of."""
