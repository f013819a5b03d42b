"""Configuration: what is read, what wins, and what is refused with the name of its variable."""

import base64
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from infra.settings import ConfigurationError, Settings, load_settings, read_variables, unknown_variables, variable_name

DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`|([^|`]*)) \|", re.MULTILINE)
KEY = base64.b64encode(bytes(range(32))).decode()
PRODUCTION = {
    "MODELPILOT_ENV": "production",
    "MODELPILOT_DATABASE_URL": "postgresql://user:password@db/modelpilot",
    "MODELPILOT_TEMPORAL_ADDRESS": "temporal:7233",
    "MODELPILOT_MILVUS_URI": "http://milvus:19530",
    "MODELPILOT_ENCRYPTION_KEYS": KEY,
}


def problems(variables: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(variables)
    return caught.value.problems


def documented() -> dict[str, str | None]:
    return {name: value or None for name, value, _ in ROW.findall(DOCUMENT.read_text(encoding="utf-8"))}


def as_text(value: Any) -> str | None:
    if value in (None, (), PydanticUndefined):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_is_documented_with_its_default_and_nothing_else_is() -> None:
    """A setting that the documentation lacks, or a default that it states wrongly, fails the build."""
    settings = {variable_name(name, field): as_text(field.default) for name, field in Settings.model_fields.items()}
    assert documented() == settings


def test_defaults_are_those_of_the_product() -> None:
    """An empty environment gives a working development configuration on loopback."""
    settings = load_settings({})
    assert (settings.host, settings.api_port, settings.dashboard_port) == ("127.0.0.1", 8080, 8050)
    assert settings.data_dir == Path.cwd() / ".modelpilot"
    assert settings.database_url is None
    assert not settings.production


def test_a_bare_settings_object_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only `load_settings` reads the environment, so that nothing depends on who constructs the object."""
    monkeypatch.setenv("MODELPILOT_API_PORT", "9999")
    assert Settings().api_port == 8080


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"MODELPILOT_API_PORT": "1000"}, 1000),
        ({"MODELPILOT_API_PORT": "1000", "MODELPILOT_API_PORT_DEV": "2000"}, 2000),
        ({"MODELPILOT_API_PORT": "1000", "MODELPILOT_API_PORT_PROD": "3000"}, 1000),
        ({**PRODUCTION, "MODELPILOT_API_PORT": "1000", "MODELPILOT_API_PORT_PROD": "3000"}, 3000),
        ({**PRODUCTION, "MODELPILOT_API_PORT_DEV": "2000"}, 8080),
        ({"MODELPILOT_API_PORT": "1000", "MODELPILOT_API_PORT_DEV": ""}, 1000),
    ],
)
def test_the_suffix_of_the_environment_wins(variables: dict[str, str], expected: int) -> None:
    """`_DEV` and `_PROD` decide in their environment, are ignored in the other, and an empty one is none."""
    assert load_settings(variables).api_port == expected


def test_provider_keys_have_no_prefix_and_take_suffixes() -> None:
    """The variables that every provider's own tools use work, for each environment."""
    settings = load_settings({"OPENAI_API_KEY": "plain", "OPENAI_API_KEY_DEV": "for-development"})
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "for-development"


def test_lists_are_split_at_commas() -> None:
    """`a, b` are two values, also with spaces and a trailing comma."""
    assert load_settings({"MODELPILOT_CORS_ORIGINS": "http://a, http://b,"}).cors_origins == ("http://a", "http://b")


def test_env_file_yields_to_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.env` fills what the environment lacks, and dollar signs in it are literal."""
    (tmp_path / ".env").write_text("MODELPILOT_API_PORT=1\nMODELPILOT_MILVUS_TOKEN=a$HOME\n", encoding="utf-8")
    monkeypatch.setenv("MODELPILOT_API_PORT", "2")
    variables = read_variables(tmp_path)
    assert variables["MODELPILOT_API_PORT"] == "2"
    assert variables["MODELPILOT_MILVUS_TOKEN"] == "a$HOME"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"MODELPILOT_API_PORT": "http"}, "MODELPILOT_API_PORT:"),
        ({"MODELPILOT_API_PORT_DEV": "0"}, "MODELPILOT_API_PORT_DEV:"),
        ({"MODELPILOT_ENV": "prod"}, "MODELPILOT_ENV:"),
        ({"MODELPILOT_HOST": "not an address"}, "MODELPILOT_HOST:"),
        ({"MODELPILOT_DRAIN_SECONDS": "nan"}, "MODELPILOT_DRAIN_SECONDS:"),
        ({"MODELPILOT_MAX_BODY_MB": "-1"}, "MODELPILOT_MAX_BODY_MB:"),
        ({"MODELPILOT_MAX_BODIES_MB": "19"}, "MODELPILOT_MAX_BODIES_MB:"),
        ({"MODELPILOT_MAX_WAITING": "0"}, "MODELPILOT_MAX_WAITING:"),
        ({"MODELPILOT_MAX_BACKLOG": "0"}, "MODELPILOT_MAX_BACKLOG:"),
        ({"MODELPILOT_KEEP_ALIVE_SECONDS": "0"}, "MODELPILOT_KEEP_ALIVE_SECONDS:"),
        ({"MODELPILOT_ENCRYPTION_KEYS": "short"}, "MODELPILOT_ENCRYPTION_KEYS:"),
        ({"MODELPILOT_DASHBOARD_PORT": "8080"}, "MODELPILOT_DASHBOARD_PORT:"),
        ({"MODELPILOT_LEASE_SECONDS": "4"}, "MODELPILOT_LEASE_SECONDS:"),
        ({"MODELPILOT_TEMPORAL_TLS_KEY_FILE": "key.pem"}, "MODELPILOT_TEMPORAL_TLS_CERT_FILE and"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variables: dict[str, str], named: str) -> None:
    """Whoever made the mistake reads which variable to correct."""
    assert [p for p in problems(variables) if p.startswith(named)]


def test_all_problems_are_reported_at_once() -> None:
    """Three mistakes take one start to find, not three."""
    found = problems({"MODELPILOT_API_PORT": "x", "MODELPILOT_HOST": "?", "MODELPILOT_DEBUG": "perhaps"})
    assert len(found) == 3


@pytest.mark.parametrize("missing", [name for name in PRODUCTION if name != "MODELPILOT_ENV"])
def test_production_needs_every_real_service(missing: str) -> None:
    """Production never falls back to an embedded service or a generated key by mistake."""
    variables = {name: value for name, value in PRODUCTION.items() if name != missing}
    assert [p for p in problems(variables) if p.startswith(f"{missing}: is required in production")]


def test_production_may_be_embedded_when_asked_for() -> None:
    """One machine in production is a choice that has to be made in words."""
    assert load_settings({"MODELPILOT_ENV": "production", "MODELPILOT_ALLOW_EMBEDDED": "true"}).production


@pytest.mark.parametrize(
    "variables",
    [
        {"MODELPILOT_DEBUG": "true"},
        {"MODELPILOT_ENCRYPTION_KEYS": base64.b64encode(b"a" * 32).decode()},
        {"MODELPILOT_ENCRYPTION_KEYS": base64.b64encode(b"0123456701234567" * 2).decode()},
    ],
)
def test_production_refuses_debug_and_sample_secrets(variables: dict[str, str]) -> None:
    """What a tutorial may use must not reach production."""
    [problem] = problems({**PRODUCTION, **variables})
    assert problem.startswith(next(iter(variables)))


def test_secrets_do_not_show() -> None:
    """Neither repr() nor a message about a wrong value prints a secret or an address with a password."""
    canary = "canary" + secrets.token_hex(8)
    settings = load_settings({**PRODUCTION, "OPENAI_API_KEY": canary, "MODELPILOT_MILVUS_TOKEN": canary})
    assert not [secret for secret in (canary, KEY, "password") if secret in repr(settings)]
    assert canary not in str(problems({"MODELPILOT_ENCRYPTION_KEYS": canary, "MODELPILOT_API_PORT": canary}))


def test_settings_cannot_be_changed() -> None:
    """One object is shared by everything in a process."""
    with pytest.raises(ValueError, match="frozen"):
        load_settings({}).api_port = 1  # type: ignore[misc]


def test_a_wildcard_address_is_reached_over_loopback() -> None:
    """URLs that are printed or probed must be ones that a client can open."""
    assert load_settings({"MODELPILOT_HOST": "0.0.0.0"}).api_url == "http://127.0.0.1:8080"  # noqa: S104
    assert load_settings({"MODELPILOT_HOST": "::"}).api_url == "http://[::1]:8080"


def test_a_misspelled_variable_is_pointed_out() -> None:
    """A typing error in a name would otherwise be a setting that silently does nothing."""
    variables = {"MODELPILOT_API_PROT": "1", "MODELPILOT_API_PORT_PROD": "1", "HOME": "/"}
    [warning] = unknown_variables(Settings, variables)
    assert warning == "MODELPILOT_API_PROT is not a setting; did you mean MODELPILOT_API_PORT?"
