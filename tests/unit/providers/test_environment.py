"""Providers as the process's own configuration names them."""

import pytest

from infra.providers.environment import provider_endpoints
from infra.settings import load_settings
from modelpilot.providers.kinds import KINDS, PUBLIC_KINDS, ProviderKind, base_url_variable, key_variable
from modelpilot.providers.resolution import CallableProvider, resolve_provider


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


@pytest.mark.parametrize("kind", PUBLIC_KINDS)
def test_every_public_kind_has_its_two_variables(kind: ProviderKind) -> None:
    """A row of the table without its settings would be a provider that nobody can give a key to."""
    assert provider_endpoints(load_settings({}))[kind].base_url == KINDS[kind].base_url
    given = provider_endpoints(load_settings({key_variable(kind): "k", base_url_variable(kind): "https://a.b"}))[kind]
    assert (given.kind, given.base_url, given.api_keys) == (kind, "https://a.b", ("k",))
