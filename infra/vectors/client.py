"""A Milvus collection behind deadlines: opened on first use, checked against the embedder, reopened after errors."""

import asyncio
import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from pymilvus import MilvusClient, MilvusException

from infra.vectors import LEAVE_ALONE
from infra.vectors.schema import collection_schema, index_params
from modelpilot.errors import DependencyUnavailable, EmbedderMismatch
from modelpilot.providers.breaker import Breaker

T = TypeVar("T")
Call = Callable[[MilvusClient], T]

_OPEN_TIMEOUT_S = 5.0
_CREATED_WITHIN_S = 2.0
_GRPC_OPTIONS = {
    # gRPC's own back-off grows to two minutes; a restarted Milvus should be found sooner than that.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.max_reconnect_backoff_ms": 2_000,
    # pymilvus asks every ten seconds whether the server is there, calls or not. gRPC's servers, Milvus Lite among
    # them, count a ping within five minutes of the last data as abuse, and the third one ends the connection
    # ("too_many_pings"). Every call has a deadline of its own, so an idle connection need not be asked after.
    "grpc.keepalive_time_ms": 330_000,
    "grpc.keepalive_permit_without_calls": 0,
}


def _grpc_options(uri: str) -> dict[str, int]:
    """Options of a channel; to this machine it goes past the proxy that the environment names for the outside."""
    host = urlsplit(uri).hostname or "localhost"
    is_here = host in ("localhost", "::1") or host.startswith("127.")
    return _GRPC_OPTIONS | ({"grpc.enable_http_proxy": 0} if is_here else {})


@dataclass(frozen=True, slots=True)
class MilvusConfig:
    """Which collection, where, and with whose vectors. `token` is a secret."""

    uri: str
    embedder: str
    dimension: int
    token: str
    collection: str


@dataclass(frozen=True, slots=True)
class RecordedEmbedder:
    """Whose vectors a collection holds."""

    name: str | None
    dimension: str | None


class MilvusCollection:
    """Runs blocking pymilvus calls on few threads. Everything raises DependencyUnavailable or EmbedderMismatch.

    Calls are of a lane: "search" (request path), "write" (one at a time) or "bulk" (scans, flushes, deletions), so
    that a long scan delays no search and a broken search closes no other lane.
    """

    def __init__(self, config: MilvusConfig) -> None:
        self.config = config
        self._threads = {
            "search": ThreadPoolExecutor(4, "milvus-search"),
            "write": ThreadPoolExecutor(2, "milvus-write"),
            "bulk": ThreadPoolExecutor(1, "milvus-bulk"),
        }
        self._breakers = {lane: Breaker(LEAVE_ALONE) for lane in self._threads}
        self._client: MilvusClient | None = None
        self._open = False
        self._opening: asyncio.Task[MilvusClient] | None = None
        self._partitions: set[str] = set()
        self._mismatch: str | None = None

    async def call(self, lane: str, deadline_s: float, operation: Call[T]) -> T:
        """Run `operation(client)` in the lane; give up after `deadline_s`, whatever the thread does then."""
        if self._mismatch is not None:
            raise EmbedderMismatch(self._mismatch)
        breaker, began_s = self._breakers[lane], time.monotonic()
        if not breaker.admits:
            raise DependencyUnavailable("the vector store failed a moment ago", retry_after_s=breaker.next_probe_s)
        breaker.reserve()
        try:
            async with asyncio.timeout(deadline_s):
                client = await self._opened()
                result = await asyncio.get_running_loop().run_in_executor(self._threads[lane], operation, client)
        except (TimeoutError, MilvusException, grpc.RpcError) as error:
            breaker.record(healthy=False, began_s=began_s)
            # A restarted Milvus Lite has its collections unloaded, so an error is answered by opening anew. A
            # deadline says nothing of the kind.
            self._open = self._open and isinstance(error, TimeoutError)
            raise DependencyUnavailable(f"the vector store failed: {_reason(error)}") from error
        breaker.record(healthy=True, began_s=began_s)
        return result

    async def open(self, deadline_s: float = 2 * _OPEN_TIMEOUT_S) -> None:
        """Connect, create the collection where it is missing, and check whose vectors it holds."""
        await self.call("bulk", deadline_s, lambda client: None)

    def ensure_partition(self, client: MilvusClient, name: str) -> None:
        """Create the partition unless it is known to exist. For use inside an operation."""
        if name in self._partitions:
            return
        collection = self.config.collection
        if not client.has_partition(collection, name, timeout=_OPEN_TIMEOUT_S):
            client.create_partition(collection, name, timeout=_OPEN_TIMEOUT_S)
            # A cluster serves a new partition once it is loaded; Milvus Lite knows loading of whole collections only.
            client.load_collection(collection, timeout=_OPEN_TIMEOUT_S)
        self._partitions.add(name)

    def has_partition(self, client: MilvusClient, name: str) -> bool:
        """Whether the partition exists. For use inside an operation; asks only while it is not known to exist."""
        if name in self._partitions:
            return True
        if not client.has_partition(self.config.collection, name, timeout=_OPEN_TIMEOUT_S):
            return False
        self._partitions.add(name)
        return True

    async def close(self) -> None:
        """Let go of the connection and the threads; running calls are not waited for."""
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError, DependencyUnavailable, MilvusException, grpc.RpcError):
                await self._opening
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        if self._client is not None:
            self._client.close()

    async def _opened(self) -> MilvusClient:
        if self._open and self._client is not None:
            return self._client
        # One attempt for all that wait, and it outlives the deadlines of those who wait.
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._connect())
            self._opening.add_done_callback(_consume)
        return await asyncio.shield(self._opening)

    async def _connect(self) -> MilvusClient:
        loop = asyncio.get_running_loop()
        try:
            client = await loop.run_in_executor(self._threads["bulk"], _connected, self.config, self._client)
        except EmbedderMismatch as error:
            # For good: only another configuration, hence another process, mends it.
            self._mismatch = error.message
            raise
        self._partitions.clear()
        self._client, self._open = client, True
        return client


