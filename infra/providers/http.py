"""One shared HTTP session for all providers: how a request is sent, how long it may take, and what an error means."""

import asyncio
import contextlib
import io
import math
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, TypeVar

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver

from infra.providers.addresses import AddressRefused, AddressRule, GuardedResolver, ProxyResolver, ProxyUnknown
from infra.providers.proxies import ProxyRule
from modelpilot.errors import InvalidRequest
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.wire.failures import (
    classify_embedded,
    classify_response,
    connection_error,
    malformed,
    rejected,
    scrub,
    stream_cut,
    timed_out,
    too_large,
)
from modelpilot.wire.jsonb import JsonObject, dump

T = TypeVar("T")
# Behind finish reasons and usage only `[DONE]` may follow; a server that never sends it must not hold us up.
_TAIL_MS = 1_000


class _Silence(Exception):
    """What a read raises that was given up; it never leaves `Patience`."""


class Patience:
    """How long the provider may be silent: first until its first token, then between two events.

    Only time spent waiting counts, so that a slow reader of the answer is never taken for a silent provider. Reads
    have one timer together, which looks when the current one began: a timer for each would cost more than the read.
    """

    def __init__(self, first_token_ms: int, idle_ms: int, connect_ms: int = 5_000) -> None:
        self._phase: Literal["first_token", "idle"] = "first_token"
        self._limit_ms = first_token_ms
        self._idle_ms = idle_ms
        self.connect_ms = connect_ms
        """The longest wait for one connection, within the wait for the first token."""
        self._clock = asyncio.get_running_loop().time
        self._waited_s = 0.0
        self._since_s: float | None = None  # when the current read began, with so many bytes read before
        self._read_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._hurried = False

    def heard(self) -> None:
        """The answer has begun or gone on: from now on the idle limit holds, afresh."""
        self._waited_s = 0.0
        if self._phase != "idle" or self._hurried:
            self._phase, self._limit_ms, self._hurried = "idle", self._idle_ms, False
            self.stop()

    def hurry(self) -> None:
        """The answer seems to be whole: wait but shortly for what may follow it."""
        if not self._hurried:  # once: trailing events are no reason to stay
            self.heard()
            self._hurried, self._limit_ms = True, min(self._idle_ms, _TAIL_MS)
            self.stop()

    def stop(self) -> None:
        """Let go of the timer; the next read sets it again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def wait(self, coming: Awaitable[T]) -> T:
        """What `coming` brings. Raises ProviderError for silence and for whatever breaks on the way."""
        start_s = self._clock()
        try:
            async with asyncio.timeout(self._limit_ms / 1_000.0 - self._waited_s):
                return await coming
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            failure = self._failure(error)
        finally:
            self._waited_s += self._clock() - start_s
        # Raised out here, or the HTTP library's error, which knows our headers, would stay attached as context.
        raise failure

    async def read(self, content: aiohttp.StreamReader) -> bytes:
        """The next bytes, empty at the end. Raises ProviderError like `wait`."""
        start_s = self._since_s = self._clock()
        self._read_bytes = content.total_bytes
        if self._timer is None:
            self._look(content)
        try:
            return await content.readany()
        except (_Silence, aiohttp.ClientError, OSError) as error:
            failure = self._failure(error)
        finally:
            self._waited_s += self._clock() - start_s
            self._since_s = None
        raise failure

    def _failure(self, error: Exception) -> ProviderError:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return timed_out("connect", self.connect_ms)
        if isinstance(error, TimeoutError | _Silence):
            return timed_out(self._phase, self._limit_ms)
        return _translated(error)

    def _look(self, content: aiohttp.StreamReader) -> None:
        """End the current read where it has waited for too long; else look again when it may have."""
        self._timer = None
        if self._since_s is None or content.total_bytes > self._read_bytes:
            return  # whoever reads next looks again
        left_s = self._limit_ms / 1_000.0 - self._waited_s - (self._clock() - self._since_s)
        if left_s > 0.0:
            self._timer = asyncio.get_running_loop().call_later(left_s, self._look, content)
        else:
            content.set_exception(_Silence())


class Answer:
    """One response whose head was read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._ended: asyncio.Future[None] | None = None
        self.content = response.content
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.whole = False
        """Set by the reader when it needs no more: the connection may then be kept."""

    @property
    def at_end(self) -> bool:
        """Whether the body was read to its end, which gave the connection back."""
        return self.content.at_eof()

    async def gather(self, wait_ms: int) -> None:
        """Let bytes come together for so long, or until the body ends: to read many costs little more than one."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
            self.content.on_eof(partial(self._ended.set_result, None))
        await asyncio.wait({self._ended}, timeout=wait_ms / 1_000.0)

    async def read_all(self, patience: Patience, max_bytes: int) -> bytes:
        """The rest of the body. Raises ProviderError, also where it is longer than `max_bytes`."""
        pieces: list[bytes] = []
        size = 0
        while piece := await patience.read(self.content):
            pieces.append(piece)
            size += len(piece)
            if size > max_bytes:
                raise too_large(max_bytes)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection unless it was given back already; the provider sees that we are gone."""
        self._response.close()


