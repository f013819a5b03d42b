"""Every fault of the simulator, as a client meets it on a real connection; how faults are asked for; the call log."""

import asyncio
import json
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from simulator.faults import FAULTS
from simulator.server import running
from simulator.state import SimulatorConfig

pytestmark = pytest.mark.asyncio

CHAT = "/v1/chat/completions"
PATHS = {
    "openai": CHAT,
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:streamGenerateContent?alt=sse",
}


@pytest_asyncio.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client of a simulator that answers at once, on a real port."""
    async with running(SimulatorConfig(latency_ms=0)) as url, aiohttp.ClientSession(url) as session:
        yield session


def _body(model: str, prompt: str = "Explain routers", **more: Any) -> dict[str, Any]:
    message = {"role": "user", "content": prompt}
    contents = [{"role": "user", "parts": [{"text": prompt}]}]
    return {"model": model, "max_tokens": 500, "messages": [message], "contents": contents, **more}


async def _ask(http: aiohttp.ClientSession, model: str, **more: Any) -> tuple[int, str, Any]:
    """Return status, text and headers of an answer that ends in order."""
    async with http.post(CHAT, json=_body(model, **more)) as answer:
        return answer.status, await answer.text(), answer.headers


async def _statuses(http: aiohttp.ClientSession, model: str, count: int) -> list[int]:
    return [(await _ask(http, model))[0] for _ in range(count)]


async def _code(http: aiohttp.ClientSession, model: str) -> tuple[int, str]:
    status, text, _ = await _ask(http, model)
    return status, json.loads(text)["error"]["code"]


async def _until_broken(http: aiohttp.ClientSession, model: str, dialect: str = "openai") -> str:
    """Return what arrives before the connection breaks; fails if it does not break."""
    text = b""
    async with http.post(PATHS[dialect].format(model=model), json=_body(model, stream=True)) as answer:
        try:
            while data := await answer.content.readany():
                text += data
        except aiohttp.ClientError:
            return text.decode()
    pytest.fail("the connection did not break")


async def _wait_for(http: aiohttp.ClientSession, **query: Any) -> Any:
    """Return the log as soon as it has `min` calls of the outcome."""
    async with http.get("/_sim/calls", params={"wait_ms": 5000, **query}) as answer:
        return await answer.json()


async def test_every_fault_has_a_test() -> None:
    """A new row in the table fails the build until it is tested here."""
    assert [name for name in FAULTS if f"test_fault_{name}" not in globals()] == []


async def test_fault_status(http: aiohttp.ClientSession) -> None:
    """Any error status: once, N times, or for ever."""
    assert await _statuses(http, "small+500x1", 3) == [500, 200, 200]
    assert await _statuses(http, "small+502x2", 3) == [502, 502, 200]
    assert await _statuses(http, "small+fail503", 3) == [503] * 3
    assert await _statuses(http, "small+529", 2) == [529] * 2
    codes = [await _code(http, f"small+{status}") for status in (401, 403, 404)]
    assert codes == [(401, "invalid_api_key"), (403, "permission_denied"), (404, "model_not_found")]


async def test_401_repeats_the_key(http: aiohttp.ClientSession) -> None:
    """A provider that echoes the key makes leaks visible."""
    async with http.post(CHAT, json=_body("small+401"), headers={"Authorization": "Bearer sk-canary"}) as answer:
        assert "sk-canary" in await answer.text()


@pytest.mark.parametrize("text", ["2", "-1", "9999", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
async def test_fault_retryafter(http: aiohttp.ClientSession, text: str) -> None:
    """`Retry-After` has any text, or is absent."""
    status, _, headers = await _ask(http, f"small+429+retryafter={text}")
    assert (status, headers["Retry-After"]) == (429, text)
    assert "Retry-After" not in (await _ask(http, "small+429"))[2]


async def test_fault_retrydate(http: aiohttp.ClientSession) -> None:
    """`Retry-After` is an HTTP date ahead of the answer's own date."""
    _, _, headers = await _ask(http, "small+503+retrydate100")
    ahead = parsedate_to_datetime(headers["Retry-After"]) - parsedate_to_datetime(headers["Date"])
    assert 98 <= ahead.total_seconds() <= 102
    assert headers["Retry-After"].endswith(" GMT")


