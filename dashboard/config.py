"""Settings of the analytics site, and the rule that says where it asks for a login."""

import ipaddress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """How to serve the site.

    `host` is an address to listen on, or several separated by commas. `prefix` is the path below which browsers see the
    site, with a slash at both ends; `public_url` is where they see it, where that is known. `temporal_ui_url` None
    leaves workflow links out. `login` "always" asks for a login everywhere; "auto" where the site is more than the
    operator's own. `unprotected` is the operator's word that access is guarded elsewhere (a reverse proxy with a
    login). `trusted_hosts` are further accepted Host names; a leading dot accepts subdomains. `trusted_proxies` are
    addresses and networks of proxies whose X-Forwarded-* headers are believed. `refresh_s` is the auto-refresh interval
    in seconds.
    """

    host: str = "127.0.0.1"
    port: int = 8050
    temporal_ui_url: str | None = None
    temporal_namespace: str = "default"
    production: bool = False
    login: Literal["auto", "always"] = "auto"
    unprotected: bool = False
    trusted_hosts: tuple[str, ...] = ()
    refresh_s: int = 15
    prefix: str = "/"
    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()

    def accepts(self, host: str) -> bool:
        """Whether requests with this Host header are answered.

        Addresses always are: what the check keeps out is a foreign web page that lets its own *name* lead to this
        machine (DNS rebinding), which a loopback address alone does not.
        """
        name = host_name(host)
        if name == "localhost" or is_address(name) or (self.public_url and name == urlsplit(self.public_url).hostname):
            return True
        return any(
            name == host_name(one.removeprefix(".")) or (one.startswith(".") and name.endswith(one))
            for one in self.trusted_hosts
        )

    @property
    def login_required(self) -> bool:
        """Whether nobody comes in without a login. Where this is False, the first user of the site makes it so, too."""
        if self.login == "always":
            return True
        return not self.unprotected and (self.production or not all(map(is_loopback, self.host.split(","))))

    def trusts(self, address: str | None) -> bool:
        """Whether a proxy at this address may say who the visitor is and how it came."""
        try:
            peer = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        return any(peer in ipaddress.ip_network(one, strict=False) for one in self.trusted_proxies)


def host_name(host: str) -> str:
    """The name or address in a Host header, without its port and the brackets of IPv6; empty where there is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Whether this is an IP address and no name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the bind address; other names than localhost count as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
