"""Which header carries the key of an OpenAI-compatible provider."""

import pytest

from modelpilot.wire.openai import credentials


def headers_for(base_url: str, key: str | None = "secret") -> dict[str, str]:
    """The credentials of a provider at `base_url`."""
    return dict(credentials(base_url, key))


@pytest.mark.parametrize(
    "base_url",
    [
        "https://name.openai.azure.com/openai/deployments/d?api-version=2024-10-21",
        "https://name.openai.azure.com/openai/v1",
        "https://NAME.OpenAI.Azure.com./openai/v1",
        "https://name.cognitiveservices.azure.com/openai/v1",
        "https://name.services.ai.azure.com:443/openai/v1",
        "https://name.openai.azure.us/openai/v1",
        "https://name.openai.azure.cn/openai/v1",
    ],
)
def test_azures_hosts_get_the_key_in_their_own_header(base_url: str) -> None:
    """A key as a bearer token would be taken for an Entra token there and refused."""
    assert headers_for(base_url) == {"api-key": "secret"}


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.openai.com/v1",
        "https://fakeazure.com/v1",
        "https://azure.com.example.org/openai/v1",
        "https://example.org/openai.azure.com/v1",
        "http://127.0.0.1:8000/v1",
    ],
)
def test_every_other_host_gets_a_bearer_token(base_url: str) -> None:
    """A host that only looks like Azure's is none."""
    assert headers_for(base_url) == {"Authorization": "Bearer secret"}


def test_without_a_key_there_is_no_header() -> None:
    """Local servers take none."""
    assert headers_for("https://name.openai.azure.com/openai/v1", None) == {}
