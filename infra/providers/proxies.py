"""Which proxy of the environment, if any, a provider is reached through: HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ProxyRule:
    """A proxy for each scheme, whose URL may hold a password, and the hosts that are reached without one.

    This machine itself is always reached without one: a proxy is for the outside.
    """

    proxies: dict[str, str] = field(default_factory=dict, repr=False)
    direct: tuple[str, ...] = ()

    @classmethod
    def of(cls, http: str | None, https: str | None, no_proxy: str | None, direct_hosts: Iterable[str] = ()) -> Self:
        """The rule of the variables' values, and of `direct_hosts`, that nobody reaches through a proxy either."""
        entries = [entry.lower() for entry in re.split(r"[\s,]+", no_proxy or "") if entry]
        if "*" in entries:
            return cls()
        proxies = {scheme: url for scheme, url in (("http", http), ("https", https)) if url}
        return cls(proxies, (*entries, *(host.lower() for host in direct_hosts)))

    def proxy_for(self, url: str) -> str | None:
        """The proxy to reach `url` (http or https) through; None: directly."""
        parts = urlsplit(url)
        proxy = self.proxies.get(parts.scheme)
        host = (parts.hostname or "").rstrip(".")
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
        if proxy is None or _is_this_machine(host) or any(_covers(entry, host, port) for entry in self.direct):
            return None
        return proxy


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY means this host: a name with everything below it, an address or a network, each
    perhaps with a port."""
    named, separator, wanted = entry.rpartition(":")
    if separator and wanted.isdecimal() and (":" not in named or named.endswith("]")):
        if int(wanted) != port:
            return False
        entry = named
    entry = entry.strip("[]")
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        name = entry.removeprefix("*").strip(".")
        return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