async def test_fault_refusekey(http: aiohttp.ClientSession) -> None:
    """One key is refused and another one is not; no key at all is another one as well."""
    for key, expected in (("sk-bad", 401), ("sk-good", 200), ("", 200)):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with http.post(CHAT, json=_body("small+refusekey=sk-bad"), headers=headers) as answer:
            assert answer.status == expected


async def test_fault_context(http: aiohttp.ClientSession) -> None:
    """A context error on demand, and without it for a prompt that is too long for small but not for large."""
    assert await _code(http, "small+context") == (400, "context_length_exceeded")
    long = "word " * 20_000
    assert [(await _ask(http, model, prompt=long))[0] for model in ("small", "large")] == [400, 200]


async def test_fault_filter(http: aiohttp.ClientSession) -> None:
    """The content filter refuses the prompt, in each provider's way."""
    assert await _code(http, "small+filter") == (400, "content_filter")
    async with http.post(PATHS["gemini"].format(model="small+filter"), json=_body("")) as answer:
        assert (answer.status, (await answer.json())["promptFeedback"]["blockReason"]) == (200, "SAFETY")


async def test_fault_filtered(http: aiohttp.ClientSession) -> None:
    """The content filter stops the answer."""
    assert json.loads((await _ask(http, "small+filtered"))[1])["choices"][0]["finish_reason"] == "content_filter"


async def test_fault_reset(http: aiohttp.ClientSession) -> None:
    """The connection is reset before any header."""
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await _ask(http, "small+reset")
    assert (await _wait_for(http, outcome="failed"))["calls"][0]["status"] is None


async def test_fault_hang(http: aiohttp.ClientSession) -> None:
    """No header ever comes; when the client gives up, the log says so."""
    asking = asyncio.create_task(_ask(http, "small+hang"))
    await _wait_for(http, outcome="running")
    asking.cancel()
    seen = await _wait_for(http, outcome="disconnected")
    assert (seen["counts"]["disconnected"], seen["calls"][0]["status"]) == (1, None)


async def test_fault_firsttoken(http: aiohttp.ClientSession) -> None:
    """Headers come at once, the first token does not."""
    body = _body("small+firsttoken60000", stream=True)
    async with http.post(CHAT, json=body) as answer:
        assert answer.status == 200
        assert not answer.content.total_bytes


async def test_fault_latency(http: aiohttp.ClientSession) -> None:
    """The whole answer waits as long as asked."""
    await _ask(http, "small+latency120")
    assert (await _wait_for(http))["calls"][0]["durationMs"] >= 119


async def test_fault_tokens(http: aiohttp.ClientSession) -> None:
    """The answer has exactly the asked length."""
    assert json.loads((await _ask(http, "small+tokens60"))[1])["usage"]["completion_tokens"] == 60


@pytest.mark.parametrize(
    ("dialect", "mark"), [("openai", '"content":'), ("anthropic", "text_delta"), ("gemini", '"text"')]
)
async def test_fault_cut(http: aiohttp.ClientSession, dialect: str, mark: str) -> None:
    """Forty of sixty tokens arrive, then a reset; a whole answer breaks in mid-body."""
    text = await _until_broken(http, "small+cut40", dialect)
    assert text.count(mark) == 40 + (dialect == "openai")  # OpenAI's first chunk has the role and no token.
    with pytest.raises(aiohttp.ClientError):
        await _ask(http, "small+cut40", stream=False)


@pytest.mark.parametrize("stream", [True, False])
async def test_fault_stall(http: aiohttp.ClientSession, stream: bool) -> None:
    """Headers and a part of the answer come, then silence until the client leaves."""
    async with http.post(CHAT, json=_body("small+stall2", stream=stream)) as answer:
        text = b""
        while text.count(b'"content":') < 3 and stream:
            text += await answer.content.readany()
        assert answer.status == 200
    assert (await _wait_for(http, outcome="disconnected"))["counts"]["total"] == 1


