"""`modelpilot doctor`: a line for everything that has to be right, and what to do where it is not."""

from collections.abc import Iterator
from dataclasses import asdict

import typer

from cli.client import EXIT_FAILED
from cli.doctor_checks import Check, data_dir, key_files, port_checks, provider_keys, python_version, settings_are_known
from cli.doctor_services import services
from cli.output import AsJson, print_json
from infra.local.data_dir import DataDir
from infra.settings import ConfigurationError, load_settings, read_variables


def command(as_json: AsJson = False) -> None:
    """Check Python, the configuration, files, ports, every service and the provider keys; nothing is changed.

    Exit codes: 0 nothing failed (warnings are allowed), 1 something did, 2 wrong usage.
    """
    found: list[Check] = []
    for check in checks():
        found.append(check)
        if not as_json:
            typer.echo(line(check))  # at once: an absent service takes seconds to be sure of
    if as_json:
        print_json([asdict(check) for check in found])
    if any(check.status == "fail" for check in found):
        raise typer.Exit(EXIT_FAILED)


def checks() -> Iterator[Check]:
    """Every check; those that need settings are left out where the settings are wrong."""
    yield python_version()
    try:
        settings = load_settings()
    except ConfigurationError as error:
        for problem in error.problems:
            yield Check("settings", "fail", problem, "correct the variable, in the environment or in .env")
        return
    data = DataDir(settings.data_dir)
    yield from settings_are_known(settings, read_variables())
    yield data_dir(data)
    yield from key_files(settings, data)
    yield from port_checks(settings, data)
    yield from services(settings)
    yield provider_keys(settings)


def line(check: Check) -> str:
    """`ok    postgres          reachable …`, with what to do on a line of its own."""
    advice = f"\n{'':26}→ {check.advice}" if check.advice else ""
    return f"{check.status:<5} {check.name:<19} {check.detail}{advice}"
