"""Configuration: every setting of ModelPilot in one frozen, typed object, read once by a composition root.

Nothing is read at import. `load_settings()` reads the environment over `.env`, validates, and names the variable that
is wrong. A variable with the suffix of the environment (`_DEV`, `_PROD`) counts before the one without.
`docs/configuration.md` lists every variable; a test keeps it complete.
"""

import base64
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from infra import setting_values as values
from infra.variables import (
    PREFIX,
    ConfigurationError,
    chosen_variable,
    is_quoted,
    read_variables,
    set_twice,
    unknown,
)
from modelpilot.providers.kinds import ProviderKind, base_url_variable, key_variable

# Whoever reads settings meets these, too.
__all__ = [
    "PREFIX",
    "ConfigurationError",
    "Settings",
    "load_settings",
    "read_variables",
    "unknown_variables",
    "variable_name",
]

log = logging.getLogger("modelpilot.settings")


def variable_names(field_name: str, field: FieldInfo) -> tuple[str, ...]:
    """The environment variables of a field, the one that counts first: its aliases (what other programs read as well
    has no prefix) or the prefixed upper-case name."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        return tuple(choice for choice in alias.choices if isinstance(choice, str))
    return (alias if isinstance(alias, str) else PREFIX + field_name.upper(),)


def variable_name(field_name: str, field: FieldInfo) -> str:
    """The name of a field's variable in messages and in the documentation."""
    return max(variable_names(field_name, field), key=str.isupper)


class SuffixedVariables(PydanticBaseSettingsSource):
    """A pydantic-settings source over one mapping of variables; values stay strings and are parsed by the fields."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Value (None when unset), key under which the model expects it, and "needs no JSON decoding"."""
        names = variable_names(field_name, field)
        chosen = chosen_variable(names, self._variables)
        key = names[0] if field.validation_alias else field_name
        return (self._variables[chosen].strip() if chosen else None), key, False

    def __call__(self) -> dict[str, Any]:
        """All values that are set."""
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        given = {key: value for value, key, _ in found if value is not None}
        if given.get("no_proxy") == "*":  # then the others mean nothing, whatever they are
            given = {key: value for key, value in given.items() if key not in ("http_proxy", "https_proxy")}
        return given


def unknown_variables(settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each prefixed variable that no setting reads: most often a typing error."""
    return unknown({variable_name(name, field) for name, field in settings_cls.model_fields.items()}, variables)


_FEWEST_DISTINCT_BYTES = 12  # 32 random bytes have fewer once in 10^15 draws; "aaaa…" and other samples always do
_ALLOW = "or allow the embedded one with MODELPILOT_ALLOW_EMBEDDED=true"


def _split(value: Any) -> Any:
    """`a, b` → `("a", "b")`; anything but a string is left for pydantic to judge."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _absolute(path: Path) -> Path:
    # Absolute, because children and later commands may run in another directory.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would replace symbolic links


def _each(check: Callable[[str], str]) -> AfterValidator:
    return AfterValidator(lambda entries: tuple(check(entry) for entry in entries))


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), _each(values.origin)]
HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), _each(values.host_name)]
PrivateHosts = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), _each(values.private_host)]
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split), _each(values.network)]
Key = Annotated[SecretStr, AfterValidator(values.encryption_key)]
Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_split), Field(repr=False)]
HeaderKeys = Annotated[SecretStr, AfterValidator(values.header_keys)] | None
# One address or several; checked, they are separated by commas alone.
Hosts = Annotated[str, AfterValidator(values.bind_addresses)]
Host = Annotated[str, AfterValidator(values.one_bind_address)]
Url = Annotated[str, AfterValidator(values.http_url)] | None
Proxy = Annotated[str, AfterValidator(values.proxy_url)] | None
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
# URLs may carry a password: they stay plain strings for their clients, and out of repr().
PrivateUrl = Annotated[str | None, Field(repr=False)]
DatabaseUrl = Annotated[Annotated[str, AfterValidator(values.database_url)] | None, Field(repr=False)]
MilvusUri = Annotated[Annotated[str, AfterValidator(values.milvus_uri)] | None, Field(repr=False)]


def _named(*variables: str, **options: Any) -> Any:
    return Field(default=None, validation_alias=AliasChoices(*variables), **options)


