"""How management commands find the gateway, and what they say when something is in the way."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_NOT_REACHABLE, find_target
from infra.local import ports
from infra.settings import ConfigurationError, Settings
from tests.support.fake_gateway import FakeGateway, listing, refusal, running_gateway
from tests.support.processes import modelpilot

KEY = f"mp_{'5a' * 32}"


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with running_gateway() as running:
        monkeypatch.setenv("MODELPILOT_API_URL", running.url)
        monkeypatch.setenv("MODELPILOT_API_KEY", KEY)
        yield running


def test_the_key_comes_from_the_data_directory(tmp_path: Path) -> None:
    """Beside a running stack no variable has to be set."""
    (tmp_path / "admin.key").write_text(KEY + "\n")
    target = find_target(Settings(data_dir=tmp_path, api_port=8123), {})
    assert (target.url, target.key) == ("http://127.0.0.1:8123", KEY)
    assert KEY not in repr(target)


def test_the_variables_win(tmp_path: Path) -> None:
    """A gateway elsewhere is reached without touching the data directory."""
    given = {"MODELPILOT_API_KEY": KEY, "MODELPILOT_API_URL": "https://router.example/"}
    target = find_target(Settings(data_dir=tmp_path), given)
    assert (target.url, target.key) == ("https://router.example", KEY)


@pytest.mark.parametrize("content", [None, "not a key"])
def test_a_missing_key_is_a_configuration_error(tmp_path: Path, content: str | None) -> None:
    """The message names the file; what stands in it is not repeated."""
    if content is not None:
        (tmp_path / "admin.key").write_text(content)
    with pytest.raises(ConfigurationError, match=r"admin\.key") as raised:
        find_target(Settings(data_dir=tmp_path), {})
    assert "not a key" not in str(raised.value)


def test_an_address_without_a_scheme_is_a_configuration_error(tmp_path: Path) -> None:
    """The message shows what was given, and what lacks."""
    given = {"MODELPILOT_API_KEY": KEY, "MODELPILOT_API_URL": "127.0.0.1:8080"}
    with pytest.raises(ConfigurationError, match="http://"):
        find_target(Settings(data_dir=tmp_path), given)


def test_no_gateway_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forgot to start it learns how."""
    monkeypatch.setenv("MODELPILOT_API_URL", f"http://127.0.0.1:{ports.free_port()}")
    monkeypatch.setenv("MODELPILOT_API_KEY", KEY)
    result = modelpilot("keys", "list")
    assert result.exit_code == EXIT_NOT_REACHABLE
    assert "modelpilot up" in result.output


def test_a_refused_key_is_a_configuration_error(gateway: FakeGateway) -> None:
    """The message says where the key came from, and not what it is."""
    gateway.answers["GET /api/keys"] = refusal(401, "The API key is not valid.")
    result = modelpilot("keys", "list")
    assert result.exit_code == EXIT_CONFIGURATION
    assert "MODELPILOT_API_KEY" in result.output
    assert KEY not in result.output


def test_a_refusal_is_one_line_and_exit_code_1(gateway: FakeGateway) -> None:
    """The gateway's own sentence, without a stack trace."""
    gateway.answers["GET /api/keys/k"] = refusal(404, "API key 'k' does not exist")
    result = modelpilot("keys", "show", "k")
    assert (result.exit_code, result.output) == (EXIT_FAILED, "modelpilot: API key 'k' does not exist\n")


def test_every_page_of_a_list_is_read(gateway: FakeGateway) -> None:
    """A list with more than one page is shown whole."""
    gateway.answers["GET /api/models?limit=200"] = (200, {"items": [{"id": "a", "provider": "p"}], "nextCursor": "c/1"})
    gateway.answers["GET /api/models?limit=200&cursor=c%2F1"] = listing({"id": "b", "provider": "p"})
    result = modelpilot("models", "list", "--json")
    assert result.exit_code == 0, result.output
    assert '"a"' in result.output
    assert '"b"' in result.output
    assert gateway.keys == [f"Bearer {KEY}"] * 2
