"""Settings of the analytics site, and the rule that says where it may be shown as long as it has no login."""

import ipaddress
from dataclasses import dataclass
from typing import ClassVar

from modelpilot.errors import ModelPilotError

# Names under which a browser reaches a site on its own machine. Checking the Host header against them keeps a foreign
# web page from reading the site through DNS rebinding, which a loopback address alone does not.
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class UnprotectedDashboard(ModelPilotError):
    """The site has no login yet, and this configuration would show every tenant's numbers to more than the operator."""

    code: ClassVar[str] = "dashboard_unprotected"


@dataclass(frozen=True, slots=True)
class DashboardConfig:
    """How to serve the site.

    `temporal_ui_url` None leaves workflow links out. `unprotected` is the operator's word that access is guarded
    elsewhere (a reverse proxy, a port published on loopback only). `trusted_hosts` are further accepted Host names;
    a leading dot accepts subdomains. `refresh_s` is the auto-refresh interval in seconds.
    """

    host: str = "127.0.0.1"
    port: int = 8050
    temporal_ui_url: str | None = None
    temporal_namespace: str = "default"
    production: bool = False
    unprotected: bool = False
    trusted_hosts: tuple[str, ...] = ()
    refresh_s: int = 15

    @property
    def accepted_hosts(self) -> list[str]:
        """Every Host name that is answered; all others get a 400."""
        return [*LOOPBACK_NAMES, *self.trusted_hosts]


def require_guarded(config: DashboardConfig) -> None:
    """Raises UnprotectedDashboard unless only the operator on this machine can see the site, or said that it is so.

    Login comes later. Until then every visitor sees the numbers of all tenants, so the site binds to loopback, and
    anything else has to be asked for by name.
    """
    if config.unprotected:
        return
    if config.production:
        problem = "The dashboard has no login yet and MODELPILOT_ENV is production"
    elif not is_loopback(config.host):
        problem = f"The dashboard has no login yet and would listen on {config.host}"
    else:
        return
    raise UnprotectedDashboard(
        f"{problem}: it would show every user's requests to whoever can reach it. Guard it (for example by a reverse "
        "proxy with a login) and set MODELPILOT_DASHBOARD_UNPROTECTED=true.",
        param="MODELPILOT_DASHBOARD_UNPROTECTED",
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the bind address; other names than localhost count as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
