"""`make clients`: real clients, with nothing changed but base URL and key, against a gateway over the simulator.

`python -m tests.clients [NAME ...]` installs each client of clients.toml (or those named) into an environment of its
own, runs its program, and writes what worked into docs/clients.md. It ends with 1 if something did not.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

from tests.clients import report
from tests.clients.environments import Client, InstallError, client_of, installed, path_of
from tests.clients.site import Site
from tests.support.world import running_world

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "clients.md"
RUN_TIMEOUT_S = 600.0

Results = dict[str, Mapping[str, str]]


def clients() -> dict[str, Client]:
    """Every client of the table, by name."""
    rows = tomllib.loads(Path(__file__).with_name("clients.toml").read_text(encoding="utf-8"))
    return {name: client_of(name, row) for name, row in rows.items()}


def main() -> int:
    """Run it; the exit code."""
    known = clients()
    options = _options(known)
    chosen = [known[name] for name in options.clients or known]
    options.cache.mkdir(parents=True, exist_ok=True)
    table = report.read(DOCUMENT.read_text(encoding="utf-8"))
    with (
        tempfile.TemporaryDirectory(prefix="modelpilot-clients-") as made,
        running_world(Path(made)) as world,
        world.gateway() as gateway,
    ):
        site = Site(world, gateway)
        site.prepare()
        for client in chosen:
            table[client.title] = _row(client, _tried(client, site, options.cache))
    order = [client.title for client in known.values()]
    DOCUMENT.write_text(report.written(DOCUMENT.read_text(encoding="utf-8"), table, order), encoding="utf-8")
    failed = [client.name for client in chosen if report.fails(table[client.title])]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} clients work", *failed)
    return 1 if failed else 0


def _options(known: Mapping[str, Client]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("clients", nargs="*", metavar="NAME", help=f"of {', '.join(known)}; none: all")
    parser.add_argument("--cache", type=Path, default=ROOT / ".modelpilot-clients", help="where environments are kept")
    options = parser.parse_args()
    if unknown := set(options.clients) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def _tried(client: Client, site: Site, cache: Path) -> Results:
    print(client.name, flush=True)
    try:
        command = installed(client, cache)
    except InstallError as error:
        print(error)
        return {"chat": {"failure": f"not installed: {error}"}}
    visitor = site.admit(client.name)
    results = _run(command, site, visitor.key, path_of(client, cache))
    for feature, check in (("tools", site.check_turns), ("cancel", site.check_canceled)):
        if results.get(feature) == {} and (wrong := check(visitor)):
            results[feature] = {"failure": wrong}
    for feature, result in results.items():
        if "failure" in result:
            print(f"{client.name}: {feature}: {result['failure']}\n{result.get('trace', '')[-700:]}")
    return results


def _run(command: tuple[str, ...], site: Site, key: str, path: str) -> Results:
    """The lines that the program prints, by feature."""
    names = ("MODELPILOT_", "OPENAI_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "CLAUDE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    environment |= {"MODELPILOT_API_URL": site.gateway.url, "MODELPILOT_API_KEY": key, "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PATH"] = path
    with tempfile.TemporaryDirectory(prefix="modelpilot-client-") as home:
        output = _output(command, {**environment, "HOME": home}, home)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith('{"feature"')]
    return {line.pop("feature"): line for line in lines}


def _output(command: tuple[str, ...], environment: Mapping[str, str], directory: str) -> str:
    """What the program printed, up to its end or until it takes too long."""
    running = subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that what it started ends with it
    )
    try:
        output, errors = running.communicate(timeout=RUN_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        output, errors = running.communicate()
    if running.returncode != 0:
        print(output[-4000:], errors[-4000:])
    return output


def _row(client: Client, results: Results) -> report.Row:
    return {"versions": client.versions, **{name: report.cell(name, results.get(name)) for name in report.FEATURES}}


if __name__ == "__main__":
    sys.exit(main())
