"""docker-compose.yml, the Dockerfile and env.example agree with each other, with the settings and with the CLI."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.main import COMMANDS
from infra.settings import Settings, variable_name

ROOT = Path(__file__).resolve().parents[3]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "infra/docker/Dockerfile").read_text()
EXAMPLE = (ROOT / "infra/docker/env.example").read_text()

PROVIDER_VARIABLES = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "OPENROUTER_API_KEY"}
# Names the image and not a setting of a process.
NOT_SETTINGS = {"MODELPILOT_VERSION"}
# What env.example gives to people, outside of comments: `NAME=value`.
EXAMPLE_VARIABLES = dict(re.findall(r"^([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE, re.MULTILINE))
INTERPOLATION = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(:[-?])?([^}]*)\}")


def ours() -> dict[str, dict[str, Any]]:
    """The services that run our image."""
    return {name: service for name, service in SERVICES.items() if "build" in service}


def test_every_service_has_a_pinned_image() -> None:
    """A topology that worked yesterday works today: no image floats."""
    for name, service in SERVICES.items():
        image = service["image"]
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()
            continue
        tag = image.rpartition("/")[2].partition(":")[2]
        assert re.search(r"\d+[.-]\d+", tag), f"{name}: {image}"
        assert "latest" not in tag
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize(("name", "service"), ours().items())
def test_commands_exist_in_the_cli(name: str, service: dict[str, Any]) -> None:
    """Each container runs a command that `modelpilot` has."""
    assert service["command"][0] in COMMANDS, name


@pytest.mark.parametrize(("name", "service"), ours().items())
def test_settings_exist(name: str, service: dict[str, Any]) -> None:
    """A misspelt variable would silently leave a default in force."""
    known = {variable_name(field, info) for field, info in Settings.model_fields.items()}
    unknown = set(service.get("environment", {})) - known
    assert not unknown, name


def test_variables_are_documented_with_their_defaults() -> None:
    """env.example names every variable of the compose file, and none that it does not have."""
    used = {match[0] for match in INTERPOLATION.findall(COMPOSE_TEXT)}
    assert used == set(EXAMPLE_VARIABLES)
    for name, operator, _ in INTERPOLATION.findall(COMPOSE_TEXT):
        assert operator, f"{name} has neither a default nor a message"
    known = {variable_name(field, info) for field, info in Settings.model_fields.items()}
    assert {name for name in used if name.startswith("MODELPILOT_")} - NOT_SETTINGS <= known


def test_there_are_no_secrets_inside() -> None:
    """A secret is asked for with a message; it has no default, here or in env.example."""
    for name, operator, _ in INTERPOLATION.findall(COMPOSE_TEXT):
        if name.endswith(("PASSWORD", "ENCRYPTION_KEYS")):
            assert operator == ":?", name
            assert EXAMPLE_VARIABLES[name] == "", name
    assert all(EXAMPLE_VARIABLES[name] == "" for name in PROVIDER_VARIABLES)
    for name, service in SERVICES.items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|PWD|SECRET|KEYS?$", variable) and variable != "MINIO_ACCESS_KEY_ID":
                assert str(value).startswith("${"), f"{name}: {variable}"


def test_dependencies_refer_to_services_that_can_fulfil_them() -> None:
    """`service_healthy` needs a health check, and `service_completed_successfully` a service that ends."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert other in SERVICES, f"{name} → {other}"
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[other], f"{name} → {other}"
            else:
                assert SERVICES[other]["restart"].startswith("on-failure"), f"{name} → {other}"
            assert set(service["networks"]) & set(SERVICES[other]["networks"]) or name == "proxy", f"{name} → {other}"


def test_health_checks_are_complete() -> None:
    """Every long-lived service of ours is checked, with a bound on each check."""
    for name, service in ours().items():
        if name == "migrate":
            continue
        check = service["healthcheck"]
        assert check["test"][0] == "CMD", name
        assert {"interval", "timeout", "retries"} <= set(check), name


def test_ports_are_published_on_loopback_only() -> None:
    """Nothing here has TLS, and two of them have no login: the network must not reach them."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    for name, service in SERVICES.items():
        if "stores" in service["networks"] and "outside" not in service["networks"]:
            assert "ports" not in service, name
    assert COMPOSE["networks"]["stores"]["internal"] is True


def test_gateways_can_be_scaled() -> None:
    """A name or a published port of its own would allow one container only."""
    assert "container_name" not in SERVICES["gateway"]
    assert "ports" not in SERVICES["gateway"]
    assert "server gateway:8080 resolve;" in (ROOT / "infra/docker/nginx.conf").read_text()


def test_drain_ends_before_docker_kills() -> None:
    """A stop lets requests in flight finish."""
    gateway = SERVICES["gateway"]
    grace_s = int(gateway["stop_grace_period"].removesuffix("s"))
    assert grace_s > gateway["environment"]["MODELPILOT_DRAIN_SECONDS"]


def test_volumes_and_files_exist() -> None:
    """Data lies in named volumes, and what is mounted from the checkout is there, read-only."""
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.startswith("./"):
                assert (ROOT / source).is_file(), f"{name}: {source}"
                assert rest.endswith(":ro"), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_image_is_built_from_the_lock_and_runs_without_rights() -> None:
    """Dependencies are hash-checked, and no process of ours is root or can write its own code."""
    assert "pip install --require-hashes --no-deps" in DOCKERFILE
    assert re.search(r"^USER 10001:10001$", DOCKERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["modelpilot"]' in DOCKERFILE
    for name, service in ours().items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name


def test_build_context_has_what_the_image_copies_and_no_more() -> None:
    """.dockerignore is a list of what may get in; a forgotten entry breaks the build, a secret never enters."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied
