"""The table of manners: which model has which, and who may overrule it."""

import pytest
from pydantic import ValidationError

from modelpilot.providers.catalogue import ModelSpec, ProviderSpec
from modelpilot.providers.kinds import KINDS
from modelpilot.providers.manners import Manners, manners_of, service_of
from tests.support.routing_samples import spec


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://eu.api.openai.com/v1", "openai"),
        ("https://name.openai.azure.com/openai?api-version=1", "azure"),
        ("https://API.MISTRAL.AI./v1", "mistral"),
        ("https://api.openai.com.evil.example/v1", ""),
        ("https://notmistral.ai/v1", ""),
        ("http://127.0.0.1:8000/v1", ""),
        (None, ""),
    ],
)
def test_a_service_is_known_by_its_host(url: str | None, service: str) -> None:
    """By the whole end of the host's name, and nothing else of the URL."""
    assert service_of(url) == service


@pytest.mark.parametrize(
    ("kind", "service", "model", "said"),
    [
        ("openai", "", "anything", {"limit_name": "max_tokens", "sampling": "always", "efforts": None}),
        ("openai", "openai", "gpt-4o", {"limit_name": "either", "efforts": (), "max_stops": 4}),
        ("openai", "azure", "gpt-4o", {"limit_name": "max_tokens"}),
        ("openai", "", "gpt-5-mini", {"limit_name": "max_completion_tokens", "sampling": "never"}),
        ("openai", "", "vendor/GPT-5", {"limit_name": "max_completion_tokens", "max_stops": 0}),
        ("openai", "openai", "gpt-5-chat-latest", {"sampling": "always", "efforts": ()}),
        ("openai", "openai", "gpt-5.1", {"sampling": "unless_thinking", "efforts": ("none", "low", "medium", "high")}),
        ("openai", "openai", "gpt-5.6-luna", {"sampling": "never", "efforts_with_tools": ("none",)}),
        ("openai", "openai", "o3-mini", {"limit_name": "max_completion_tokens", "max_stops": 4}),
        ("openai", "openai", "o4-mini", {"max_stops": 0}),
        ("openai", "", "gpt-oss-20b", {"limit_name": "max_tokens", "sampling": "always"}),
        ("openai", "", "claude-opus-4-7", {"sampling": "always"}),
        ("openrouter", "openrouter", "openai/gpt-5", {"limit_name": "either", "sampling": "always"}),
        ("openai", "mistral", "mistral-large", {"stream_options": False, "tool_call_ids": "alphanumeric9"}),
        ("openai", "", "Mistral-7B", {"stream_options": True, "tool_call_ids": "alphanumeric9"}),
        ("anthropic", "", "unknown", {"one_of": ("temperature", "top_p"), "response_formats": ("json_schema",)}),
        ("anthropic", "", "claude-3-opus-20240229", {"max_tokens": 4_096, "efforts": (), "one_of": ()}),
        ("anthropic", "", "claude-3-5-sonnet-latest", {"max_tokens": 8_192, "response_formats": ()}),
        ("anthropic", "", "claude-sonnet-4-20250514", {"max_tokens": 64_000, "one_of": (), "response_formats": ()}),
        ("anthropic", "", "claude-opus-4-1-20250805", {"max_tokens": 32_000, "response_formats": ("json_schema",)}),
        ("anthropic", "", "claude-haiku-4-5", {"thinking": "budget", "one_of": ("temperature", "top_p")}),
        ("anthropic", "", "claude-sonnet-4-6", {"thinking": "adaptive", "sampling": "unless_thinking"}),
        ("anthropic", "", "claude-opus-4-7", {"thinking": "adaptive", "sampling": "never"}),
        ("anthropic", "", "claude-fable-5-1", {"thinking": "adaptive", "sampling": "never"}),
        ("google", "", "unknown", {"tools_with_json": False, "thinking": "budget"}),
        ("google", "", "gemini-2.0-flash", {"efforts": ()}),
        ("google", "", "gemini-2.5-flash-lite", {"thinking_budget": (512, 24_576)}),
        ("google", "", "gemini-2.5-pro", {"thinking_budget": (128, 32_768)}),
        ("google", "", "gemini-3-pro-preview", {"thinking": "level", "efforts": ("low", "high")}),
        ("google", "", "gemini-3.1-pro-preview", {"efforts": ("low", "medium", "high"), "tools_with_json": True}),
        ("google", "", "gemini-4-argon", {"thinking": "level", "tools_with_json": True}),
    ],
)
def test_families_of_models(kind: str, service: str, model: str, said: dict[str, object]) -> None:
    """What the providers' documents say, wherever a model of that name is served."""
    manners = manners_of(kind, service, model)
    assert {name: getattr(manners, name) for name in said} == said


def test_every_kind_has_manners() -> None:
    """A new kind of provider is not forgotten."""
    assert all(manners_of(kind, "", "m").sampling is not None for kind in KINDS)


def test_owners_overrule_the_table() -> None:
    """The provider's owner the table, the model's owner both; what is omitted anywhere is omitted."""
    provider, model = Manners(streams=False, max_stops=2, omit=("seed",)), Manners(max_stops=9, omit=("user",))
    manners = manners_of("openai", "openai", "gpt-4o", provider, model)
    assert (manners.streams, manners.max_stops) == (False, 9)
    assert {"seed", "user", "top_k"} <= set(manners.omit or ())


def test_equal_manners_are_the_same() -> None:
    """So that a decision looks at each of them once, however many models have them."""
    assert manners_of("openai", "", "a") is manners_of("openai", "", "b", None)


def test_parameters_are_given_back_as_they_were_written() -> None:
    """Only what was said, in camelCase."""
    written = {"omit": ["seed"], "temperature": [0.0, 1.0], "maxTokens": 5, "contentArrays": False}
    body = spec("m").to_wire() | {"parameters": written}
    assert ModelSpec.model_validate(body).to_wire()["parameters"] == written
    assert spec("m").to_wire()["parameters"] is None


@pytest.mark.parametrize(
    "wrong", [{"maxToken": 5}, {"temperature": [0]}, {"efforts": ["ultra"]}, {"streams": "yes"}, {"maxTokens": 0}]
)
def test_wrong_parameters_are_refused(wrong: dict[str, object]) -> None:
    """Unknown names and impossible values name the field."""
    for model, plain in ((ModelSpec, spec("m").to_wire()), (ProviderSpec, {"id": "p", "kind": "openai"})):
        with pytest.raises(ValidationError) as caught:
            model.model_validate({**plain, "parameters": wrong})
        assert caught.value.errors()[0]["loc"][:2] == ("parameters", next(iter(wrong)))
