"""Configuration: every setting of ModelPilot in one frozen, typed object, read once by a composition root.

Nothing is read at import. `load_settings()` reads the environment over `.env`, validates, and names the variable that
is wrong. A variable with the suffix of the environment (`_DEV`, `_PROD`) counts before the one without.
`docs/configuration.md` lists every variable; a test keeps it complete.
"""

import base64
import binascii
import difflib
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from modelpilot.providers.kinds import ProviderKind, base_url_variable, key_variable

PREFIX = "MODELPILOT_"
ENVIRONMENT_VARIABLE = "MODELPILOT_ENV"
SUFFIXES: Mapping[str, str] = {"development": "_DEV", "production": "_PROD"}


def variable_name(field_name: str, field: FieldInfo) -> str:
    """The environment variable of a field: its alias (provider keys have no prefix) or the prefixed upper-case name."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0] if isinstance(alias.choices[0], str) else None
    return alias if isinstance(alias, str) else PREFIX + field_name.upper()


def chosen_variable(name: str, variables: Mapping[str, str]) -> str | None:
    """The variable that decides: NAME_DEV or NAME_PROD where it is set for this environment, else NAME, else None.

    An empty value counts as unset, so that `MODELPILOT_MILVUS_URI=` in a compose file means "the default".
    """
    environment = variables.get(ENVIRONMENT_VARIABLE) or "development"
    candidates = [name + SUFFIXES[environment], name] if environment in SUFFIXES else [name]
    if name == ENVIRONMENT_VARIABLE:
        candidates = [name]
    return next((candidate for candidate in candidates if variables.get(candidate)), None)


class SuffixedVariables(PydanticBaseSettingsSource):
    """A pydantic-settings source over one mapping of variables; values stay strings and are parsed by the fields."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Value (None when unset), key under which the model expects it, and "needs no JSON decoding"."""
        name = variable_name(field_name, field)
        chosen = chosen_variable(name, self._variables)
        key = name if field.validation_alias else field_name
        return (self._variables[chosen].strip() if chosen else None), key, False

    def __call__(self) -> dict[str, Any]:
        """All values that are set."""
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: value for value, key, _ in found if value is not None}


# Read by the commands that talk to a running gateway (`cli/client.py`), not by any process of it.
CLIENT_VARIABLES = {"MODELPILOT_API_KEY", "MODELPILOT_API_URL"}


