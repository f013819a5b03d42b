"""Whatever is wrong around a command, it says so in a few lines with an exit code that means something."""

import base64
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from cli import main
from cli.client import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_NOT_REACHABLE
from infra.local import ports
from tests.support.fake_gateway import FakeGateway, refusal, running_gateway

KEY = f"mp_{'5a' * 32}"
MOST_LINES = 4
# One call of every command that talks to the gateway.
COMMANDS = {
    "keys create": [],
    "keys list": [],
    "keys show": ["k"],
    "keys revoke": ["k"],
    "keys rotate": ["k"],
    "routers list": [],
    "routers show": ["r"],
    "routers create": ["r", "--model", "m"],
    "routers delete": ["r"],
    "routers versions": ["r"],
    "routers rollback": ["r", "1"],
    "routers apply": ["-f", "file.yaml"],
    "routers predictor": ["r"],
    "routers refit": ["r"],
    "routers replay": ["r"],
    "models list": [],
    "models show": ["m"],
    "models put": ["-f", "file.yaml"],
    "models delete": ["m"],
    "providers list": [],
    "providers show": ["p"],
    "providers put": ["p", "--kind", "openai"],
    "providers apply": ["-f", "file.yaml"],
    "providers delete": ["p"],
    "jobs aggregate": ["--wait"],
    "jobs rescore": ["--wait"],
    "jobs list": [],
    "jobs show": ["j"],
    "jobs pause": ["j"],
    "jobs resume": ["j"],
    "jobs cancel": ["j"],
    "requests delete": ["req_1"],
    "users erase": ["ann", "--wait"],
    "feedback": ["req_1", "0.5"],
    "explain": ["Hello"],
    "demo": ["--count", "2"],
}
# These need services, and not the gateway.
IN_THE_DATABASE = {
    "users list": [],
    "users add": ["ann", "--admin", "--password-stdin"],
    "users passwd": ["ann", "--password-stdin"],
    "users disable": ["ann"],
    "users enable": ["ann"],
    "users delete": ["ann"],
    "requests show": ["req_1"],
    "requests close": ["req_1"],
    "keys create": ["--admin"],
    "migrate": [],
    "gateway": [],
    "closer": [],
    "worker": [],
    "dashboard": [],
}
Run = Callable[..., tuple[int, str, str]]


