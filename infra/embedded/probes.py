"""Ask a service whether it is ready. A probe returns when it is and raises NotReady (or OSError) when it is not."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

Probe = Callable[[], Awaitable[None]]
HTTP_OK = 200


class NotReady(Exception):
    """The service answered, or failed to, in a way that means "ask again"."""


def http_ok(url: str) -> Probe:
    """Ready when `GET url` answers 200."""
    parts = urlsplit(url)

    async def probe() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        try:
            # "localhost" whatever the address: the dashboard refuses Host names that it was not told.
            request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            writer.write(request.encode("ascii"))
            status_line = (await reader.readline()).decode("latin-1").split()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        if len(status_line) < 2 or status_line[1] != str(HTTP_OK):
            answer = status_line[1] if len(status_line) > 1 else "no HTTP answer"
            raise NotReady(f"{url} answers {answer}")

    return probe


def grpc_answers(address: str, method: str, request: bytes = b"", expect: Iterable[bytes] = ()) -> Probe:
    """Ready when the unary `method` answers and the raw answer contains everything of `expect`.

    Bytes in, bytes out: neither pymilvus nor temporalio (half a second of imports) is needed to ask.
    """

    def call() -> bytes:
        import grpc

        # Loopback must not go through a proxy that the environment names for the outside.
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            try:
                answer: bytes = channel.unary_unary(method)(request, timeout=2.0)
            except grpc.RpcError as error:
                raise NotReady(f"{address} answers {error.code().name.lower()}") from error
        return answer

    async def probe() -> None:
        answer = await asyncio.to_thread(call)
        if not all(part in answer for part in expect):
            raise NotReady(f"{address} is up, but not set up yet")

    return probe


def file_exists(path: Path) -> Probe:
    """Ready when the process has created `path`."""

    async def probe() -> None:
        if not path.exists():  # noqa: ASYNC240 - one stat of a local file
            raise NotReady(f"{path.name} is not there yet")

    return probe
