"""Files with one or many things to apply: YAML or JSON."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from infra.settings import ConfigurationError

File = Annotated[str, typer.Option("--file", "-f", help="YAML or JSON, one or many documents; `-` reads the input.")]

# YAML 1.1 takes 6e-7 for a text, and prices look like that (in JSON, too).
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")


class _Loader(yaml.SafeLoader):
    """Plain data only, with numbers as JSON has them."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def read_documents(name: str) -> list[dict[str, Any]]:
    """The objects in the file: documents, or the items of lists and of `{"items": [...]}` as the API answers them.

    Each has a text `id`. Raises ConfigurationError.
    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        found = [item for document in yaml.load_all(text, _Loader) for item in _flat(document)]
    except OSError as error:
        raise ConfigurationError([f"{name}: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{name}: neither YAML nor JSON: {' '.join(str(error).split())}"]) from error
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
