"""Reading one answer: patience that counts waiting only, and the meaning of whatever breaks."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Literal, TypeVar

import aiohttp

from infra.providers.addresses import AddressRefused
from modelpilot.requests.outcome import ProviderError, Remedy
from modelpilot.wire.failures import connection_error, malformed, stream_cut, timed_out

T = TypeVar("T")
# Behind an answer that is whole, the usage and `[DONE]` may follow; a server that sends neither must not hold us up.
_TAIL_MS = 1_000


class Patience:
    """How long the provider may be silent: first until its first token, then between two events.

    Only time spent in `wait` counts, so that a slow reader of the answer is never taken for a silent provider.
    """

    def __init__(self, first_token_ms: int, idle_ms: int, connect_ms: int = 5_000) -> None:
        self._phase: Literal["first_token", "idle"] = "first_token"
        self._limit_ms = first_token_ms
        self._idle_ms = idle_ms
        self.connect_ms = connect_ms
        """The longest wait for one connection, within the wait for the first token."""
        self._waited_s = 0.0
        self._hurried = False

    def heard(self) -> None:
        """The answer has begun or gone on: from now on the idle limit holds, afresh."""
        self._phase, self._limit_ms, self._waited_s = "idle", self._idle_ms, 0.0

    def hurry(self) -> None:
        """The answer is whole: wait but shortly for what may follow it."""
        if not self._hurried:  # once: trailing events are no reason to stay
            self.heard()
            self._hurried, self._limit_ms = True, min(self._idle_ms, _TAIL_MS)

    async def wait(self, coming: Awaitable[T]) -> T:
        """What `coming` brings. Raises ProviderError for silence and for whatever breaks on the way."""
        clock = asyncio.get_running_loop().time
        start = clock()
        try:
            async with asyncio.timeout(self._limit_ms / 1_000.0 - self._waited_s):
                return await coming
        except aiohttp.ConnectionTimeoutError:
            failure = timed_out("connect", self.connect_ms)
        except TimeoutError:
            failure = timed_out(self._phase, self._limit_ms)
        except (aiohttp.ClientError, OSError) as error:
            failure = _translated(error)
        finally:
            self._waited_s += clock() - start
        # Raised out here, or the HTTP library's error, which knows our headers, would stay attached as context.
        raise failure


class Answer:
    """One response whose head was read."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.whole = False
        """Set by the reader when it needs no more: the connection may then be kept."""

    @property
    def at_end(self) -> bool:
        """Whether the body was read to its end, which gave the connection back."""
        return self._response.content.at_eof()

    async def read(self, patience: Patience) -> bytes:
        """The next bytes, empty at the end. Raises ProviderError."""
        return await patience.wait(self._response.content.readany())

    async def read_all(self, patience: Patience, max_bytes: int) -> bytes:
        """The rest of the body. Raises ProviderError, also where it is longer than `max_bytes`."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read(patience):
            pieces.append(piece)
            size += len(piece)
            if size > max_bytes:
                raise malformed(f"the provider's answer is larger than {max_bytes} bytes")
        return b"".join(pieces)

    def close(self) -> None:
        """Close the connection unless it was given back already; the provider sees that we are gone."""
        self._response.close()


def _translated(error: Exception) -> ProviderError:
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
    return connection_error("the provider's host is unknown")
