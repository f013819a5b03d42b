"""Carries out the steps of a plan on a real connection, and records how the call ended."""

import asyncio
import socket
import struct
from collections.abc import Sequence

from aiohttp import web

from simulator.calls import Call, CallLog
from simulator.plan import Hang, Head, Reset, Send, Step, Wait

_RESET_AT_CLOSE = struct.pack("ii", 1, 0)  # linger on, zero seconds: close() sends RST instead of FIN


class Delivery:
    """One answer on its way to a client; `stopping` ends silences when the server shuts down."""

    def __init__(self, request: web.Request, call: Call, calls: CallLog, stopping: asyncio.Event) -> None:
        self._request = request
        self._call = call
        self._calls = calls
        self._stopping = stopping
        self._response: web.StreamResponse | None = None
        self._due_s = asyncio.get_running_loop().time()

    async def run(self, steps: Sequence[Step]) -> web.StreamResponse:
        """Carry out `steps`; a client that goes away ends them, and the call counts as `disconnected`."""
        try:
            response = await self._at_once(steps) or await self._step_by_step(steps)
        except (asyncio.CancelledError, ConnectionError):
            self._calls.end(self._call, "failed" if self._stopping.is_set() else "disconnected")
            raise
        else:
            failed = self._call.status is None or self._call.status >= 400 or _breaks_off(steps)
            self._calls.end(self._call, "failed" if failed else "completed")
            return response
        finally:
            self._calls.end(self._call, "failed")  # Only the first ending counts: this one is for surprises.

    async def _at_once(self, steps: Sequence[Step]) -> web.Response | None:
        """Send a plan of the form [Wait,] Head, Send in one write; return None for any other plan."""
        match steps:
            case [Wait(ms), Head() as head, Send(data)]:
                await self._wait(ms)
            case [Head() as head, Send(data)]:
                pass
            case _:
                return None
        self._call.status = head.status
        headers = {**self._headers(head), "Content-Type": head.content_type}
        response = web.Response(body=data, status=head.status, headers=headers)
        # Written here and not after the handler's return, so that a client that left is seen.
        await response.prepare(self._request)
        await response.write_eof()
        return response

    async def _step_by_step(self, steps: Sequence[Step]) -> web.StreamResponse:
        for step in steps:
            match step:
                case Wait(ms):
                    await self._wait(ms)
                case Head():
                    await self._head(step)
                case Send(data) if self._response:
                    await self._response.write(data)
                case Hang():
                    await self._stopping.wait()
                    self._reset()
                case Reset():
                    self._reset()
        response = self._response or web.Response()
        if not _breaks_off(steps):
            await response.write_eof()
        return response

    async def _wait(self, ms: float) -> None:
        """Wait until `ms` after the last due time, so that pacing does not drift."""
        self._due_s += ms / 1000
        delay_s = self._due_s - asyncio.get_running_loop().time()
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    async def _head(self, head: Head) -> None:
        self._call.status = head.status
        self._response = web.StreamResponse(status=head.status, headers=self._headers(head))
        self._response.content_type = head.content_type
        self._response.content_length = head.length
        await self._response.prepare(self._request)

    def _headers(self, head: Head) -> dict[str, str]:
        name = f"req_sim_{self._call.number}"
        return {"x-request-id": name, "request-id": name, **head.headers}

    def _reset(self) -> None:
        transport = self._request.transport
        if transport is None:
            return
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        transport.abort()


def _breaks_off(steps: Sequence[Step]) -> bool:
    return isinstance(steps[-1], (Hang, Reset))
