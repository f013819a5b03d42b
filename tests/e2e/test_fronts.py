"""Clients that speak neither of the usual formats, and clients that spell paths their own way, over a real gateway.

The bodies are those that google-genai 3.6 sends, as recorded, in its own mixture of spellings.
"""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.support.requests import put_model, put_router
from tests.support.world import Gateway, World, eventually

WEATHER = {
    "functionDeclarations": [
        {
            "name": "weather",
            "description": "weather\nArgs:\n  city: name",
            "parameters_json_schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
            "response_json_schema": {"type": "string"},
        }
    ]
}
CITY = {
    "properties": {
        "city": {"title": "City", "type": "STRING"},
        "n": {"nullable": True, "title": "N", "type": "INTEGER"},
    },
    "property_ordering": ["city", "n"],
    "required": ["city"],
    "title": "City",
    "type": "OBJECT",
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="


def said(*texts: str, **fields: Any) -> dict[str, Any]:
    """A conversation that begins with the user."""
    roles = ("user", "model")
    contents = [{"parts": [{"text": text}], "role": roles[index % 2]} for index, text in enumerate(texts)]
    return {"contents": contents, **fields}


@pytest.fixture
async def google(world: World, gateway: Gateway) -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that presents its key as google-genai does."""
    async with aiohttp.ClientSession(gateway.url, headers={"x-goog-api-key": world.admin_key}) as session:
        yield session


async def generated(google: aiohttp.ClientSession, body: Any, model: str = "router/demo") -> dict[str, Any]:
    """A whole answer, asked for where the SDK's default version asks."""
    async with google.post(f"/v1/models/{model}:generateContent", json=body) as response:
        made: dict[str, Any] = await response.json()
        assert response.status == 200, made
    return made


async def test_a_google_client_is_answered(google: aiohttp.ClientSession, client: aiohttp.ClientSession) -> None:
    """In Google's shape, and recorded like any other request."""
    config = {"temperature": 0.5, "topK": 40.0, "candidateCount": 1, "maxOutputTokens": 50, "stopSequences": ["ZZ"]}
    system = {"parts": [{"text": "be brief"}], "role": "user"}
    answer = await generated(google, said("What is 12 * 7?", systemInstruction=system, generationConfig=config))
    (candidate,) = answer["candidates"]
    assert "84" in candidate["content"]["parts"][0]["text"]
    assert (candidate["content"]["role"], candidate["finishReason"]) == ("model", "STOP")
    counts = answer["usageMetadata"]
    assert counts["totalTokenCount"] == counts["promptTokenCount"] + counts["candidatesTokenCount"] > 0
    request_id = answer["modelpilot"]["requestId"]

    async def stored() -> Any:
        async with client.get(f"/v1/requests/{request_id}") as response:
            view = await response.json()
            return view if view.get("status") == "completed" else None

    assert (await eventually(stored, "the row did not appear"))["routerId"] == "demo"


async def test_a_google_client_calls_functions(google: aiohttp.ClientSession) -> None:
    """Its helpers send results without an id; the answer has the result before it."""
    asked: dict[str, Any] = {"tools": [WEATHER], "generationConfig": {}}
    forced = {"functionCallingConfig": {"mode": "ANY"}}
    first = await generated(google, {**said("weather in Rome?"), **asked, "toolConfig": forced})
    content = first["candidates"][0]["content"]
    call = content["parts"][0]["functionCall"]
    assert (call["name"], call["args"].keys(), bool(call["id"])) == ("weather", {"city"}, True)
    result = {"functionResponse": {"name": "weather", "response": {"result": "12 degrees"}}}
    turns = [*said("weather in Rome?")["contents"], content, {"parts": [result], "role": "user"}]
    second = await generated(google, {"contents": turns, **asked})
    assert second["candidates"][0]["content"]["parts"][0]["text"]


async def test_a_google_client_gets_json_by_its_schema(google: aiohttp.ClientSession) -> None:
    """Google's Schema reaches the provider as JSON Schema."""
    config = {"responseMimeType": "application/json", "responseSchema": CITY}
    answer = await generated(google, said("A city", generationConfig=config))
    city = json.loads(answer["candidates"][0]["content"]["parts"][0]["text"])
    assert isinstance(city["city"], str)
    assert city.get("n") is None or isinstance(city["n"], int)


async def test_a_google_client_sends_images(google: aiohttp.ClientSession) -> None:
    """As bytes in the alphabet of URLs."""
    data = PIXEL.replace("+", "-").replace("/", "_")
    parts = [{"inlineData": {"data": data, "mime_type": "image/png"}}, {"text": "What is this?"}]
    answer = await generated(google, {"contents": [{"parts": parts, "role": "user"}]})
    assert answer["usageMetadata"]["promptTokenCount"] >= 85  # what the simulator counts for an image


@pytest.mark.parametrize("alt", ["sse", "json"])
async def test_a_google_client_streams(google: aiohttp.ClientSession, alt: str) -> None:
    """As events or as one array; the conversation goes on with every chunk as a content of its own."""
    turns = said("hi", "Hello.", "What is 12 * 7?")
    path = "/v1beta/models/router%2Fdemo:streamGenerateContent"
    async with google.post(URL(f"{path}?alt={alt}", encoded=True), json=turns) as response:
        text = await response.text()
        assert response.status == 200, text
    chunks = (
        [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
        if alt == "sse"
        else json.loads(text)
    )
    contents = [chunk["candidates"][0]["content"] for chunk in chunks]
    assert "84" in "".join(content["parts"][0]["text"] for content in contents)
    assert len(chunks) > 2
    last = chunks[-1]
    assert last["candidates"][0]["finishReason"] == "STOP"
    assert last["usageMetadata"]["candidatesTokenCount"] > 0
    assert last["modelpilot"]["routerId"] == "demo"
    await generated(google, {"contents": [*turns["contents"], *contents, *said("more")["contents"]]})


async def test_a_google_stream_that_fails_says_so(google: aiohttp.ClientSession, client: aiohttp.ClientSession) -> None:
    """In the place of its last response, which google-genai raises."""
    await put_model(client, "own/google-cut", "small+streamerror100")
    await put_router(
        client, "google-cut", ["own/google-cut"], fallbackStrategy={"retryAttempts": 0}, sameModelRetries=0
    )
    path = "/v1/models/router/google-cut:streamGenerateContent?alt=sse"
    async with google.post(path, json=said("What is 12 * 7?")) as response:
        lines = [line for line in (await response.text()).splitlines() if line]
    assert lines[-1].startswith('data: {"error":')
    assert json.loads(lines[-1].removeprefix("data: "))["error"]["code"] in (502, 504)


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        ("router/nope:generateContent", said("x"), 404, "NOT_FOUND"),
        ("router/nope:streamGenerateContent?alt=sse", said("x"), 404, "NOT_FOUND"),
        ("router/demo:generateContent", said("x", tools=[{"googleSearch": {}}]), 400, "INVALID_ARGUMENT"),
        ("router/demo:generateContent", said("x", cachedContent="cachedContents/x"), 400, "INVALID_ARGUMENT"),
        ("router/demo:generateContent", said("x", generationConfig={"temperature": 5.0}), 400, "INVALID_ARGUMENT"),
    ],
)
async def test_a_google_client_is_refused_in_its_words(
    google: aiohttp.ClientSession, path: str, body: Any, status: int, word: str
) -> None:
    """With the status by which its SDK chooses the exception."""
    async with google.post(f"/v1/models/{path}", json=body) as response:
        error = (await response.json())["error"]
    assert (response.status, error["code"], error["status"]) == (status, status, word)