def unknown_variables(settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each prefixed variable that no setting reads: most often a typing error."""
    known = {variable_name(name, field) for name, field in settings_cls.model_fields.items()} | CLIENT_VARIABLES
    for name in sorted(variables):
        base = next((name.removesuffix(s) for s in SUFFIXES.values() if name.endswith(s)), name)
        if name.startswith(PREFIX) and name not in known and base not in known:
            near = difflib.get_close_matches(base, known, n=1)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")


ENCRYPTION_KEY_BYTES = 32
_FEWEST_DISTINCT_BYTES = 12  # 32 random bytes have fewer once in 10^15 draws; "aaaa…" and other samples always do
_ALLOW = "or allow the embedded one with MODELPILOT_ALLOW_EMBEDDED=true"


class ConfigurationError(Exception):
    """The configuration is wrong; `problems` has one sentence per problem, each naming its variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def _split(value: Any) -> Any:
    """`a, b` → `("a", "b")`; anything but a string is left for pydantic to judge."""
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _absolute(path: Path) -> Path:
    # Absolute, because children and later commands may run in another directory.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 - resolve() would replace symbolic links


def _encryption_key(key: SecretStr) -> SecretStr:
    try:
        raw = base64.b64decode(key.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != ENCRYPTION_KEY_BYTES:
        raise ValueError("each key must be the base64 of 32 random bytes (for example: openssl rand -base64 32)")
    return key


def _bindable_host(host: str) -> str:
    if host != "localhost":
        ipaddress.ip_address(host)
    return host


def _database_url(url: str) -> str:
    if not re.match(
        r"postgres(ql)?(\+\w+)?://", url
    ):  # the rest is libpq's to judge: it knows several hosts, sockets …
        raise ValueError("must be a URL such as postgresql://user:password@host:5432/name")
    return url


def _host_and_port(address: str) -> str:
    if not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}", address):
        raise ValueError("must be an address such as host:7233, without http://")
    return address


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Key = Annotated[SecretStr, AfterValidator(_encryption_key)]
Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_split), Field(repr=False)]
Host = Annotated[str, AfterValidator(_bindable_host)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
# URLs may carry a password: they stay plain strings for their clients, and out of repr().
PrivateUrl = Annotated[str | None, Field(repr=False)]


def _named(variable: str) -> Any:
    return Field(default=None, validation_alias=variable)


class Settings(BaseSettings):
    """Everything that can be configured. Units are in the names; `None` of a service means "embedded"."""

    model_config = SettingsConfigDict(env_prefix="MODELPILOT_", frozen=True, extra="ignore", populate_by_name=True)

    env: Literal["development", "production"] = "development"
    debug: bool = False
    allow_embedded: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    data_dir: Annotated[Path, AfterValidator(_absolute)] = Field(default=Path(".modelpilot"), validate_default=True)
    host: Host = "127.0.0.1"
    api_port: Port = 8080
    dashboard_host: Host = "127.0.0.1"
    dashboard_port: Port = 8050
    dashboard_login: Literal["auto", "always"] = "auto"
    dashboard_trusted_hosts: Names = ()
    dashboard_unprotected: bool = False
    cors_origins: Names = ()
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
    temporal_ui_url: str | None = None
    temporal_address: Annotated[str, AfterValidator(_host_and_port)] | None = None
    temporal_namespace: Annotated[str, Field(min_length=1)] = "default"
    temporal_api_key: SecretStr | None = None
    temporal_tls: bool = False
    temporal_tls_ca_file: Path | None = None
    temporal_tls_cert_file: Path | None = None
    temporal_tls_key_file: Path | None = None
    temporal_tls_server_name: str | None = None

    database_url: Annotated[Annotated[str, AfterValidator(_database_url)] | None, Field(repr=False)] = None
    milvus_uri: PrivateUrl = None
    milvus_token: SecretStr | None = None
    vector_deadline_ms: Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False)] = 25

    encryption_keys: Keys = ()
    result_retention_hours: Annotated[float, Field(gt=0, le=8760, allow_inf_nan=False)] = 24
    prompt_retention_days: Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)] = 30
    request_retention_days: Annotated[float, Field(ge=1, le=36_500, allow_inf_nan=False)] = 90
    export_url: PrivateUrl = None
    router_cache_seconds: Seconds = 300
    private_provider_hosts: Names = ()

    simulator_url: str | None = None
    # Two for each public kind of `modelpilot.providers.kinds`; their variables have no prefix.
    openai_api_key: SecretStr | None = _named(key_variable("openai"))
    anthropic_api_key: SecretStr | None = _named(key_variable("anthropic"))
    google_api_key: SecretStr | None = _named(key_variable("google"))
    openrouter_api_key: SecretStr | None = _named(key_variable("openrouter"))
    openai_base_url: str | None = _named(base_url_variable("openai"))
    anthropic_base_url: str | None = _named(base_url_variable("anthropic"))
    google_base_url: str | None = _named(base_url_variable("google"))
    openrouter_base_url: str | None = _named(base_url_variable("openrouter"))

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
        return f"http://{_client_host(self.dashboard_host)}:{self.dashboard_port}"

    @property
    def embedded_temporal_ui_url(self) -> str:
        """Where a browser on this machine reaches the Web UI of the embedded Temporal."""
        return f"http://{_client_host(self.temporal_ui_host)}:{self.temporal_ui_port}"


def _client_host(host: str) -> str:
    # A wildcard address is for listening; a client on this machine takes loopback.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared, not bound
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
    return problems


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


def _variable(field_name: str) -> str:
    return variable_name(field_name, Settings.model_fields[field_name])


def read_variables(directory: Path | None = None) -> dict[str, str]:
    """The process environment over the `.env` of `directory` (default: the working directory).

    Raises ConfigurationError where that file cannot be read."""
    path = (directory or Path.cwd()) / ".env"
    try:
        from_file = dotenv_values(path, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from error
    return {**{name: value for name, value in from_file.items() if value is not None}, **os.environ}


def load_settings(variables: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the configuration.

    `variables` replaces the environment and `.env` (for tests and for children's environments).
    Raises ConfigurationError, whose message names every variable that is wrong.
    """
    known = read_variables() if variables is None else variables
    try:
        return Settings(**SuffixedVariables(Settings, known)())
    except ValidationError as error:
        raise ConfigurationError(_readable(error, known)) from None  # the cause would print the rejected values


def _readable(error: ValidationError, variables: Mapping[str, str]) -> list[str]:
    problems: list[str] = []
    for detail in error.errors(include_input=False, include_url=False):
        message = detail["msg"].removeprefix("Value error, ")
        if not detail["loc"]:
            problems += message.split("\n")  # our own checks across settings name their variables themselves
            continue
        location = str(detail["loc"][0])
        name = _variable(location) if location in Settings.model_fields else location
        decided_by = chosen_variable(name, variables) or name
        problems.append(f"{decided_by}: {message[:1].lower()}{message[1:]}")
    return problems
