"""A gateway that answers what a test tells it to, over real HTTP, in a thread of its own: commands are synchronous."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Answer = tuple[int, Any]


@dataclass
class FakeGateway:
    """`answers` maps `"GET /path"` to (status, JSON) or to a function of the body; whatever else is answered by
    `every`, or a 404. `raw` is what all calls get instead, whatever it is."""

    url: str = ""
    answers: dict[str, Answer | Callable[[Any], Answer]] = field(default_factory=dict)
    every: Answer | Callable[[Any], Answer] | None = None
    raw: str | None = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request."""
        raw = await request.read()
        body = json.loads(raw) if raw else None
        call = f"{request.method} {request.path_qs}"
        self.calls.append((call, body))
        self.keys.append(request.headers.get("authorization", ""))
        if self.raw is not None:
            return web.Response(text=self.raw)
        found = self.answers.get(call) or self.answers.get(f"{request.method} {request.path}") or self.every
        status, content = found(body) if callable(found) else found or refusal(404, f"there is no {call}")
        return web.Response(status=status) if content is None else web.json_response(content, status=status)


def refusal(status: int, message: str) -> Answer:
    """An error as the API words it."""
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "x"}}


def listing(*items: Any) -> Answer:
    """The only page of a list."""
    return 200, {"items": list(items), "nextCursor": None}


@contextmanager
def running_gateway() -> Iterator[FakeGateway]:
    """A fake gateway that listens until the end of the block."""
    gateway, ready, loop = FakeGateway(), threading.Event(), asyncio.new_event_loop()

    async def serve() -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", gateway.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    def run() -> None:
        runner = loop.run_until_complete(serve())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(10.0)
    try:
        yield gateway
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
