"""Providers as the process's own configuration names them."""

import pytest

from infra.db.routing.configuration import CallableProvider, resolve_provider
from infra.providers.environment import provider_endpoints
from infra.settings import load_settings


@pytest.mark.parametrize(
    ("variable", "keys"),
    [
        ("sk-1", ("sk-1",)),
        ("sk-1,sk-2", ("sk-1", "sk-2")),
        (" sk-1 , sk-2,,sk-1, ", ("sk-1", "sk-2")),
    ],
)
def test_a_variable_may_hold_several_keys(variable: str, keys: tuple[str, ...]) -> None:
    """Separated by commas, none twice, empty ones are none; they share the provider's load."""
    endpoints = provider_endpoints(load_settings({"OPENAI_API_KEY": variable}))
    assert endpoints["openai"].api_keys == keys
    assert "sk-1" not in repr(endpoints)
    found = resolve_provider("openai", None, endpoints)
    assert isinstance(found, CallableProvider)
    assert found.key_count == len(keys)


def test_commas_alone_are_no_key() -> None:
    """Then the provider cannot be called, and says so."""
    endpoints = provider_endpoints(load_settings({"OPENAI_API_KEY": " , "}))
    assert "no API key" in str(resolve_provider("openai", None, endpoints))
