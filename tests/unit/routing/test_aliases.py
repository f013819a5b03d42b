"""Names that clients may use for routers and models: whom they mean, and who may have them."""

import pytest
from pydantic import ValidationError

from modelpilot.routing.aliases import KnownAliases, Target, taken
from modelpilot.routing.router import Router

SUPPORT, CODE, SMALL = Target("router", "support"), Target("router", "code"), Target("model", "own/small")
KNOWN = KnownAliases.of(
    [
        (SUPPORT, ["gpt-4o", "openai/*", "*"]),
        (CODE, ["openai/*-codex", "claude-*"]),
        (SMALL, ["mini", "claude-haiku-4-5"]),
    ],
    ["own/small", "openai/mine"],
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("router/other", Target("router", "other")),
        ("gpt-4o", SUPPORT),
        ("mini", SMALL),
        ("own/small", SMALL),
        ("openai/gpt-5", SUPPORT),
        ("openai/gpt-5-codex", CODE),  # the longer wildcard says more
        ("openai/mine", Target("model", "openai/mine")),  # the owner's own model, and no wildcard, has this name
        ("claude-haiku-4-5", SMALL),  # what was said of this one name counts before a wildcard
        ("claude-opus-4-5", CODE),
        ("what-nobody-has", SUPPORT),
        ("a\nb", SUPPORT),
    ],
)
def test_a_name_means_who_was_given_it(name: str, meant: Target) -> None:
    """Exact aliases first, then the owner's own models, then the longest wildcard."""
    assert KNOWN.resolve(name) == meant


def test_without_aliases_a_name_is_a_models_id() -> None:
    """Whether the catalogue has it is not asked here."""
    assert KnownAliases({}).resolve("gpt-4o") == Target("model", "gpt-4o")


@pytest.mark.parametrize("alias", ["a.c", "a+", "a-c"])
def test_only_the_star_is_a_wildcard(alias: str) -> None:
    """Everything else stands for itself."""
    known = KnownAliases.of([(SUPPORT, [f"{alias}/*"])])
    assert known.resolve(f"{alias}/x") == SUPPORT
    assert known.resolve("aac/x") == Target("model", "aac/x")


def test_one_name_means_one_thing() -> None:
    """An alias of another, a model's id, and a new model under an alias are told, with the field that says it."""
    assert list(taken(CODE, ["new", "gpt-4o"], KNOWN)) == [
        ("aliases[1]", "'gpt-4o' is an alias of the router 'support'")
    ]
    assert [field for field, _ in taken(CODE, ["own/small"], KNOWN)] == ["aliases[0]"]
    assert [field for field, _ in taken(Target("model", "gpt-4o"), [], KNOWN)] == ["id"]
    assert list(taken(SMALL, ["mini", "own/small"], KNOWN)) == []  # its own


def test_of_two_with_the_same_alias_the_router_has_it() -> None:
    """Whatever order they are read in: two writes at the same moment may both pass the check."""
    places = [(SMALL, ["x"]), (SUPPORT, ["x"]), (CODE, ["x"])]
    assert {KnownAliases.of(order).resolve("x") for order in (places, places[::-1])} == {CODE}


@pytest.mark.parametrize("alias", ["router/other", "router/*", "", "-x", "a b", "x" * 129])
def test_what_cannot_be_an_alias_is_refused(alias: str) -> None:
    """Routers keep their own names, and an alias is a name."""
    with pytest.raises(ValidationError, match="aliases"):
        Router.model_validate_json(f'{{"id": "r", "availableModels": ["m"], "aliases": ["{alias}"]}}')
