"""Variables: what the environment and a file `.env` hold, which of them decides, and which of them no setting reads."""

import codecs
import difflib
import io
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream

PREFIX = "MODELPILOT_"
ENVIRONMENT_VARIABLE = "MODELPILOT_ENV"
SUFFIXES: Mapping[str, str] = {"development": "_DEV", "production": "_PROD"}
FILE_NAME = ".env"
# Read by the commands that talk to a running gateway (`cli/client.py`), not by any process of it; the last one names
# the image in `docker-compose.yml`, whose `.env` may lie in the working directory.
FOREIGN_VARIABLES = frozenset({"MODELPILOT_API_KEY", "MODELPILOT_API_URL", "MODELPILOT_VERSION"})
_QUOTES = ('"', "'", "`", "\N{LEFT DOUBLE QUOTATION MARK}", "\N{RIGHT DOUBLE QUOTATION MARK}")


class ConfigurationError(Exception):
    """The configuration is wrong; `problems` has one sentence per problem, each naming its variable or its file."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def read_variables(directory: Path | None = None) -> dict[str, str]:
    """The process environment over the `.env` of `directory` (default: the working directory).

    Raises ConfigurationError where that file cannot be read."""
    bindings = _bindings((directory or Path.cwd()) / FILE_NAME)
    return {**{one.key: one.value for one in bindings if one.key and one.value is not None}, **os.environ}


def _bindings(path: Path) -> list[Binding]:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {(error.strerror or str(error)).lower()}"]) from error
    found = list(parse_stream(io.StringIO(_text(path, raw))))
    broken = [_line(one) for one in found if one.error]
    if broken:  # never the line itself, which may hold a key
        advice = "is not of the form NAME=value (is a quote open?)"
        raise ConfigurationError([f"{path}: line {number} {advice}" for number in broken])
    return found


def _text(path: Path, raw: bytes) -> str:
    """The file's text; Windows' editors put a byte order mark in front of UTF-8, which means nothing."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in raw:
        raise ConfigurationError([f"{path}: is not UTF-8 but probably UTF-16; save it as UTF-8"])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigurationError([f"{path}: line {line} is not UTF-8; save the file as UTF-8"]) from None


def chosen_variable(names: str | tuple[str, ...], variables: Mapping[str, str]) -> str | None:
    """The variable that decides: NAME_DEV or NAME_PROD where it is set for this environment, else NAME, else None; of
    several names the first one that is set.

    An empty value counts as unset, so that `MODELPILOT_MILVUS_URI=` in a compose file means "the default".
    """
    environment = variables.get(ENVIRONMENT_VARIABLE, "").strip() or "development"
    for name in (names,) if isinstance(names, str) else names:
        suffixed = name != ENVIRONMENT_VARIABLE and environment in SUFFIXES
        candidates = [name + SUFFIXES[environment], name] if suffixed else [name]
        found = next((candidate for candidate in candidates if variables.get(candidate, "").strip()), None)
        if found is not None:
            return found
    return None


def is_quoted(value: str) -> bool:
    """Whether the value is in quotes, which a shell or `.env` takes away, and `docker --env-file` does not."""
    text = value.strip()
    return len(text) > 1 and text.startswith(_QUOTES) and text.endswith(_QUOTES)


def unknown(known: Collection[str], variables: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable with our prefix that is not `known`: most often a typing error."""
    known = {*known, *FOREIGN_VARIABLES}
    for name in sorted(variables):
        base = next((name.removesuffix(suffix) for suffix in SUFFIXES.values() if name.endswith(suffix)), name)
        if not name.upper().startswith(PREFIX) or name in known:
            continue
        if base == ENVIRONMENT_VARIABLE:
            yield f"{name} is not a setting: {base} says which suffix counts, and has none itself"
        elif base not in known:
            near = difflib.get_close_matches(base.upper(), sorted(known), n=1)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")


def set_twice(directory: Path | None = None) -> Iterator[str]:
    """A sentence for each variable that the `.env` of `directory` gives two values. Raises ConfigurationError."""
    path = (directory or Path.cwd()) / FILE_NAME
    seen: dict[str, Binding] = {}
    for one in _bindings(path):
        if one.key is None:
            continue
        earlier = seen.get(one.key)
        if earlier and earlier.value != one.value:
            lines = f"in the lines {_line(earlier)} and {_line(one)} of {path}"
            yield f"{one.key} is set twice, {lines}; the last one counts"
        seen[one.key] = one


def _line(binding: Binding) -> int:
    text = binding.original.string  # with the empty lines before it
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
