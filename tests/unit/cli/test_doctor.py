"""`modelpilot doctor`: what is wrong is told with what to do about it, and fails the command."""

import json
import socket
from pathlib import Path

import pytest

from cli import doctor
from cli.doctor import Check, data_dir, key_files, port_checks, provider_keys, python_version, settings_are_known
from infra.local import ports
from infra.local.data_dir import DataDir
from infra.settings import Settings
from tests.support.fake_gateway import FakeGateway, running_gateway
from tests.support.processes import modelpilot


def statuses(*checks: Check) -> list[str]:
    return [check.status for check in checks]


def test_an_old_python_fails() -> None:
    """The lowest version is 3.11."""
    assert statuses(python_version((3, 10, 9)), python_version((3, 11, 0))) == ["fail", "ok"]


def test_a_typing_error_in_a_variable_is_a_warning(tmp_path: Path) -> None:
    """A setting that nothing reads is pointed at; the client's own variables are none."""
    variables = {"MODELPILOT_API_PROT": "1", "MODELPILOT_API_KEY": "x", "MODELPILOT_API_URL": "x"}
    found = list(settings_are_known(Settings(data_dir=tmp_path), variables))
    assert statuses(*found) == ["ok", "warn"]
    assert "MODELPILOT_API_PORT" in found[1].detail


def test_a_fresh_checkout_is_fine(tmp_path: Path) -> None:
    """Before the first start nothing is there, and nothing is wrong."""
    settings = Settings(data_dir=tmp_path / "new")
    data = DataDir(settings.data_dir)
    assert statuses(data_dir(data), *key_files(settings, data)) == ["ok", "ok", "ok"]


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o640, "fail"), (0o604, "fail")])
def test_a_key_that_others_may_read_fails(tmp_path: Path, mode: int, status: str) -> None:
    """Its value must not be in the line."""
    path = DataDir(tmp_path).admin_key
    path.write_text("mp_secret")
    path.chmod(mode)
    check = next(key_files(Settings(data_dir=tmp_path), DataDir(tmp_path)))
    assert check.status == status
    assert "mp_secret" not in doctor.line(check)


def test_lost_keys_are_a_warning_with_a_way_out(tmp_path: Path) -> None:
    """After the first start a missing admin key can be replaced."""
    data = DataDir(tmp_path)
    data.create()
    admin, encryption = key_files(Settings(data_dir=tmp_path), data)
    assert statuses(admin, encryption) == ["warn", "warn"]
    assert "keys create --admin" in admin.advice


def test_a_data_directory_that_others_may_write_fails(tmp_path: Path) -> None:
    """Who can write there can replace the keys."""
    tmp_path.chmod(0o777)
    assert data_dir(DataDir(tmp_path)).status == "fail"


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Each port comes with the variable that moves it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = Settings(data_dir=tmp_path, api_port=port, dashboard_port=ports.free_port())
        found = {check.name: check for check in port_checks(settings, DataDir(tmp_path))}
    assert found[f"port {port}"].status == "warn"
    assert "MODELPILOT_API_PORT" in found[f"port {port}"].advice
    assert found[f"port {settings.dashboard_port}"].status == "ok"


def test_provider_keys_are_named_and_not_shown() -> None:
    """Their values stay out of the output."""
    assert provider_keys(Settings()).status == "warn"
    with_key = provider_keys(Settings.model_validate({"OPENAI_API_KEY": "sk-secret"}))
    assert (with_key.status, with_key.detail) == ("ok", "openai")


def at(gateway: FakeGateway) -> Settings:
    return Settings(api_port=int(gateway.url.rpartition(":")[2]))


@pytest.mark.parametrize(
    ("http_status", "state", "status"), [(200, "ready", "ok"), (200, "degraded", "warn"), (503, "unready", "fail")]
)
def test_readiness_is_told_with_what_is_down(http_status: int, state: str, status: str) -> None:
    """Degraded is a warning, unready a failure, and the service is named."""
    down = {"milvus": {"status": "down" if state != "ready" else "up", "required": False}}
    with running_gateway() as gateway:
        gateway.answers["GET /readyz"] = (http_status, {"status": state, "dependencies": down})
        check = doctor.gateway(at(gateway))
    assert check.status == status
    assert ("without milvus" in check.detail) == (state != "ready")


def test_wrong_settings_are_a_failed_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a stack trace, and nothing else is guessed from settings that do not hold."""
    monkeypatch.setenv("MODELPILOT_API_PORT", "http")
    result = modelpilot("doctor", "--json")
    assert result.exit_code == 2
    assert [(one["name"], one["status"]) for one in json.loads(result.stdout)] == [
        ("python", "ok"),
        ("settings", "fail"),
    ]


def test_absent_services_fail_with_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Given addresses at which nothing answers are failures; passwords in them are not printed."""
    nowhere = f"127.0.0.1:{ports.free_port()}"
    for name, value in {
        "DATA_DIR": str(tmp_path),
        "API_PORT": str(ports.free_port()),
        "DATABASE_URL": f"postgresql://u:hidden@{nowhere}/x",
        "TEMPORAL_ADDRESS": nowhere,
        "MILVUS_URI": f"http://{nowhere}",
    }.items():
        monkeypatch.setenv(f"MODELPILOT_{name}", value)
    result = modelpilot("doctor")
    assert result.exit_code == 1
    failed = [line.split()[1] for line in result.stdout.splitlines() if line.startswith("fail")]
    assert failed == ["postgres", "temporal", "milvus"]
    assert "hidden" not in result.output
