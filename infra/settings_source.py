"""Where settings come from: the environment over `.env`, with a suffix for the environment (`_DEV`, `_PROD`) over both.

Pure over a mapping of variables, so that a test needs no real environment.
"""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

PREFIX = "MODELPILOT_"
ENVIRONMENT_VARIABLE = "MODELPILOT_ENV"
SUFFIXES: Mapping[str, str] = {"development": "_DEV", "production": "_PROD"}


def variable_name(field_name: str, field: FieldInfo) -> str:
    """The environment variable of a field: its alias (provider keys have no prefix) or the prefixed upper-case name."""
    alias = field.validation_alias
    if isinstance(alias, AliasChoices):
        alias = alias.choices[0] if isinstance(alias.choices[0], str) else None
    return alias if isinstance(alias, str) else PREFIX + field_name.upper()


def chosen_variable(name: str, variables: Mapping[str, str]) -> str | None:
    """The variable that decides: NAME_DEV or NAME_PROD where it is set for this environment, else NAME, else None.

    An empty value counts as unset, so that `MODELPILOT_MILVUS_URI=` in a compose file means "the default".
    """
    environment = variables.get(ENVIRONMENT_VARIABLE) or "development"
    candidates = [name + SUFFIXES[environment], name] if environment in SUFFIXES else [name]
    if name == ENVIRONMENT_VARIABLE:
        candidates = [name]
    return next((candidate for candidate in candidates if variables.get(candidate)), None)


class SuffixedVariables(PydanticBaseSettingsSource):
    """A pydantic-settings source over one mapping of variables; values stay strings and are parsed by the fields."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Value (None when unset), key under which the model expects it, and "needs no JSON decoding"."""
        name = variable_name(field_name, field)
        chosen = chosen_variable(name, self._variables)
        key = name if field.validation_alias else field_name
        return (self._variables[chosen].strip() if chosen else None), key, False

    def __call__(self) -> dict[str, Any]:
        """All values that are set."""
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: value for value, key, _ in found if value is not None}


# Read by the commands that talk to a running gateway (`cli/client.py`), not by any process of it.
CLIENT_VARIABLES = {"MODELPILOT_API_KEY", "MODELPILOT_API_URL"}


def unknown_variables(settings_cls: type[BaseSettings], variables: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each prefixed variable that no setting reads: most often a typing error."""
    known = {variable_name(name, field) for name, field in settings_cls.model_fields.items()} | CLIENT_VARIABLES
    for name in sorted(variables):
        base = next((name.removesuffix(s) for s in SUFFIXES.values() if name.endswith(s)), name)
        if name.startswith(PREFIX) and name not in known and base not in known:
            near = difflib.get_close_matches(base, known, n=1)
            yield f"{name} is not a setting" + (f"; did you mean {near[0]}?" if near else "")
