"""Proxies for tests: on the way to providers (absolute URIs, tunnels, a password), and in front of the site."""

import asyncio
import base64
import contextlib
import datetime as dt
import http.client
import ssl
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass
class Proxy:
    """A running proxy. Names lead where `names` says; `seen` are the request lines and headers that came."""

    names: Mapping[str, tuple[str, int]]
    password: str | None = None
    port: int = 0
    seen: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, which is one connection to a server."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.seen.append(head)
            await self._connect(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        finally:
            writer.close()

    async def _connect(self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = head.split("\r\n", maxsplit=1)[0].split(" ")
        wanted = base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password is not None and f"Basic {wanted}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        address = target if method == "CONNECT" else urlsplit(target).netloc
        found = self.names.get(address.rpartition(":")[0] or address)
        if found is None:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        above, below = await asyncio.open_connection(*found)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            parts = urlsplit(target)
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            below.write(head.replace(target, path, 1).encode("latin-1"))
        await asyncio.gather(_pass_on(reader, below), _pass_on(above, writer))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await source.read(65_536):
            sink.write(piece)
            await sink.drain()
    sink.close()


@asynccontextmanager
async def running_proxy(names: Mapping[str, tuple[str, int]], password: str | None = None) -> AsyncIterator[Proxy]:
    """A proxy on a free port of this machine."""
    proxy = Proxy(names, password)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


def certificate(name: str, directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for a host name that signs itself, and what a server does with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (directory / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(pem))
    (directory / "key.pem").write_bytes(key.private_bytes(pem, *plain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    return directory / "cert.pem", context


# A reverse proxy in front of the analytics site.


@dataclass(frozen=True)
class Front:
    """How a reverse proxy shows the site: below `prefix`, which it passes on or takes away."""

    target: str
    prefix: str = ""
    strip: bool = False
    tls: ssl.SSLContext | None = None
    forwarded: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def reverse_proxy(front: Front) -> Iterator[int]:
    """Serve it on a free port of this machine, which is yielded. Nothing else than the prefix is there."""
    handler = type("Handler", (_Reverse,), {"front": front})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if front.tls is not None:
            server.socket = front.tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


class _Reverse(BaseHTTPRequestHandler):
    front: Front
    protocol_version = "HTTP/1.1"
    timeout = 30.0

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        front, path = self.front, self.path
        if not path.startswith(front.prefix):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        connection = http.client.HTTPConnection(front.target)
        headers = {**dict(self.headers.items()), **front.forwarded}
        connection.request(self.command, path.removeprefix(front.prefix) if front.strip else path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        if answer.status != http.HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the overridden name
        """Nobody reads it."""