def crossed(commands: Iterable[str], first: str, *others: str) -> list[tuple[str, str]]:
    """Every command with the first trouble, and one with each of the others: there the way is the same for all."""
    one, *more = commands
    return [*((command, first) for command in (one, *more)), *((one, other) for other in others)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Runs a command in an empty directory; exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.yaml").write_text("id: x\navailableModels: [m]\n")
    for name in ("API_KEY", "API_URL", "DATABASE_URL", "TEMPORAL_ADDRESS", "MILVUS_URI", "ENCRYPTION_KEYS"):
        monkeypatch.delenv(f"MODELPILOT_{name}", raising=False)
    monkeypatch.setenv("MODELPILOT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("MODELPILOT_API_PORT", str(ports.free_port()))

    def call(command: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["modelpilot", *command.split(), *arguments])
        with pytest.raises(SystemExit) as caught:
            main.main()
        said = capsys.readouterr()
        return int(caught.value.code or 0), said.out, said.err

    return call


@pytest.fixture(scope="module")
def server() -> Iterator[FakeGateway]:
    """One for all tests here, of which there are hundreds."""
    with running_gateway() as running:
        yield running


@pytest.fixture
def gateway(server: FakeGateway, monkeypatch: pytest.MonkeyPatch, run: Run) -> FakeGateway:
    """A gateway that answers what a test tells it to, with a key for it."""
    server.every, server.raw = None, None
    server.calls.clear()
    monkeypatch.setenv("MODELPILOT_API_URL", server.url)
    monkeypatch.setenv("MODELPILOT_API_KEY", KEY)
    return server


def is_said(err: str) -> None:
    """A few sentences of ours, and no traceback."""
    lines = err.splitlines()
    assert 1 <= len(lines) <= MOST_LINES, err
    assert all(line.startswith("modelpilot: ") for line in lines), err
    assert "unexpected" not in err, err
    assert KEY not in err


def test_every_command_is_tried() -> None:
    """A new command fails here until it has a line above."""
    gateway_groups = ("keys", "routers", "models", "providers", "jobs", "feedback", "explain", "demo")
    found = set()
    for name in (*gateway_groups, "users", "requests"):
        command: Any = main.load_command(name)
        found |= {f"{name} {sub}" for sub in command.commands} if isinstance(command, TyperGroup) else {name}
    alone = {"migrate", "gateway", "closer", "worker", "dashboard"}
    assert found == (set(COMMANDS) | set(IN_THE_DATABASE)) - alone
    untried = {"up", "simulator", "doctor", "bench"}  # they need nothing, and have tests of their own
    assert {name.split()[0] for name in found} | alone | untried == set(main.COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_data_directory(run: Run, command: str) -> None:
    """Before the first start there is no key: the sentence says how to get one."""
    code, _, err = run(command, *COMMANDS[command])
    assert code == EXIT_CONFIGURATION
    is_said(err)
    assert "modelpilot up" in err


@pytest.mark.parametrize(("command", "broken"), crossed(COMMANDS, "directory", "other content", "no directory"))
def test_an_unreadable_key(run: Run, tmp_path: Path, command: str, broken: str) -> None:
    """The file is named."""
    data = tmp_path / "data"
    if broken == "no directory":
        data.touch()
    else:
        data.mkdir()
        key = data / "admin.key"
        key.mkdir() if broken == "directory" else key.write_bytes(b"\xff\xfe")
    code, _, err = run(command, *COMMANDS[command])
    assert code == EXIT_CONFIGURATION
    is_said(err)
    assert "admin.key" in err


@pytest.mark.parametrize(
    ("command", "url"), crossed(COMMANDS, "127.0.0.1:8080", "http://127.0.0.1:port", "http://[::1", "https://")
)
def test_an_address_that_is_none(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, url: str) -> None:
    """The variable is named, and what is lacking."""
    monkeypatch.setenv("MODELPILOT_API_URL", url)
    monkeypatch.setenv("MODELPILOT_API_KEY", KEY)
    code, _, err = run(command, *COMMANDS[command])
    assert code == EXIT_CONFIGURATION
    is_said(err)
    assert "MODELPILOT_API_URL" in err
    assert "http://" in err


@pytest.mark.parametrize("command", COMMANDS)
def test_no_gateway(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Exit code 3, and how to start it."""
    monkeypatch.setenv("MODELPILOT_API_KEY", KEY)
    code, _, err = run(command, *COMMANDS[command])
    assert code == EXIT_NOT_REACHABLE
    is_said(err)
    assert "modelpilot up" in err


@pytest.mark.parametrize(("command", "body"), crossed(COMMANDS, "<html>Welcome</html>", "[]", "", "[" * 100_000))
def test_something_else_than_a_gateway(run: Run, gateway: FakeGateway, command: str, body: str) -> None:
    """Another server at that address: its page is not shown, and the variable with the address is named."""
    gateway.raw = body
    code, out, err = run(command, *COMMANDS[command])
    assert code == EXIT_NOT_REACHABLE
    is_said(err)
    assert "MODELPILOT_API_URL" in err
    assert "Welcome" not in out + err


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("body", ["{}", '{"items": [1], "nextCursor": 5}'])
def test_json_of_another_server(run: Run, gateway: FakeGateway, command: str, body: str) -> None:
    """What lacks the fields that a command shows is no ModelPilot; a command that needs none of them may succeed."""
    gateway.raw = body
    code, _, err = run(command, *COMMANDS[command])
    assert code in (0, EXIT_NOT_REACHABLE), err
    if code:
        is_said(err)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(("status", "expected"), [(401, EXIT_CONFIGURATION), (403, EXIT_FAILED), (503, EXIT_FAILED)])
def test_a_refusal(run: Run, gateway: FakeGateway, command: str, status: int, expected: int) -> None:
    """The gateway's own sentence; for a wrong key also where it came from."""
    gateway.every = refusal(status, "That may not be.")
    code, out, err = run(command, *COMMANDS[command])
    assert code == expected
    assert "That may not be." in err
    assert not out
    is_said(err)
    assert (status == 401) == ("MODELPILOT_API_KEY" in err)


@pytest.mark.parametrize("command", [name for name in COMMANDS if "file.yaml" in COMMANDS[name]])
@pytest.mark.parametrize(
    "content",
    [
        b"a: [",
        b"\xff\xfe\xff",
        b"",
        b"- 5",
        b"id: 5",
        b"!!python/name:os.x y",
        b"? [a]\n: b",
        b"[" * 1_000,
        None,
    ],
)
def test_a_broken_file(run: Run, gateway: FakeGateway, tmp_path: Path, command: str, content: bytes | None) -> None:
    """The file is named, and nothing is sent."""
    path = tmp_path / "file.yaml"
    path.unlink()
    path.mkdir() if content is None else path.write_bytes(content)
    code, _, err = run(command, *COMMANDS[command])
    assert code == EXIT_CONFIGURATION
    is_said(err)
    assert "file.yaml" in err
    assert gateway.calls == []


def test_dates_in_a_file_stay_texts(run: Run, gateway: FakeGateway, tmp_path: Path) -> None:
    """YAML reads a date where somebody named a model after one."""
    (tmp_path / "file.yaml").write_text("id: 'm'\nproviderModel: 2026-11-22\n")
    gateway.every = lambda body: (200, body)
    assert run("models put", "-f", "file.yaml")[0] == 0
    assert gateway.calls[0][1] == {"id": "m", "providerModel": "2026-11-22"}


@pytest.mark.parametrize("command", IN_THE_DATABASE)
def test_no_services(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """A process or command that needs Postgres or Temporal says which setting names it, or how to start it."""
    monkeypatch.setattr("cli.users._new_password", lambda _: "a long enough password")
    code, _, err = run(command, *IN_THE_DATABASE[command])
    assert code == EXIT_CONFIGURATION
    is_said(err)
    assert "MODELPILOT_DATABASE_URL" in err
    assert "up`" in err


@pytest.mark.parametrize(
    ("command", "setting"),
    crossed(
        ["doctor", "up", *COMMANDS, *IN_THE_DATABASE],
        "API_PORT=http",
        "DATABASE_URL=localhost",
        "TEMPORAL_ADDRESS=http://t:7233",
    ),
)
def test_an_invalid_setting(run: Run, monkeypatch: pytest.MonkeyPatch, command: str, setting: str) -> None:
    """It is named; `doctor` shows it as a line of its own."""
    name, _, value = setting.partition("=")
    monkeypatch.setenv(f"MODELPILOT_{name}", value)
    monkeypatch.setattr("cli.users._new_password", lambda _: "a long enough password")
    code, out, err = run(command, *{**COMMANDS, **IN_THE_DATABASE}.get(command, []))
    assert code == EXIT_CONFIGURATION
    if command == "doctor":
        assert f"fail  settings            MODELPILOT_{name}: " in out
    else:
        is_said(err)
        assert f"MODELPILOT_{name}: " in err


def test_a_broken_env_file(run: Run, tmp_path: Path) -> None:
    """`.env` is read by every command."""
    (tmp_path / ".env").write_bytes(b"A=\xff\xfe\n")
    code, _, err = run("models list")
    assert code == EXIT_CONFIGURATION
    is_said(err)
    assert ".env" in err


@pytest.mark.parametrize("at", ["command", "import"])
def test_an_interrupt_is_exit_code_130(run: Run, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Ctrl-C in the middle of a command, or while it loads, ends it without a word."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.models.connect" if at == "command" else "importlib.import_module", interrupted)
    assert run("models list") == (main.EXIT_INTERRUPTED, "", "")


def test_a_defect_is_told_without_its_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who meets it learns what to report, and where the traceback is."""

    def broken() -> Any:
        raise LookupError("no such thing")

    monkeypatch.setattr("cli.models.connect", broken)
    code, _, err = run("models list")
    assert code == EXIT_FAILED
    assert "Traceback" not in err
    said, where = err.splitlines()
    assert said == "modelpilot: unexpected LookupError: no such thing"
    details = Path(where.rpartition(" ")[2])
    assert "Traceback" in details.read_text()
    details.unlink()


def test_a_failed_system_call_names_its_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk or a missing right is no defect of ours."""

    def broken() -> Any:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("cli.models.connect", broken)
    assert run("models list") == (EXIT_FAILED, "", "modelpilot: /some/file: Permission denied\n")


@pytest.mark.parametrize("arguments", [["models", "nonsense"], ["explain"], ["feedback", "x", "two"], ["nonsense"]])
def test_wrong_usage(run: Run, arguments: list[str]) -> None:
    """Exit code 2, and what was expected."""
    code, out, err = run(*arguments)
    assert (code, out) == (EXIT_CONFIGURATION, "")
    assert "Error: " in err
    assert isinstance(main.app, typer.Typer)


@pytest.mark.parametrize("command", ["up", "migrate", "gateway", "closer", "worker", "dashboard"])
@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_data_directory_that_cannot_be(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, place: str
) -> None:
    """Told before anything is waited for, with the variable that names another one."""
    (tmp_path / "file").touch()
    services = {
        "DATABASE_URL": "postgresql://u@127.0.0.1:9/x",
        "TEMPORAL_ADDRESS": "127.0.0.1:9",
        "MILVUS_URI": "http://127.0.0.1:9",
        "SIMULATOR_URL": "http://127.0.0.1:9",
        "ENCRYPTION_KEYS": base64.b64encode(bytes(range(32))).decode(),
        "DATA_DIR": str(tmp_path / "file" if place == "a file" else tmp_path / "file" / "data"),
    }
    for name, value in services.items():
        monkeypatch.setenv(f"MODELPILOT_{name}", value)
    code, _, err = run(command)
    assert (code, err) == (
        EXIT_CONFIGURATION,
        f"modelpilot: MODELPILOT_DATA_DIR: {tmp_path / 'file'} is no directory\n",
    )


def test_a_misspelled_variable_is_said_by_every_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is no reason not to work."""
    monkeypatch.setenv("MODELPILOT_API_PROT", "1")
    code, _, err = run("keys list")
    assert code == EXIT_CONFIGURATION  # there is no key here
    assert "modelpilot: MODELPILOT_API_PROT is not a setting; did you mean MODELPILOT_API_PORT?\n" in err
