"""Which addresses a provider may have: nobody makes ModelPilot call into its own network unless that was allowed."""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

from modelpilot.errors import InvalidRequest

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.IGNORECASE)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressRefused(OSError):
    """A host's name leads to an address that providers may not have."""


@dataclass(frozen=True, slots=True)
class AddressRule:
    """Public addresses are always allowed; `allow_internal` (development) adds loopback and private ones.

    `hosts` and `networks` are what MODELPILOT_PRIVATE_PROVIDER_HOSTS lists. Link-local addresses, where clouds keep
    their credentials, are allowed only when listed.
    """

    allow_internal: bool = False
    hosts: frozenset[str] = frozenset()
    networks: tuple[_Network, ...] = ()

    @classmethod
    def of(cls, *, allow_internal: bool, private_hosts: Iterable[str] = ()) -> Self:
        """The rule for a list of host names, addresses and networks (CIDR)."""
        names: set[str] = set()
        networks: list[_Network] = []
        for entry in (entry.strip().lower().strip("[]") for entry in private_hosts):
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                names.add(entry.rstrip("."))
        return cls(allow_internal, frozenset(names - {""}), tuple(networks))

    def check_url(self, url: str) -> None:
        """Raise InvalidRequest (param `baseUrl`) unless `url` may be a provider's base URL.

        A name is not resolved here: `GuardedResolver` looks at what it leads to whenever a connection is made, unless a
        proxy makes it, which resolves names itself.
        """
        host = _host_of(url)
        address = _literal_address(host)
        if address is not None and not self.allows(host, address):
            raise _refused(f"{host} is not a public address; list it in MODELPILOT_PRIVATE_PROVIDER_HOSTS to allow it")

    def allows(self, host: str, address: _Address) -> bool:
        """Whether `address`, found under the name `host`, may be called."""
        if host.lower().rstrip(".") in self.hosts:
            return True
        real = _unwrapped(address)
        if any(real in network for network in self.networks):
            return True
        if real.is_loopback:  # first: IPv6 counts its own among the reserved
            return self.allow_internal
        if real.is_multicast or real.is_reserved or real.is_unspecified or real.is_link_local:
            return False
        return real.is_global or self.allow_internal


class GuardedResolver(AbstractResolver):
    """Resolves names and refuses those that lead to a forbidden address, so that a changed DNS entry is no way in."""

    def __init__(self, rule: AddressRule, inner: AbstractResolver | None = None) -> None:
        self._rule = rule
        self._inner = inner if inner is not None else DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The allowed addresses of `host`. Raises AddressRefused where it has none, OSError where it is unknown."""
        found = await self._inner.resolve(host, port, family)
        allowed = [item for item in found if self._rule.allows(host, ipaddress.ip_address(item["host"]))]
        if not allowed:
            raise AddressRefused("the provider's host leads to an address that is not allowed")
        return allowed

    async def close(self) -> None:
        """Release the inner resolver."""
        await self._inner.close()


class ProxyUnknown(OSError):
    """The name of a proxy leads nowhere."""


class ProxyResolver(AbstractResolver):
    """Resolves the names of proxies, which the operator has chosen; what lies behind them they resolve themselves."""

    def __init__(self) -> None:
        self._inner: AbstractResolver = DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises ProxyUnknown where it has none."""
        try:
            return await self._inner.resolve(host, port, family)
        except OSError as error:
            raise ProxyUnknown("the proxy's host is unknown") from error

    async def close(self) -> None:
        """Release the inner resolver."""
        await self._inner.close()


def _host_of(url: str) -> str:
    if not url.isascii() or not url.isprintable() or any(char in url for char in ' \\"<>^`{|}'):
        raise _refused("a base URL must be plain ASCII")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  (reading it checks it)
    except ValueError:
        raise _refused("not a valid URL") from None
    _check_parts(parts)
    return (parts.hostname or "").rstrip(".")


def _check_parts(parts: SplitResult) -> None:
    if parts.scheme not in ("http", "https"):
        raise _refused("a base URL must start with http:// or https://")
    if "@" in parts.netloc:
        raise _refused("a base URL must not hold credentials; use apiKey")
    if not parts.hostname or "%" in parts.netloc:
        raise _refused("a base URL must name a host")
    if parts.fragment:
        raise _refused("a base URL must not have a fragment")


def _literal_address(host: str) -> _Address | None:
    if host == "localhost" or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        # 127.1, 0x7f.1 and 2130706433 are addresses to the operating system, but not to a reader.
        last = host.rpartition(".")[2]
        if last.isdigit() or last.startswith("0x"):
            raise _refused("an address must be written in its usual form") from None
        if not _NAME.fullmatch(host):
            raise _refused("a base URL must name a host") from None
        return None


def _unwrapped(address: _Address) -> _Address:
    """The IPv4 address inside an IPv6 one that merely carries it."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address in _NAT64:
        inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner or address


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="baseUrl")