async def test_fault_malformed(http: aiohttp.ClientSession) -> None:
    """One chunk is broken JSON and the stream goes on; a whole answer is broken JSON."""
    _, text, _ = await _ask(http, "small+malformed2", stream=True)
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    broken = [event for event in events[:-1] if not _is_json(event)]
    assert (len(broken), events[-1]) == (1, "[DONE]")
    assert not _is_json((await _ask(http, "small+malformed"))[1])


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


async def test_fault_streamerror(http: aiohttp.ClientSession) -> None:
    """The stream ends with an error event, in each provider's form."""
    _, text, _ = await _ask(http, "small+streamerror3", stream=True)
    assert '"server_error"' in text.split("\n\n")[-2]
    async with http.post(PATHS["anthropic"], json=_body("small+streamerror3", stream=True)) as answer:
        assert "event: error" in (await answer.text()).split("\n\n")[-2]


async def test_fault_nodone(http: aiohttp.ClientSession) -> None:
    """All tokens and the usage arrive and the connection closes in order, without the terminator."""
    _, text, _ = await _ask(http, "small+nodone", stream=True, stream_options={"include_usage": True})
    assert "[DONE]" not in text
    assert json.loads(text.split("\n\n")[-2].removeprefix("data: "))["usage"]["completion_tokens"] > 0


async def test_fault_linger(http: aiohttp.ClientSession) -> None:
    """The whole stream arrives, and the connection stays open until the client leaves."""
    async with http.post(CHAT, json=_body("small+linger+nodone", stream=True)) as answer:
        text = b""
        while b'"finish_reason":"stop"' not in text:
            text += await answer.content.readany()
        assert b"[DONE]" not in text
    assert (await _wait_for(http, outcome="disconnected"))["counts"]["total"] == 1


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
async def test_fault_noprefill(http: aiohttp.ClientSession, dialect: str) -> None:
    """A conversation that ends with the assistant's own words is refused, any other one is not."""
    own = _body("small+noprefill")
    own["messages"] += [{"role": "assistant", "content": "Routers"}]
    own["contents"] += [{"role": "model", "parts": [{"text": "Routers"}]}]
    for body, expected in ((_body("small+noprefill"), 200), (own, 400)):
        async with http.post(PATHS[dialect].format(model="small+noprefill"), json=body) as answer:
            assert answer.status == expected, await answer.text()


@pytest.mark.parametrize("stream", [True, False])
async def test_fault_errorbody(http: aiohttp.ClientSession, stream: bool) -> None:
    """A 200 whose body is an error."""
    status, text, _ = await _ask(http, "small+errorbody", stream=stream)
    assert (status, json.loads(text)["error"]["type"]) == (200, "server_error")


async def test_fault_html(http: aiohttp.ClientSession) -> None:
    """A 200 from some proxy."""
    status, text, headers = await _ask(http, "small+html")
    assert (status, headers["Content-Type"], text[:9]) == (200, "text/html", "<!doctype")


async def test_fault_truncated(http: aiohttp.ClientSession) -> None:
    """JSON that stops halfway on a connection that is fine; a stream that ends within a chunk."""
    assert not _is_json((await _ask(http, "small+truncated"))[1])
    assert not (await _ask(http, "small+truncated", stream=True))[1].endswith("\n")


async def test_fault_comments(http: aiohttp.ClientSession) -> None:
    """A stream of comments and no data."""
    _, text, _ = await _ask(http, "small+comments", stream=True)
    assert {line[:1] for line in text.splitlines() if line} == {":"}


async def test_fault_flap(http: aiohttp.ClientSession) -> None:
    """The first period fails; with a period of a fraction of a second, success follows."""
    assert await _statuses(http, "small+503+flap3600", 2) == [503, 503]
    seen: set[int] = set()
    async with asyncio.timeout(10):
        while seen != {503, 200}:
            seen.update(await _statuses(http, "small+503+flap0.05", 1))


