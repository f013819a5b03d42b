"""A server that takes no connection."""

import contextlib
import socket
from collections.abc import Iterator

_MORE_THAN_THE_BACKLOG = 8


@contextlib.contextmanager
def deaf_server() -> Iterator[str]:
    """`host:port` of a server that is full: the kernel answers no further connection."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(_MORE_THAN_THE_BACKLOG):  # the first fill it, the rest stay half open
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"127.0.0.1:{server.getsockname()[1]}"