class Settings(BaseSettings):
    """Everything that can be configured. Units are in the names; `None` of a service means "embedded"."""

    model_config = SettingsConfigDict(env_prefix="MODELPILOT_", frozen=True, extra="ignore", populate_by_name=True)

    env: Literal["development", "production"] = "development"
    debug: bool = False
    allow_embedded: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(default=Path(".modelpilot"), validate_default=True)
    host: Hosts = "127.0.0.1"
    api_port: Port = 8080
    dashboard_host: Hosts = "127.0.0.1"
    dashboard_port: Port = 8050
    dashboard_login: Literal["auto", "always"] = "auto"
    dashboard_prefix: Annotated[str, AfterValidator(values.path_prefix)] = "/"
    dashboard_public_url: Url = None
    dashboard_trusted_hosts: HostNames = ()
    dashboard_trusted_proxies: Networks = ()
    dashboard_unprotected: bool = False
    cors_origins: Origins = ()
    max_body_mb: Annotated[float, Field(gt=0, le=1024, allow_inf_nan=False)] = 20
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 1000
    max_waiting: Annotated[int, Field(ge=1, le=100_000)] = 64
    max_backlog: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    max_bodies_mb: Annotated[float, Field(gt=0, le=1_048_576, allow_inf_nan=False)] = 256
    keep_alive_seconds: Seconds = 75
    metrics_public: bool = True
    drain_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 20
    heartbeat_seconds: Seconds = 2
    lease_seconds: Seconds = 10

    temporal_port: Port = 7233
    temporal_ui_host: Host = "127.0.0.1"
    temporal_ui_port: Port = 8233
    temporal_ui_url: Url = None
    temporal_address: Annotated[str, AfterValidator(values.host_and_port)] | None = None
    temporal_namespace: Annotated[str, Field(min_length=1)] = "default"
    temporal_api_key: HeaderKeys = None
    temporal_tls: bool = False
    temporal_tls_ca_file: Path | None = None
    temporal_tls_cert_file: Path | None = None
    temporal_tls_key_file: Path | None = None
    temporal_tls_server_name: str | None = None

    database_url: DatabaseUrl = None
    milvus_uri: MilvusUri = None
    milvus_token: SecretStr | None = None
    vector_deadline_ms: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 25

    encryption_keys: Keys = ()
    result_retention_hours: Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)] = 24
    prompt_retention_days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] = 30
    request_retention_days: Annotated[float, Field(ge=1, le=36_500, allow_inf_nan=False)] = 90
    export_url: PrivateUrl = None
    router_cache_seconds: Seconds = 300
    private_provider_hosts: PrivateHosts = ()

    simulator_url: Url = None
    # Two for each public kind of `modelpilot.providers.kinds`; their variables have no prefix.
    openai_api_key: HeaderKeys = _named(key_variable("openai"))
    anthropic_api_key: HeaderKeys = _named(key_variable("anthropic"))
    google_api_key: HeaderKeys = _named(key_variable("google"))
    openrouter_api_key: HeaderKeys = _named(key_variable("openrouter"))
    openai_base_url: Url = _named(base_url_variable("openai"))
    anthropic_base_url: Url = _named(base_url_variable("anthropic"))
    google_base_url: Url = _named(base_url_variable("google"))
    openrouter_base_url: Url = _named(base_url_variable("openrouter"))
    # What other programs read, too, in either spelling. The URLs may carry a password.
    http_proxy: Proxy = _named("http_proxy", "HTTP_PROXY", repr=False)
    https_proxy: Proxy = _named("https_proxy", "HTTPS_PROXY", repr=False)
    no_proxy: str | None = _named("no_proxy", "NO_PROXY")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit arguments only: `load_settings` hands over the variables, a bare Settings() reads nothing."""
        return (init_settings,)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [*_inconsistencies(self), *(_production_problems(self) if self.production else [])]
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def provider_keys(self, kind: ProviderKind) -> SecretStr | None:
        """The keys of a public kind, separated by commas."""
        found: SecretStr | None = getattr(self, f"{kind}_api_key")
        return found

    def provider_base_url(self, kind: ProviderKind) -> str | None:
        """The base URL of a public kind, where it is not the usual one."""
        found: str | None = getattr(self, f"{kind}_base_url")
        return found

    @property
    def encryption_key_texts(self) -> list[str]:
        """The keys in clear, newest first: base64 of 32 bytes each."""
        return [key.get_secret_value() for key in self.encryption_keys]

    @property
    def milvus_token_text(self) -> str:
        """The token in clear; empty without one."""
        return self.milvus_token.get_secret_value() if self.milvus_token else ""

    @property
    def production(self) -> bool:
        """Whether MODELPILOT_ENV is `production`."""
        return self.env == "production"

    @property
    def api_url(self) -> str:
        """Where a client on this machine reaches the gateway."""
        return f"http://{_client_host(self.host)}:{self.api_port}"

    @property
    def dashboard_url(self) -> str:
        """Where a browser on this machine reaches the dashboard."""
        path = self.dashboard_prefix.rstrip("/")
        return f"http://{_client_host(self.dashboard_host)}:{self.dashboard_port}{path}"

    @property
    def site_url(self) -> str:
        """Where people reach the dashboard, for links to it."""
        return self.dashboard_public_url or self.dashboard_url

    @property
    def embedded_temporal_ui_url(self) -> str:
        """Where a browser on this machine reaches the Web UI of the embedded Temporal."""
        return f"http://{_client_host(self.temporal_ui_host)}:{self.temporal_ui_port}"


def _client_host(addresses: str) -> str:
    # A wildcard address is for listening; a client on this machine takes loopback, where that is listened on at all.
    known = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
    hosts = [known.get(host, host) for host in addresses.split(",")]
    loopback = [host for host in hosts if host in ("localhost", "::1") or host.startswith("127.")]
    reachable = (loopback or hosts)[0]
    return f"[{reachable}]" if ":" in reachable else reachable


def _inconsistencies(settings: Settings) -> list[str]:
    problems = []
    ports: dict[int, str] = {}
    for name in ("api_port", "dashboard_port", "temporal_port", "temporal_ui_port"):
        other = ports.setdefault(getattr(settings, name), name)
        if other != name:
            problems.append(f"{_variable(name)}: is the same port as {_variable(other)}")
    if settings.lease_seconds <= 2 * settings.heartbeat_seconds:
        # A lease that one late heartbeat ends would let two processes work on the same request.
        problems.append(f"{_variable('lease_seconds')}: must be more than twice {_variable('heartbeat_seconds')}")
    if settings.max_bodies_mb < settings.max_body_mb:
        problems.append(f"{_variable('max_bodies_mb')}: must be at least {_variable('max_body_mb')}")
    if (settings.temporal_tls_cert_file is None) != (settings.temporal_tls_key_file is None):
        both = f"{_variable('temporal_tls_cert_file')} and {_variable('temporal_tls_key_file')}"
        problems.append(f"{both}: give both or neither")
    return [*problems, *_missing_files(settings), *_wrong_prefix(settings)]


def _missing_files(settings: Settings) -> Iterator[str]:
    for name in ("temporal_tls_ca_file", "temporal_tls_cert_file", "temporal_tls_key_file"):
        path: Path | None = getattr(settings, name)
        if settings.temporal_tls and path is not None and not (path.is_file() and os.access(path, os.R_OK)):
            yield f"{_variable(name)}: {path} is no file that can be read"


def _wrong_prefix(settings: Settings) -> Iterator[str]:
    url, prefix = settings.dashboard_public_url, settings.dashboard_prefix
    if url is not None and f"/{urlsplit(url).path.strip('/')}/".replace("//", "/") != prefix:
        yield f"{_variable('dashboard_public_url')}: must end with the path {prefix} of {_variable('dashboard_prefix')}"


def _production_problems(settings: Settings) -> list[str]:
    """What `MODELPILOT_ENV=production` refuses: debug, embedded services and secrets that nobody chose."""
    problems = [f"{_variable('debug')}: is not allowed in production"] if settings.debug else []
    if not settings.allow_embedded:
        problems += [
            f"{_variable(name)}: is required in production ({_ALLOW})"
            for name in ("database_url", "temporal_address", "milvus_uri", "encryption_keys")
            if not getattr(settings, name)
        ]
    for key in settings.encryption_keys:
        if len(set(base64.b64decode(key.get_secret_value()))) < _FEWEST_DISTINCT_BYTES:
            problems.append(f"{_variable('encryption_keys')}: holds a sample key, not a random one")
    return problems


def _names() -> Iterator[tuple[str, ...]]:
    """Of each field its name and those of its variables."""
    return ((name, *variable_names(name, field)) for name, field in Settings.model_fields.items())


def _variable(field_name: str) -> str:
    return variable_name(field_name, Settings.model_fields[field_name])


def load_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the configuration; what is probably a mistake, but no wrong value, is logged as a warning.

    `variables` replaces the environment and `.env` (for tests and for children's environments).
    Raises ConfigurationError, whose message names every variable that is wrong.
    """
    known = read_variables() if variables is None else variables
    quoted = [f"{name}: is in quotes; write the value without them" for name in _quoted(known)]
    try:
        settings = Settings(**SuffixedVariables(Settings, known)())
    except ValidationError as error:
        found = [problem for problem in _readable(error, known) if problem.partition(":")[0] not in _quoted(known)]
        raise ConfigurationError([*quoted, *found]) from None  # the cause would print the rejected values
    if quoted:
        raise ConfigurationError(quoted)
    if variables is None:
        for remark in (*unknown_variables(Settings, known), *set_twice()):
            log.warning("%s", remark)
    return settings


def _quoted(variables: Mapping[str, str]) -> set[str]:
    fields = Settings.model_fields.items()
    chosen = (chosen_variable(variable_names(name, field), variables) for name, field in fields)
    return {name for name in chosen if name and is_quoted(variables[name])}


def _readable(error: ValidationError, variables: Mapping[str, str]) -> list[str]:
    problems: list[str] = []
    for detail in error.errors(include_input=False, include_url=False):
        message = detail["msg"].removeprefix("Value error, ")
        if not detail["loc"]:
            problems += message.split("\n")  # our own checks across settings name their variables themselves
            continue
        location = str(detail["loc"][0])
        names = next((names for names in _names() if location in names), ())
        decided_by = chosen_variable(names, variables) or location
        problems.append(f"{decided_by}: {message[:1].lower()}{message[1:]}")
    return problems
