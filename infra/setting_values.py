"""What the values of settings look like: each function takes a text, and returns it or says what is wrong with it.

A ValueError is the end of a sentence that begins with the variable. It never repeats what may hold a secret.
"""

import base64
import binascii
import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from infra.variables import is_quoted

ENCRYPTION_KEY_BYTES = 32
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_HTTP = ("http", "https")
_MOST_PORT = 65_535
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


def encryption_key(key: SecretStr) -> SecretStr:
    """The base64 of 32 bytes."""
    text = key.get_secret_value()
    if is_quoted(text):
        raise ValueError("holds a key in quotes; write it without them")
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != ENCRYPTION_KEY_BYTES:
        raise ValueError("each key must be the base64 of 32 random bytes (for example: openssl rand -base64 32)")
    return key


def header_keys(value: SecretStr) -> SecretStr:
    """Keys that go into a header, separated by commas."""
    for key in value.get_secret_value().split(","):
        text = key.strip()
        if text.strip("\"'`") != text:
            raise ValueError("holds a key in quotes; write it without them")
        if any(char.isspace() for char in text):
            raise ValueError("holds a key with a space or a line break in it")
        if not (text.isascii() and text.isprintable()):
            raise ValueError("holds a key with a character that no header may have")
    return value


def bind_addresses(value: str) -> str:
    """Addresses to listen on, separated by commas: `::1, [::1], 127.0.0.1` → `::1,127.0.0.1`."""
    hosts = list(dict.fromkeys(_bind_address(part.strip()) for part in value.split(",") if part.strip()))
    if not hosts:
        raise ValueError("must name an address")
    for wildcard in _WILDCARDS:
        family = ":" in wildcard
        others = [host for host in hosts if host != wildcard and (host == "localhost" or (":" in host) == family)]
        if wildcard in hosts and others:
            raise ValueError(f"{wildcard} includes {others[0]}: give one of them")
    return ",".join(host for host in hosts if host != "127.0.0.1" or "localhost" not in hosts)


def _bind_address(text: str) -> str:
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if host.lower() == "localhost":
        return "localhost"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        advice = "addresses of this machine, such as 127.0.0.1, ::1 or 0.0.0.0, separated by commas"
        raise ValueError(f"{text!r} is no address to listen on; give {advice}") from None


def one_bind_address(value: str) -> str:
    """One address to listen on."""
    host = bind_addresses(value)
    if "," in host:
        raise ValueError("takes one address only")
    return host


def database_url(url: str) -> str:
    """The URL of a Postgres database; libpq knows several hosts, sockets and more."""
    example = "must be a URL such as postgresql://user:password@host:5432/name"
    scheme, separator, rest = url.partition("://")
    if not re.fullmatch(r"postgres(ql)?(\+\w+)?", scheme) or not separator:
        raise ValueError(example)
    _refuse_spaces(url)
    if re.search(r"%(?![0-9a-f]{2})|%00", rest, re.IGNORECASE):
        raise ValueError("holds a % that does not begin two hexadecimal digits; write % itself as %25")
    from infra.db.addresses import problem_of  # libpq takes a moment to load, and most commands get no URL

    if problem := problem_of(f"postgresql://{rest}"):
        raise ValueError(problem)
    return url


def host_and_port(address: str) -> str:
    """`host:port`, without a scheme."""
    found = re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", address)
    if not found or not 0 < int(found[2]) <= _MOST_PORT:
        raise ValueError("must be an address such as host:7233, without http://")
    return address


def http_url(url: str) -> str:
    """An http or https URL that holds no password."""
    parts = _split_url(url, _HTTP, "https://host:8000/path")
    if "@" in parts.netloc:
        raise ValueError("must be a URL without user name and password")
    if parts.fragment:
        raise ValueError("must be a URL without the part behind #")
    return url


def milvus_uri(uri: str) -> str:
    """What pymilvus connects to over a network."""
    if not uri.lower().startswith("unix:"):
        _split_url(uri, (*_HTTP, "tcp"), "http://host:19530")
    return uri


def proxy_url(url: str) -> str:
    """An HTTP proxy, perhaps with its user and password; one without a scheme is an http:// one, as for curl."""
    whole = url if "://" in url else f"http://{url}"
    try:
        parts = _split_url(whole, ("http",), "http://proxy:3128")
    except ValueError as error:
        raise ValueError(f"{error}; NO_PROXY=* lets providers be called without a proxy") from None
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must be the address of a proxy, without a path")
    return whole


def origin(url: str) -> str:
    """`https://host:port`, exactly as browsers write it."""
    parts = _split_url(url, _HTTP, "https://app.example.com")
    if url != f"{parts.scheme}://{parts.netloc}" or "@" in parts.netloc:
        raise ValueError(f"must be origins such as {parts.scheme}://{parts.hostname}, without a path or a slash behind")
    return url


def private_host(entry: str) -> str:
    """A host name, an address or a network."""
    text = entry.strip("[]")
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        if "/" in text or not _NAME.fullmatch(text) or text.replace(".", "").isdecimal():
            advice = "a host name, an address or a network such as 10.0.0.0/8"
            raise ValueError(f"{entry!r} is not {advice}, without http:// and port") from None
    return entry


def network(entry: str) -> str:
    """An address or a network."""
    try:
        ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        raise ValueError(f"{entry!r} is no address or network such as 10.0.0.0/8") from None
    return entry.strip("[]")


def host_name(entry: str) -> str:
    """A name that a browser's Host header may have; a leading dot means subdomains, too. A port does not count."""
    name = re.sub(r":\d+\Z", "", entry).lower()
    if not _NAME.fullmatch(name.removeprefix(".")) and not re.fullmatch(r"\[[0-9a-f:.]+\]", name):
        raise ValueError(f"{entry!r} is no host name such as pilot.example.com, without http://")
    return name


def path_prefix(path: str) -> str:
    """A path of a site, with a slash at both ends: `pilot` → `/pilot/`."""
    segments = [segment for segment in path.split("/") if segment]
    if not all(re.fullmatch(r"[A-Za-z0-9._~-]+", segment) and segment.strip(".") for segment in segments):
        raise ValueError("must be a path such as /pilot/, of letters, digits and . _ ~ -")
    return "/".join(["", *segments, ""])


def _split_url(url: str, schemes: tuple[str, ...], example: str) -> SplitResult:
    wrong = ValueError(f"must be a URL such as {example}")
    _refuse_spaces(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # half of an IPv6 address, a port that is no number
        raise wrong from None
    host = parts.hostname or ""
    if parts.scheme not in schemes or port == 0 or not (_NAME.fullmatch(host) or ":" in host):
        raise wrong
    return parts


def _refuse_spaces(url: str) -> None:
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("holds a space or a line break; in a URL a space is written as %20")
