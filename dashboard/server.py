"""Serve the site from this process until told to stop.

Werkzeug's threaded server: the site is for tens of people, and it adds no dependency (docs/adr/0013-site-login.md).
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dash import Dash
from werkzeug.serving import WSGIRequestHandler, make_server

log = logging.getLogger(__name__)

SOCKET_TIMEOUT_S = 30.0
POLL_S = 0.1  # how often the accept loop looks whether it should end


class _RequestHandler(WSGIRequestHandler):
    """Werkzeug's handler without its version in the headers, its own log handler, or patience without end."""

    timeout = SOCKET_TIMEOUT_S

    def version_string(self) -> str:
        return "ModelPilot"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the overridden name
        log.debug(message, *args)


@contextmanager
def serving(app: Dash, host: str, port: int) -> Iterator[int]:
    """Serve in background threads inside the block; yields the bound port (0 asks for a free one). Raises OSError.

    Leaving the block stops accepting and closes the port; a request that still runs is cut off, since it only reads.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Bound here, since Werkzeug prints and exits the process where a port is taken.
    with socket.create_server((host, port), family=family) as listener:
        server = make_server(
            host, port, app.server, threaded=True, request_handler=_RequestHandler, fd=listener.fileno()
        )
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": POLL_S}, name="dashboard")
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.shutdown()
            thread.join()


def serve(app: Dash, host: str, port: int, stop: threading.Event, on_ready: Callable[[str], None]) -> None:
    """Serve until `stop` is set; `on_ready` gets the URL once the port answers. Raises OSError."""
    with serving(app, host, port) as bound_port:
        on_ready(f"http://{f'[{host}]' if ':' in host else host}:{bound_port}")
        stop.wait()
