"""How Milvus is called: no pings that a server would take for abuse, and no proxy on the way to this machine."""

import pytest

from infra.vectors.client import _grpc_options

# What gRPC's servers permit where nothing was configured: https://github.com/grpc/grpc/blob/master/doc/keepalive.md
LEAST_PERMITTED_MS = 300_000


def test_pings_are_rarer_than_servers_permit() -> None:
    """Milvus Lite has gRPC's defaults; the third ping within five minutes would end the connection."""
    options = _grpc_options("http://milvus:19530")
    assert options["grpc.keepalive_time_ms"] > LEAST_PERMITTED_MS
    assert options["grpc.keepalive_permit_without_calls"] == 0


@pytest.mark.parametrize(
    ("uri", "direct"),
    [
        ("http://127.0.0.1:19530", True),
        ("http://[::1]:19530", True),
        ("http://localhost:1", True),
        ("https://m.example", False),
    ],
)
def test_this_machine_is_not_behind_a_proxy(uri: str, direct: bool) -> None:
    """The embedded Milvus works where `https_proxy` is set for providers."""
    assert ("grpc.enable_http_proxy" in _grpc_options(uri)) is direct