def recorded_embedder(uri: str, token: str = "", collection: str = "prompt_outcomes") -> RecordedEmbedder | None:
    """The embedder recorded beside the vectors, None where there is no collection yet; nothing is changed. Blocks.

    Raises DependencyUnavailable.
    """
    _silence()
    try:
        client = MilvusClient(
            uri, token=token, timeout=_OPEN_TIMEOUT_S, dedicated=True, grpc_options=_grpc_options(uri)
        )
        try:
            return _recorded(client, collection) if client.has_collection(collection, timeout=_OPEN_TIMEOUT_S) else None
        finally:
            client.close()
    except (MilvusException, grpc.RpcError) as error:
        raise DependencyUnavailable(f"Milvus does not answer ({type(error).__name__})") from error


def _silence() -> None:
    # Every failed call is logged there with a traceback and an address; here it becomes one coded error.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)


def _recorded(client: MilvusClient, collection: str) -> RecordedEmbedder:
    found = client.describe_collection(collection, timeout=_OPEN_TIMEOUT_S).get("properties", {})
    return RecordedEmbedder(found.get("modelpilot.embedder"), found.get("modelpilot.dimension"))


def _connected(config: MilvusConfig, client: MilvusClient | None) -> MilvusClient:
    if client is None:
        _silence()
        client = MilvusClient(
            config.uri,
            token=config.token,
            timeout=_OPEN_TIMEOUT_S,
            dedicated=True,
            grpc_options=_grpc_options(config.uri),
        )
    if not client.has_collection(config.collection, timeout=_OPEN_TIMEOUT_S):
        _create(client, config)
    _check_embedder(_recorded(client, config.collection), config)
    client.load_collection(config.collection, timeout=_OPEN_TIMEOUT_S)
    return client


def _create(client: MilvusClient, config: MilvusConfig) -> None:
    try:
        client.create_collection(
            config.collection,
            schema=collection_schema(config.dimension),
            index_params=index_params(),
            properties={"modelpilot.embedder": config.embedder, "modelpilot.dimension": str(config.dimension)},
            timeout=_OPEN_TIMEOUT_S,
        )
    except MilvusException:
        # Another process may have been quicker, whose collection shows a moment later; anything else is an error.
        given_up_at = time.monotonic() + _CREATED_WITHIN_S
        while not client.has_collection(config.collection, timeout=_OPEN_TIMEOUT_S):
            if time.monotonic() > given_up_at:
                raise
            time.sleep(0.05)


def _check_embedder(found: RecordedEmbedder, config: MilvusConfig) -> None:
    if (found.name, found.dimension) != (config.embedder, str(config.dimension)):
        raise EmbedderMismatch(
            f"the Milvus collection {config.collection!r} holds vectors of embedder {found.name!r} with "
            f"{found.dimension} dimensions, but {config.embedder!r} with {config.dimension} is configured: go back to "
            f"the former, or choose another collection name"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer within the deadline"
    if isinstance(error, grpc.Call):
        return str(error.code().name)
    text = error.message if isinstance(error, MilvusException) else type(error).__name__
    # pymilvus puts the address and the whole debug string of gRPC into its messages; one line is enough.
    return re.sub(r"\s+", " ", text)[:200]


def _consume(task: asyncio.Task[MilvusClient]) -> None:
    # All waiters may have given up: without this, asyncio reports the exception as never retrieved.
    if not task.cancelled():
        task.exception()
