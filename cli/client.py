"""The management commands' way to the running gateway, and the files that they read.

Plain HTTP with the admin key, and one sentence per problem.

Exit codes of the commands that use it: 0 done, 1 refused or failed, 2 wrong usage or configuration, 3 not reachable.
"""

import http.client
import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote, urlencode, urlsplit

import typer
import yaml

from cli.admin_key import read_api_key
from infra.local.data_dir import DataDir
from infra.settings import ConfigurationError, Settings, load_settings, read_variables
from infra.variables import chosen_variable

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2
EXIT_NOT_REACHABLE = 3

KEY_VARIABLE = "MODELPILOT_API_KEY"
URL_VARIABLE = "MODELPILOT_API_URL"
_TIMEOUT_S = 30.0
_PAGE = 200
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 0.5


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """Say what is wrong on standard error, and end with this exit code."""
    typer.echo(f"modelpilot: {message}", err=True)
    raise typer.Exit(code)


class Refused(Exception):
    """The gateway answered with an error; `message` is its own sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True, slots=True)
class Target:
    """Which gateway, and as whom."""

    url: str
    key: str = field(repr=False)
    key_from: str

    @property
    def headers(self) -> dict[str, str]:
        """What every request carries."""
        return {"authorization": f"Bearer {self.key}", "accept": "application/json"}


def find_target(settings: Settings | None = None, variables: Mapping[str, str] | None = None) -> Target:
    """The gateway of the settings (or MODELPILOT_API_URL) and the key in MODELPILOT_API_KEY or `<data dir>/admin.key`.

    Raises ConfigurationError where there is no key, or something else in its place.
    """
    settings = settings or load_settings()
    variables = read_variables() if variables is None else variables
    url = _checked_url(_given(URL_VARIABLE, variables) or settings.api_url)
    if given := _given(KEY_VARIABLE, variables):
        if not re.fullmatch(r"(?!['\"])[\x21-\x7e]+", given.strip()):  # nothing else can be in a header
            raise ConfigurationError([f"{KEY_VARIABLE}: holds no API key (mp_ and 64 hex characters were expected)"])
        return Target(url, given.strip(), KEY_VARIABLE)
    path = DataDir(settings.data_dir).admin_key
    key = read_api_key(path)
    if key is None:
        advice = f"start ModelPilot once with `modelpilot up`, or set {KEY_VARIABLE}"
        raise ConfigurationError([f"no API key: {path} does not exist; {advice}"])
    return Target(url, key, str(path))


def _given(name: str, variables: Mapping[str, str]) -> str | None:
    found = chosen_variable(name, variables)
    return variables[found] if found else None


def _checked_url(text: str) -> str:
    url = text.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:  # half of an IPv6 address, a port that is no number
        host = None
    if not url.lower().startswith(("http://", "https://")):
        advice = f"; http://{url} was probably meant" if re.match(r"[\w.-]+(:\d+)?(/|$)", url) else ""
        raise ConfigurationError([f"{URL_VARIABLE}: {url!r} does not begin with http:// or https://{advice}"])
    if not host:
        raise ConfigurationError([f"{URL_VARIABLE}: {url!r} is no address such as http://127.0.0.1:8080"])
    return url


class _Answer(dict[str, Any]):
    """An object of the gateway's JSON. What lacks a field that a command reads did not come from ModelPilot."""

    def __missing__(self, name: str) -> NoReturn:
        _not_ours(f"an answer of the gateway has no {name!r}")


def _not_ours(what: str) -> NoReturn:
    fail(f"{what}: is it ModelPilot, of this version? {URL_VARIABLE} says where it is.", EXIT_NOT_REACHABLE)