async def test_a_google_client_counts_and_lists(google: aiohttp.ClientSession) -> None:
    """Tokens of contents, and models with limits."""
    async with google.post("/v1beta/models/router/demo:countTokens", json=said("What is 12 * 7?")) as response:
        assert (await response.json())["totalTokens"] > 0
    async with google.get("/v1/models?pageSize=50") as response:
        models = {each["name"]: each for each in (await response.json())["models"]}
    for name in ("models/router/demo", "models/sim/small", "models/google/gemini-2.5-pro"):
        assert models[name]["inputTokenLimit"] > models[name]["outputTokenLimit"] > 0


async def test_a_google_client_gets_embeddings(google: aiohttp.ClientSession) -> None:
    """One text and several, in Google's shapes; a model without embeddings is refused in its words."""
    batch = {"requests": [{"model": "models/sim/embed", "content": {"parts": [{"text": text}]}} for text in "ab"]}
    async with google.post("/v1beta/models/sim/embed:batchEmbedContents", json=batch) as response:
        answer = await response.json()
    assert [len(each["values"]) for each in answer["embeddings"]] == [256, 256]
    one = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8}
    async with google.post("/v1beta/models/sim/embed:embedContent", json=one) as response:
        assert len((await response.json())["embedding"]["values"]) == 8
    async with google.post("/v1beta/models/sim/small:embedContent", json=one) as response:
        assert (await response.json())["error"]["status"] == "INVALID_ARGUMENT"


async def test_a_key_in_a_query_stays_out_of_the_log(world: World, gateway: Gateway) -> None:
    """The gateway writes no access log, whatever happens to the request."""
    path = f"/v1beta/models/router/demo:generateContent?key={world.admin_key}"
    async with aiohttp.ClientSession(gateway.url) as session:
        for body, status in ((said("What is 12 * 7?"), 200), ({"contents": 1}, 400)):
            async with session.post(path, json=body) as response:
                assert response.status == status
    assert world.admin_key not in gateway.log.read_text()


@pytest.mark.parametrize(
    "path", ["/chat/completions", "//chat/completions", "/v1/chat/completions/", "/v1/v1/chat/completions"]
)
async def test_paths_are_served_as_they_are_meant(client: aiohttp.ClientSession, gateway: Gateway, path: str) -> None:
    """For clients whose base URL lacks the version or ends with a slash: the body arrives."""
    body = {"model": "router/demo", "messages": [{"role": "user", "content": "What is 12 * 7?"}]}
    url = URL(f"{gateway.url}{path}", encoded=True)
    # A client with a base URL takes no absolute one.
    async with (
        aiohttp.ClientSession(headers=client.headers) as session,
        session.post(url, json=body, allow_redirects=False) as response,
    ):
        answer = await response.json()
    assert response.status == 200
    assert "84" in answer["choices"][0]["message"]["content"]


async def test_every_model_in_the_list_has_its_limits(client: aiohttp.ClientSession) -> None:
    """Of the seeded ones; and each its price."""
    seeded = ("openai/", "anthropic/", "google/", "openrouter/")
    async with client.get("/v1/models") as response:
        entries = [each for each in (await response.json())["data"] if each["id"].startswith(seeded)]
    assert entries
    for entry in entries:
        assert entry["context_length"], entry
        assert entry["top_provider"]["max_completion_tokens"], entry
        assert float(entry["pricing"]["prompt"]) > 0