def _translated(error: Exception) -> ProviderError:
    if isinstance(error, aiohttp.ClientHttpProxyError):  # of a tunnel; its text has the proxy's own words
        return connection_error(f"the proxy answered {error.status} instead of connecting")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return connection_error("no connection to the proxy")
    if isinstance(error, aiohttp.ClientPayloadError):
        return stream_cut()
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _unresolved(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return connection_error("no connection to the provider")
    if isinstance(error, aiohttp.ClientResponseError):
        return malformed("the provider's answer is no HTTP")
    return connection_error("the provider closed the connection before it answered")


def _unresolved(error: aiohttp.ClientConnectorDNSError) -> ProviderError:
    if isinstance(error.os_error, AddressRefused):
        return ProviderError("connection_error", str(error.os_error), Remedy.FALL_BACK)
    if isinstance(error.os_error, ProxyUnknown):
        return connection_error(str(error.os_error))
    return connection_error("the provider's host is unknown")


_CONNECTIONS = 2_000  # above any sensible number of requests in flight: a queue here would only hide overload
_KEEPALIVE_S = 30.0
_DNS_CACHE_S = 60
_ERROR_BODY_BYTES = 64 * 1024
_WHOLE_BODY_BYTES = 64 * 1024 * 1024
_DRAIN_MS, _DRAIN_BYTES = 1_000, 64 * 1024
_LARGE_BODY_BYTES = 1024 * 1024
_HEADERS = {"Content-Type": "application/json", "User-Agent": "ModelPilot"}


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """One POST to a provider. `secret` is the key inside `headers`: it is kept out of every message."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: JsonObject = field(repr=False)
    secret: str | None = field(default=None, repr=False)


class ProviderHttp:
    """Sends requests to providers; every failure is a ProviderError. Use within one event loop, close at the end.

    What goes through a proxy has a session of its own, whose resolver is asked for proxies only.
    """

    def __init__(
        self, rule: AddressRule, resolver: AbstractResolver | None = None, proxies: ProxyRule | None = None
    ) -> None:
        self._rule = rule
        self._resolver = resolver
        self._proxies = proxies or ProxyRule()
        self._direct: aiohttp.ClientSession | None = None
        self._proxied: aiohttp.ClientSession | None = None
        self._draining: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Close every connection."""
        for task in self._draining:
            task.cancel()
        await asyncio.gather(*self._draining, return_exceptions=True)
        for session in (self._direct, self._proxied):
            if session is not None:
                await session.close()

    @contextlib.asynccontextmanager
    async def answer(self, request: UpstreamRequest, patience: Patience) -> AsyncIterator[Answer]:
        """The 2xx answer to `request`. Raises ProviderError, also for what the block raises, without the key.

        Leaving the block before the answer is whole closes the connection, which cancels the call at the provider.
        """
        try:
            answer = await self._send(request, patience)
            try:
                if not 200 <= answer.status < 300:
                    raise await _failure(answer, patience)
                yield answer
            finally:
                patience.stop()
                self._let_go(answer)
        except ProviderError as error:
            scrub(error, request.secret)
            raise

    async def json(self, request: UpstreamRequest, timeout_ms: int) -> JsonObject:
        """The JSON object that answers `request`, read to its end within `timeout_ms`. Raises ProviderError."""
        patience = Patience(timeout_ms, timeout_ms)
        async with self.answer(request, patience) as answer:
            return _parsed(await answer.read_all(patience, _WHOLE_BODY_BYTES))

    async def _send(self, request: UpstreamRequest, patience: Patience) -> Answer:
        _check_key(request.secret)
        self._check_address(request.url)
        proxy = self._proxies.proxy_for(request.url)
        post = self._opened(through_proxy=proxy is not None).post(
            request.url,
            proxy=proxy,
            data=_payload(request.body),
            headers=request.headers,
            allow_redirects=False,
            timeout=_timeout(patience.connect_ms),
        )
        return Answer(await patience.wait(post))

    def _opened(self, *, through_proxy: bool) -> aiohttp.ClientSession:
        # Opened at first use, since they belong to the event loop that runs then.
        if through_proxy:
            self._proxied = self._proxied or _session(ProxyResolver())
            return self._proxied
        self._direct = self._direct or _session(GuardedResolver(self._rule, self._resolver))
        return self._direct

    def _check_address(self, url: str) -> None:
        # Addresses written as numbers never reach the resolver, so they are looked at here.
        try:
            self._rule.check_url(url)
        except InvalidRequest as error:
            raise ProviderError("connection_error", error.message, Remedy.FALL_BACK) from None

    def _let_go(self, answer: Answer) -> None:
        """Keep the connection of an answer that is whole but for its last few bytes; close any other."""
        if not answer.whole or answer.at_end:
            answer.close()
            return
        task = asyncio.get_running_loop().create_task(_drain(answer))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)