async def test_fault_wrong(http: aiohttp.ClientSession) -> None:
    """A wrong answer, also to a prompt the model could do."""
    _, text, _ = await _ask(http, "large+wrong", prompt="What is 12 * 7?")
    assert "= 84." not in text
    assert (await _wait_for(http))["calls"][0]["right"] is False


async def test_fault_refuse(http: aiohttp.ClientSession) -> None:
    """A refusal in the text."""
    assert "I can't help" in (await _ask(http, "small+refuse"))[1]


async def test_fault_empty(http: aiohttp.ClientSession) -> None:
    """An answer without content."""
    assert json.loads((await _ask(http, "small+empty"))[1])["choices"][0]["message"]["content"] == ""


HISTORIES = {
    "openai": {"role": "assistant", "content": "x", "thinking_blocks": []},
    "anthropic": {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "moved"}]},
    "gemini": {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
}
ENVELOPES = {"openai": ["error"], "anthropic": ["error", "request_id", "type"], "gemini": ["error"]}


@pytest.mark.parametrize("dialect", PATHS)
async def test_fault_strict(http: aiohttp.ClientSession, dialect: str) -> None:
    """Each dialect takes a plain conversation, and refuses in its own envelope what its provider would refuse."""
    path, body = PATHS[dialect].format(model="small+strict"), _body("small+strict")
    async with http.post(path, json=body) as answer:
        assert answer.status == 200
    turns = body["contents" if dialect == "gemini" else "messages"]
    turns += [HISTORIES[dialect], turns[0]]
    async with http.post(path, json=body) as answer:
        assert answer.status == 400
        assert sorted(await answer.json()) == ENVELOPES[dialect]


async def test_fault_strict_survives_any_history(http: aiohttp.ClientSession) -> None:
    """Whatever a client sends is refused with 400, never with a broken simulator."""
    odd = [{"role": "assistant", "content": [{"type": []}]}, {"role": "assistant", "tool_calls": [3]}, {"role": {}}]
    for message in odd:
        body = {"model": "small+strict", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}, message]}
        for path in (CHAT, "/v1/messages"):
            async with http.post(path, json=body) as answer:
                assert answer.status == 400


@pytest.mark.parametrize("stream", [False, True])
async def test_fault_thinks(http: aiohttp.ClientSession, stream: bool) -> None:
    """Claude thinks before each call; the thoughts are signed, and it takes its own answer back."""
    tool = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
    body = _body("small+strict+thinks", "Weather in Paris and Rome", tools=[tool])
    async with http.post("/v1/messages", json={**body, "stream": stream}) as answer:
        text = await answer.text()
    assert text.count('"type":"thinking"') == 2
    if stream:
        assert text.count('"signature_delta"') == 2
        return
    blocks = json.loads(text)["content"]
    assert [block["type"] for block in blocks] == ["thinking", "tool_use", "thinking", "tool_use"]
    used = [block["id"] for block in blocks if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": call_id, "content": "x"} for call_id in used]
    for sent, status in ((blocks, 200), ([blocks[2], *blocks[1::-1], blocks[3]], 400)):
        turns = [*body["messages"], {"role": "assistant", "content": sent}, {"role": "user", "content": results}]
        async with http.post("/v1/messages", json={**body, "messages": turns}) as answer:
            assert answer.status == status


async def test_fault_thinks_in_other_dialects(http: aiohttp.ClientSession) -> None:
    """Reasoning under the names of OpenAI's format, and thoughts and a signature of Gemini's."""
    async with http.post(CHAT, json=_body("small+thinks")) as answer:
        message = (await answer.json())["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning_details"][0]["text"] == "I can answer that."
    declared = {"functionDeclarations": [{"name": "clock", "parameters": {"type": "OBJECT"}}]}
    asked = _body("", tools=[declared], toolConfig={"functionCallingConfig": {"mode": "ANY"}})
    async with http.post(PATHS["gemini"].format(model="small+thinks"), json=asked) as answer:
        text = await answer.text()
    assert (text.count('"thought":true'), text.count('"thoughtSignature"')) == (1, 1)