class GatewayClient:
    """Sends one request at a time. Standard library only: a command should not wait for imports."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The object that is answered (an empty one where it has no body). Raises Refused; ends the command where
        nothing answers, or something else than ModelPilot does."""
        parts = urlsplit(self.target.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=_TIMEOUT_S)
        content = None if body is None else json.dumps(body).encode()
        headers = self.target.headers | ({} if content is None else {"content-type": "application/json"})
        try:
            connection.request(method, parts.path + path, content, headers)
            answer = connection.getresponse()
            status, raw = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            not_reachable(self.target.url, error)
        finally:
            connection.close()
        return self._result(status, raw)

    def items(self, path: str, wanted: Mapping[str, str | list[str]] | None = None) -> Iterator[dict[str, Any]]:
        """All items of a list, page by page; `wanted` are the list's own filters."""
        cursor: str | None = None
        while True:
            place = {} if cursor is None else {"cursor": cursor}
            page = self.call("GET", f"{path}?{urlencode({'limit': _PAGE, **(wanted or {}), **place}, doseq=True)}")
            if not isinstance(page["items"], list) or not all(isinstance(item, dict) for item in page["items"]):
                _not_ours(f"{self.target.url} lists other things than were asked for")
            yield from page["items"]
            cursor = page["nextCursor"]
            if cursor is None:
                return

    def _result(self, status: int, raw: bytes) -> Any:
        try:
            # 204 has no body, and nothing else of ours is without one.
            result = {} if status == http.client.NO_CONTENT else json.loads(raw, object_hook=_Answer)
        except (ValueError, RecursionError):
            result = None
        if not isinstance(result, dict):
            _not_ours(f"{self.target.url} answers {status}, but not as ModelPilot does")
        if status < http.client.BAD_REQUEST:
            return result
        message = error_message(result) or f"the gateway answered {status}"
        if status == http.client.UNAUTHORIZED:
            fail(f"{message} The key came from {self.target.key_from}.", EXIT_CONFIGURATION)
        raise Refused(status, message)


def until_ended(job: dict[str, Any], ask: Callable[[], dict[str, Any]], patience_s: float = math.inf) -> dict[str, Any]:
    """The job when it no longer runs, or after `patience_s`; `ask` reads it again, at first often."""
    give_up_at, wait_s = time.monotonic() + patience_s, _FIRST_WAIT_S
    while job["status"] == "running" and time.monotonic() < give_up_at:
        time.sleep(wait_s)
        job, wait_s = ask(), min(2.0 * wait_s, _LONGEST_WAIT_S)
    return job


def not_reachable(url: str, error: Exception) -> NoReturn:
    """End the command, saying how to start what is not there."""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    fail(f"no gateway answers at {url} ({reason}). Start it with `modelpilot up`.", EXIT_NOT_REACHABLE)


def error_message(body: Any) -> str | None:
    """The sentence in OpenAI's error envelope; None where there is none."""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return message if isinstance(message, str) else None


def segment(text: str, *, slashes: bool = False) -> str:
    """An id as a part of a path."""
    return quote(text, safe="/" if slashes else "")


def connect() -> GatewayClient:
    """A client for the configured gateway."""
    return GatewayClient(find_target())


File = Annotated[str, typer.Option("--file", "-f", help="YAML or JSON, one or many documents; `-` reads the input.")]

# YAML 1.1 takes 6e-7 for a text, and prices look like that (in JSON, too).
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    """Plain data only, with numbers as JSON has them."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))
# JSON has no times: 2026-11-22 stays the text that was written.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: node.value)


def read_documents(name: str) -> list[dict[str, Any]]:
    """The objects in the file: documents, or the items of lists and of `{"items": [...]}` as the API answers them.

    Each has a text `id`. Raises ConfigurationError.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        found = [item for document in yaml.load_all(text, _Loader) for item in _flat(document)]
        json.dumps(found)
    except OSError as error:
        raise ConfigurationError([f"{name}: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{name}: neither YAML nor JSON: {' '.join(str(error).split())}"]) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError([f"{name}: holds what JSON has no words for: {error}"]) from error
    problems = [
        f"{name}: document {number} is no object with an `id`"
        for number, item in enumerate(found, start=1)
        if not isinstance(item, dict) or not isinstance(item.get("id"), str)
    ]
    if problems or not found:
        raise ConfigurationError(problems or [f"{name}: nothing is in it"])
    return found


def _flat(document: Any) -> list[Any]:
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        return list(document["items"])
    if isinstance(document, list):
        return document
    return [] if document is None else [document]