def _session(resolver: AbstractResolver) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_S, ttl_dns_cache=_DNS_CACHE_S, resolver=resolver
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        # It would take passwords for providers from ~/.netrc, and loopback through the proxy.
        trust_env=False,
    )


def _timeout(connect_ms: int) -> aiohttp.ClientTimeout:
    # `Patience` bounds everything but the connection. aiohttp rounds limits above the threshold up to whole seconds.
    return aiohttp.ClientTimeout(total=None, connect=connect_ms / 1_000.0, sock_read=None, ceil_threshold=math.inf)


async def _drain(answer: Answer) -> None:
    # Out of the request's way: what is left is the end of the chunked body, mostly on its way already.
    patience = Patience(_DRAIN_MS, _DRAIN_MS)
    try:
        await answer.read_all(patience, _DRAIN_BYTES)
    except ProviderError:
        return  # nobody needs those bytes, and the connection is closed below
    finally:
        patience.stop()
        answer.close()


async def _failure(answer: Answer, patience: Patience) -> ProviderError:
    if answer.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return connection_error("the proxy wants a user and a password")
    try:
        body = await answer.read_all(patience, _ERROR_BODY_BYTES)
    except ProviderError:
        body = b""  # the status alone says enough
    return classify_response(answer.status, body, answer.headers, time.time())


def _parsed(body: bytes) -> JsonObject:
    try:
        parsed: Any = orjson.loads(body)
    except ValueError:
        raise malformed("the provider's answer is no JSON") from None
    if (error := classify_embedded(parsed)) is not None:
        raise error
    if not isinstance(parsed, dict):
        raise malformed("the provider's answer is no JSON object")
    return parsed


def _payload(body: JsonObject) -> bytes | io.BytesIO:
    try:
        data = dump(body)
    except (ValueError, RecursionError):
        raise rejected("the request cannot be written as JSON") from None
    # aiohttp writes a large `bytes` in one go; a file is written in pieces that leave others their turn.
    return io.BytesIO(data) if len(data) > _LARGE_BODY_BYTES else data


def _check_key(key: str | None) -> None:
    if key is not None and not (key.isascii() and key.isprintable()):
        message = "the provider's key holds characters that no header may hold"
        raise ProviderError("authentication", message, Remedy.FALL_BACK, refused="key")
