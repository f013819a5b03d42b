"""Settings of the analytics site, and the rule that says where it asks for a login."""

import ipaddress
from dataclasses import dataclass
from typing import Literal

# Names under which a browser reaches a site on its own machine. Checking the Host header against them keeps a foreign
# web page from reading the site through DNS rebinding, which a loopback address alone does not.
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """How to serve the site.

    `temporal_ui_url` None leaves workflow links out. `login` "always" asks for a login everywhere; "auto" where the
    site is more than the operator's own. `unprotected` is the operator's word that access is guarded elsewhere (a
    reverse proxy with a login). `trusted_hosts` are further accepted Host names; a leading dot accepts subdomains.
    `refresh_s` is the auto-refresh interval in seconds.
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

    @property
    def accepted_hosts(self) -> list[str]:
        """Every Host name that is answered; all others get a 400."""
        return [*LOOPBACK_NAMES, *self.trusted_hosts]

    @property
    def login_required(self) -> bool:
        """Whether nobody comes in without a login. Where this is False, the first user of the site makes it so, too."""
        if self.login == "always":
            return True
        return not self.unprotected and (self.production or not is_loopback(self.host))

    @property
    def secure_cookies(self) -> bool:
        """Whether browsers send cookies over HTTPS only (and to localhost, which they count as safe)."""
        return self.production


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the bind address; other names than localhost count as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
