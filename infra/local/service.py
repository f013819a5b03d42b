"""A service: a process, what must run before it, how to prepare it and how to ask whether it is ready."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.child import Child, ChildSpec
from infra.local.errors import ServiceFailed

# A probe returns when its service is ready, and raises NotReady (or OSError) when it is not.
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


PROBE_SECONDS = 3.0
ASK_AGAIN_SECONDS = 0.05
Prepare = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Service:
    """One node of the stack. Without a probe it is a job: it is "ready" when it has ended with exit code 0."""

    spec: ChildSpec
    probe: Probe | None = None
    after: tuple[str, ...] = ()
    prepare: Prepare | None = None
    ready_seconds: float = 60.0
    # How often it is started before it is given up, where it exits before it is ready.
    starts: int = 1

    @property
    def name(self) -> str:
        """Name of the process, unique in the stack."""
        return self.spec.name


async def bring_up(service: Service) -> Child:
    """Prepare, start, and wait until it is ready.

    Raises ServiceFailed, with the end of the log, when it exits or is not ready in time; it does not run then.
    Must be called on the main thread (see Child).
    """
    if service.prepare is not None:
        await service.prepare()
    for _ in range(service.starts - 1):
        try:
            return await _started(service)
        except _ExitedEarly:
            continue
    return await _started(service)


class _ExitedEarly(ServiceFailed):
    """It ended by itself before it was ready."""


async def _started(service: Service) -> Child:
    child = Child(service.spec)
    try:
        if service.probe is None:
            await _job_done(child, service.ready_seconds)
        else:
            await _ready(child, service.probe, service.ready_seconds)
    except BaseException:
        await child.stop()
        raise
    return child


async def _job_done(child: Child, seconds: float) -> None:
    if not await child.exited_within(seconds):
        raise ServiceFailed(_with_log(child, f"did not finish within {seconds:g} s"))
    if child.exit_code != 0:
        raise ServiceFailed(_with_log(child, f"failed with exit code {child.exit_code}"))


async def _ready(child: Child, probe: Probe, seconds: float) -> None:
    give_up_at = time.monotonic() + seconds
    while True:
        try:
            await asyncio.wait_for(probe(), PROBE_SECONDS)
        except (NotReady, OSError) as error:  # TimeoutError is an OSError
            reason = str(error) or type(error).__name__
        else:
            return
        if await child.exited_within(ASK_AGAIN_SECONDS):
            raise _ExitedEarly(_with_log(child, f"exited with code {child.exit_code} before it was ready"))
        if time.monotonic() > give_up_at:
            raise ServiceFailed(_with_log(child, f"was not ready within {seconds:g} s ({reason})"))


def _with_log(child: Child, what: str) -> str:
    tail = child.log_tail() or "(it wrote nothing)"
    return f"{child.spec.name} {what}. The end of {child.spec.log_path}:\n{tail}"
