"""Embedders: wordllama from its wheel without a network, and an OpenAI-compatible endpoint over real HTTP."""

import socket
import time
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.vectors.embedders import EmbedderConfig, OpenAIEmbedder, WordLlamaEmbedder, create_embedder
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch, InvalidRequest
from modelpilot.learning.estimation.surface import split_surface


@pytest.fixture(scope="module")
def wordllama() -> WordLlamaEmbedder:
    return WordLlamaEmbedder()


async def test_wordllama_loads_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default embedder never needs the network, not even on its first use."""

    def refuse(*args: object) -> None:
        raise AssertionError("tried to connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    embedder = create_embedder(EmbedderConfig())
    vector = await embedder.embed("hello")
    assert (vector.shape, str(vector.dtype)) == ((288,), "float32")
    assert embedder.name == "wordllama-l2_supercat-256+surface-1"
    await embedder.close()


async def test_similar_texts_are_similar(wordllama: WordLlamaEmbedder) -> None:
    """The vectors mean something, and the same text gives the same one."""
    cat, kitten, tax = [
        await wordllama.embed(text)
        for text in ("how do I feed my cat", "what should my kitten eat", "quarterly tax return deadline")
    ]
    assert cat @ kitten > cat @ tax + 0.1
    np.testing.assert_array_equal(cat, await wordllama.embed("how do I feed my cat"))


@pytest.mark.parametrize("text", ["a", "how do I feed my cat", "🙂 x\n" * 300, "\u202e\ufeff\u0301"])
async def test_the_meaning_is_the_model_s_own(wordllama: WordLlamaEmbedder, text: str) -> None:
    """The short way through the model's tokens gives what its `embed` gives: stored histories depend on it."""
    meaning, _ = split_surface(await wordllama.embed(text))
    own = wordllama._model.embed([text])[0].astype(np.float64)
    np.testing.assert_allclose(meaning, own / np.linalg.norm(own), atol=1e-6)


@pytest.mark.parametrize(
    "text", ["a", "\ud800", "x\x00y", "🙂" * 5_000, "0" * 100_000, "\u202e\ufeff\u0301", "a b " * 50_000]
)
async def test_any_text_gives_a_unit_vector(wordllama: WordLlamaEmbedder, text: str) -> None:
    """Nothing that a client may send fails or yields NaN."""
    assert np.linalg.norm(await wordllama.embed(text)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("text", ["", "  \n", "\x00"])
async def test_empty_text_gives_zeros(wordllama: WordLlamaEmbedder, text: str) -> None:
    """Nothing is similar to nothing."""
    assert not (await wordllama.embed(text)).any()


async def test_long_texts_keep_their_beginning_and_end(wordllama: WordLlamaEmbedder) -> None:
    """A huge context must not hide the question behind it, nor cost more than a bounded time."""
    filler = "lorem ipsum " * 20_000
    begun = time.perf_counter()
    one = await wordllama.embed(filler + "translate this poem into French")
    took_s = time.perf_counter() - begun
    other = await wordllama.embed(filler + "what is the tax on this invoice")
    assert not np.allclose(one, other)
    assert took_s < 0.25


def endpoint(seen: list[dict[str, Any]], vector: list[float], status: int = 200) -> TestServer:
    async def embeddings(request: web.Request) -> web.Response:
        seen.append({"authorization": request.headers.get("Authorization"), **await request.json()})
        return web.json_response({"data": [{"embedding": vector, "index": 0}]}, status=status)

    app = web.Application()
    app.router.add_post("/v1/embeddings", embeddings)
    return TestServer(app)


async def test_an_openai_endpoint_is_called_and_its_vector_normalized() -> None:
    """The wire format, the key and the unit length; odd characters arrive as valid JSON."""
    seen: list[dict[str, Any]] = []
    async with endpoint(seen, [3.0, 4.0]) as server:
        url = str(server.make_url("/v1/"))
        embedder = create_embedder(EmbedderConfig("openai", url, "some-model", 2, api_key="sk-test"))
        vector = await embedder.embed("hi \ud800")
        assert vector.shape == (embedder.dimension,)
        np.testing.assert_allclose(split_surface(vector)[0], [0.6, 0.8], atol=1e-6)
        assert not (await embedder.embed(" ")).any()
        await embedder.close()
    assert [(call["model"], call["input"], call["authorization"]) for call in seen] == [
        ("some-model", ["hi ?"], "Bearer sk-test")
    ]


async def test_an_unexpected_dimension_is_an_error_not_garbage() -> None:
    """A wrong dimension in the configuration is named."""
    async with endpoint([], [1.0, 0.0, 0.0]) as server:
        embedder = OpenAIEmbedder(str(server.make_url("/v1")), "m", 2)
        with pytest.raises(EmbedderMismatch, match="dimension 2"):
            await embedder.embed("hi")
        await embedder.close()


@pytest.mark.parametrize(("vector", "status"), [([1.0], 500), ([1.0], 401), (["x"], 200), (None, 200)])
async def test_a_failing_endpoint_is_unavailable_and_then_left_alone(vector: Any, status: int) -> None:
    """Errors become one coded error without the key, and after two of them requests stop waiting."""
    seen: list[dict[str, Any]] = []
    async with endpoint(seen, vector, status) as server:
        embedder = OpenAIEmbedder(str(server.make_url("/v1")), "m", 1, api_key="sk-secret")
        for _ in range(4):
            with pytest.raises(DependencyUnavailable) as caught:
                await embedder.embed("hi")
            assert "sk-secret" not in str(caught.value)
        await embedder.close()
    assert len(seen) == 2


def test_the_key_does_not_show() -> None:
    """The configuration may be logged; a missing setting is named."""
    assert "sk-secret" not in repr(EmbedderConfig("openai", model="m", dimension=1, api_key="sk-secret"))
    with pytest.raises(InvalidRequest):
        create_embedder(EmbedderConfig("openai"))
