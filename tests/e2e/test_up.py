"""`modelpilot up` as a newcomer meets it: it comes up, answers, keeps its data, and stops."""

import base64
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.support.installation import Installation, new_environment, running_installation
from tests.support.readme import snippets
from tests.support.world import wait_until

PROMPT = {"messages": [{"role": "user", "content": "What is 6 * 7?"}]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of the module's installation."""
    return tmp_path_factory.mktemp("installation") / "data"


@pytest.fixture(scope="module")
def installation(directory: Path) -> Iterator[Installation]:
    """One `modelpilot up` for the whole module."""
    with running_installation(directory) as running:
        yield running


def fetch(url: str, key: str | None = None, body: Any = None, origin: str | None = None) -> Any:
    """JSON of a GET, or of a POST where there is a body."""
    headers = {"content-type": "application/json"}
    headers |= {"authorization": f"Bearer {key}"} if key else {}
    headers |= {"origin": origin} if origin else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - our own URL
    with urllib.request.urlopen(request, timeout=60.0) as answer:  # noqa: S310 - our own URL
        return json.loads(answer.read())


def _is_there(url: str) -> bool:
    try:
        fetch(url)
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return False
    return True


def test_it_says_every_step_of_the_first_start_in_order(installation: Installation) -> None:
    """Each service's start and readiness with its time, what the first start made, and then the addresses."""
    said = installation.log.read_text()
    steps = [
        r"Starting ModelPilot\. Data is in .*data, ",
        r"keys +done: encryption keys: created, in .*encryption\.keys",
        r"postgres +starting",
        r"postgres +ready \(\d+\.\d s\)",
        r"migrate +starting",
        r"migrate +done \(\d+\.\d s\)",
        r" +schema: created",
        r" +catalogue: \d+ models added or changed",
        r" +admin key: created, in .*admin\.key",
        r" +router demo: created",
        r"gateway +starting",
        r"gateway +ready \(\d+\.\d s\)",
        r"ModelPilot is ready \(\d+\.\d s\)\.",
        r" +Simulator +http://127\.0\.0\.1:\d+",
        r"Stop with Ctrl-C\.",
    ]
    assert re.search("^" + "$(?s:.*?)^".join(f"{step}.*" for step in steps) + "$", said, re.MULTILINE), said
    for name in ("temporal", "milvus", "simulator", "closer", "worker", "dashboard"):
        assert re.search(rf"^{name} +starting$(?s:.*)^{name} +ready \(", said, re.MULTILINE), name


def test_the_simulator_is_where_it_was_said_to_be(installation: Installation) -> None:
    """docs/simulator.md sends its reader to the address that `up` prints."""
    found = re.search(r"Simulator +(http://\S+)", installation.log.read_text())
    assert found is not None
    assert fetch(f"{found[1]}/healthz") == {"status": "ok"}


def test_first_request_is_answered(installation: Installation) -> None:
    """A new user's first request to the demo router is routed without any provider key."""
    answer = fetch(f"{installation.api_url}/router/demo", installation.admin_key, PROMPT)
    assert "42" in answer["choices"][0]["message"]["content"]
    assert answer["modelpilot"]["selectedModel"].startswith("sim/")


def test_stock_sdk_works_unchanged(installation: Installation) -> None:
    """The `openai` SDK, pointed at us, chats and streams; a wrong key is its AuthenticationError."""
    client = openai.OpenAI(base_url=f"{installation.api_url}/v1", api_key=installation.admin_key)
    messages: Any = PROMPT["messages"]
    answer = client.chat.completions.create(model="router/demo", messages=messages)
    assert "42" in (answer.choices[0].message.content or "")
    chunks = list(client.chat.completions.create(model="router/demo", messages=messages, stream=True))
    assert "42" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "router/demo" in [model.id for model in client.models.list()]
    stranger = openai.OpenAI(base_url=f"{installation.api_url}/v1", api_key="mp_" + "0" * 64, max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.chat.completions.create(model="router/demo", messages=messages)


def test_readme_snippets_do_what_they_say(installation: Installation, tmp_path: Path) -> None:
    """Every bash block of the README runs, in the order of the page, and none answers with an error; a python block is
    saved as the page says, and the block behind it runs that file."""
    bash = shutil.which("bash") or "/bin/bash"
    places = {"program": str(Path(sys.executable).with_name("modelpilot")), "python": sys.executable}
    for snippet in snippets("bash", "python"):
        here = snippet.retargeted(api_url=installation.api_url, data_dir=str(installation.directory), **places)
        if here.language == "python":
            (tmp_path / str(here.file)).write_text(here.text)
            continue
        ran = subprocess.run(
            [bash, "-euo", "pipefail", "-c", here.text],
            env={**installation.environment, "GROQ_API_KEY": "your-key"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120.0,
            check=False,
        )
        assert ran.returncode == 0, f"README line {here.line}: {ran.stdout}{ran.stderr}"
        assert '"error"' not in ran.stdout, f"README line {here.line}: {ran.stdout}"
        if here.text.endswith("first.py\n"):
            assert re.search(r"84.*\nsim/", ran.stdout), ran.stdout


def test_demo_learns(installation: Installation) -> None:
    """`modelpilot demo` drives the demo router and runs each job once; then there are hourly metrics and revised
    qualities, and the next decisions use what was learnt instead of the catalogue's priors, and say so."""
    ran = installation.modelpilot("demo", "--count", "40", "--json")
    assert ran.returncode == 0, ran.stderr
    learning = json.loads(ran.stdout)["learning"]
    assert learning["jobs"] == {"rescore": "completed", "aggregate": "completed"}
    assert learning["ratings"] > 0

    def items(path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = fetch(f"{installation.api_url}/api/{path}", installation.admin_key)["items"]
        return found

    assert sum(item["requests"] for item in items("analytics/hourly?routerId=demo")) >= 40
    rated = [item for item in items("analytics/requests?routerId=demo&limit=100") if item["quality"] is not None]
    assert any("feedback" in (item["qualitySource"] or "") for item in rated)
    priors = {model["id"]: model["qualityScore"] for model in items("models?limit=200")}
    # The gateway's copy of the history has revised qualities with its next refresh.
    wait_until(lambda: bool(_learnt(installation, priors)), "no decision uses what was learnt")


def _learnt(installation: Installation, priors: dict[str, float]) -> list[dict[str, Any]]:
    """Candidates of the next decision whose quality comes from neighbours with known qualities, and not the prior."""
    decision = fetch(f"{installation.api_url}/router/demo/explain", installation.admin_key, PROMPT)["decision"]
    known = {each["model"] for each in decision["neighbours"] if each["quality"] is not None}
    return [
        each
        for each in decision["candidates"]
        if each["model"] in known and each["evidence"] > 0 and each["quality"]["raw"] != priors[each["model"]]
    ]


def test_explain_fits_into_a_terminal(installation: Installation) -> None:
    """Real decisions, before and after something was learnt, are at most 100 characters wide."""
    ran = installation.modelpilot("explain", "Translate good morning into French")
    assert ran.returncode == 0, ran.stderr
    assert max(map(len, ran.stdout.splitlines())) <= 100, ran.stdout
    assert re.match(r"sim/\w+ is chosen: of 3 models that can serve this prompt it has the highest total\.", ran.stdout)


def test_doctor_finds_nothing_wrong(installation: Installation) -> None:
    """`modelpilot doctor` in another terminal finds the running installation healthy."""
    ran = installation.modelpilot("doctor")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_web_ui_shows_decoded_payloads(installation: Installation) -> None:
    """The Temporal Web UI is served, knows the codec endpoint, and that decodes for exactly the UI's origin."""
    answer = fetch(f"{installation.api_url}/router/demo", installation.admin_key, PROMPT)
    ui = f"http://127.0.0.1:{installation.environment['MODELPILOT_TEMPORAL_UI_PORT']}"
    settings = fetch(f"{ui}/api/v1/settings")
    assert settings["Codec"]["Endpoint"] == f"{installation.api_url}/codec"
    workflow = urllib.parse.quote(answer["modelpilot"]["workflowId"], safe="")
    history = f"{ui}/api/v1/namespaces/default/workflows/{workflow}/history"
    wait_until(lambda: _is_there(history), "the request has no workflow")
    event = fetch(history)["history"]["events"][0]
    payloads = event["workflowExecutionStartedEventAttributes"]["input"]
    decoded = fetch(f"{installation.api_url}/codec/decode", body=payloads, origin=ui)["payloads"][0]
    assert b"6 * 7" in base64.b64decode(decoded["data"])
    with pytest.raises(urllib.error.HTTPError, match="401"):
        fetch(f"{installation.api_url}/codec/decode", body=payloads, origin="http://evil.example")


def test_second_start_is_refused(installation: Installation) -> None:
    """Two installations never share a data directory: the second start says who has it, and leaves it alone."""
    second = installation.modelpilot("up", timeout_s=30.0)
    assert second.returncode == 1
    assert str(installation.process.pid) in second.stderr
    fetch(f"{installation.api_url}/readyz")


def test_crashed_gateway_is_restarted(installation: Installation) -> None:
    """The supervisor starts a killed child again."""
    children = psutil.Process(installation.process.pid).children()
    gateway = next(child for child in children if "gateway" in child.cmdline())
    gateway.kill()
    wait_until(lambda: _answered(installation), "the gateway did not come back")


def _answered(installation: Installation) -> bool:
    try:
        return bool(fetch(f"{installation.api_url}/router/demo", installation.admin_key, PROMPT))
    except OSError:
        return False


def test_interrupt_stops_everything_and_a_second_start_finds_all_data(tmp_path: Path) -> None:
    """Ctrl-C ends with exit code 0 and no child left; the next start has the same key, row and workflow."""
    directory = tmp_path / "data"
    environment = new_environment(directory)
    with running_installation(directory, environment) as first:
        key = first.admin_key
        answer = fetch(f"{first.api_url}/router/demo", key, PROMPT)
        children = psutil.Process(first.process.pid).children()
        assert len(children) >= 7
        assert first.interrupt() == 0
        assert not [child for child in children if child.is_running()]
    with running_installation(directory, environment) as second:
        assert second.admin_key == key
        view = fetch(f"{second.api_url}/v1/requests/{answer['modelpilot']['requestId']}", key)
        assert view["status"] == "completed"
        assert view["answer"]["choices"] == answer["choices"]
        fetch(f"{second.api_url}/router/demo", key, PROMPT)


def test_console_script_is_installed() -> None:
    """`.venv/bin/modelpilot` exists, lists its commands, and a command has help of its own."""
    script = Path(sys.executable).with_name("modelpilot")
    listed = subprocess.run([script, "--help"], capture_output=True, text=True, check=True).stdout
    for command in ("up", "gateway", "worker", "dashboard", "simulator", "migrate", "doctor", "demo", "keys"):
        assert command in listed
    subprocess.run([script, "explain", "--help"], capture_output=True, check=True)
