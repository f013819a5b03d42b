"""`keys`, `routers`, `models` and `explain` against a gateway whose answers are known."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import read_documents
from cli.explain import plain, shortened
from infra.settings import ConfigurationError
from tests.support.fake_gateway import Answer, FakeGateway, listing, refusal, running_gateway
from tests.support.processes import modelpilot

KEY = f"mp_{'5a' * 32}"
SUPPORT = {"id": "support", "availableModels": ["sim/small"]}
MODEL = {
    "id": "sim/small",
    "provider": "simulator",
    "costPerInputToken": 1.5e-7,
    "costPerOutputToken": None,
    "avgLatencyMs": 300.0,
    "qualityScore": 0.6,
    "carbonGPer1kTokens": None,
    "limits": {"contextWindow": 16384},
    "shared": True,
}


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGateway]:
    with running_gateway() as running:
        monkeypatch.setenv("MODELPILOT_API_URL", running.url)
        monkeypatch.setenv("MODELPILOT_API_KEY", KEY)
        yield running


def test_a_new_key_is_all_that_goes_to_standard_output(gateway: FakeGateway) -> None:
    """`KEY=$(modelpilot keys create …)` holds the secret and nothing else."""
    gateway.answers["POST /api/keys"] = (201, {"id": "key_1", "key": KEY})
    result = modelpilot("keys", "create", "--name", "shop", "--router", "demo")
    assert (result.exit_code, result.stdout) == (0, KEY + "\n")
    assert gateway.calls[0][1] == {"name": "shop", "scopes": ["route"], "allowedRouters": ["demo"]}


def test_revoking_changes_the_key(gateway: FakeGateway) -> None:
    """It stays in the list, inactive."""
    gateway.answers["PUT /api/keys/key_1"] = lambda body: (200, {"id": "key_1", **body})
    assert modelpilot("keys", "revoke", "key_1").exit_code == 0
    assert gateway.calls == [("PUT /api/keys/key_1", {"active": False})]


def test_rotation_passes_the_overlap(gateway: FakeGateway) -> None:
    """A deployment needs both keys for a while."""
    gateway.answers["POST /api/keys/key_1/rotate"] = (201, {"id": "key_2", "key": KEY})
    assert modelpilot("keys", "rotate", "key_1", "--overlap-seconds", "60").stdout == KEY + "\n"
    assert gateway.calls[0][1] == {"overlapSeconds": 60.0}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [(None, 1, "created, version 1"), (3, 4, "updated, version 4"), (4, 4, "unchanged, version 4")],
)
def test_apply_says_what_it_did(
    gateway: FakeGateway, tmp_path: Path, before: int | None, after: int, said: str
) -> None:
    """A pipeline that applies files sees which of them changed something."""
    known: Answer = refusal(404, "unknown") if before is None else (200, {**SUPPORT, "version": before})
    gateway.answers["GET /api/routers/support"] = known
    gateway.answers["PUT /api/routers/support"] = (200, {**SUPPORT, "version": after})
    path = tmp_path / "routers.yaml"
    path.write_text("id: support\navailableModels: [sim/small]\n")
    result = modelpilot("routers", "apply", "-f", str(path))
    assert (result.exit_code, result.output) == (0, f"router support: {said}\n")
    assert gateway.calls[-1] == ("PUT /api/routers/support", SUPPORT)


def test_apply_goes_on_after_a_refused_router_and_fails(gateway: FakeGateway) -> None:
    """One wrong document hides no other's result, and the exit code tells the pipeline."""
    gateway.answers["PUT /api/routers/bad"] = refusal(422, "availableModels[0]: there is no model 'x'")
    gateway.answers["PUT /api/routers/support"] = (200, {**SUPPORT, "version": 1})
    documents = f"id: bad\navailableModels: [x]\n---\n{json.dumps(SUPPORT)}\n"
    result = modelpilot("routers", "apply", "-f", "-", "--json", input=documents)
    assert result.exit_code == 1
    assert [one["result"] for one in json.loads(result.stdout)] == ["failed", "created"]


def test_ids_with_slashes_are_paths_and_others_are_escaped(gateway: FakeGateway) -> None:
    """`sim/small` is a model's id, and nothing that is typed leaves its path."""
    gateway.answers["GET /api/models/sim/small"] = (200, MODEL)
    assert modelpilot("models", "show", "sim/small").exit_code == 0
    modelpilot("routers", "show", "../models")
    assert gateway.calls[-1][0] == "GET /api/routers/..%2Fmodels"


def test_an_unknown_price_is_not_shown_as_free(gateway: FakeGateway) -> None:
    """Prices read in USD per million tokens; null is unknown."""
    gateway.answers["GET /api/models"] = listing(MODEL)
    result = modelpilot("models", "list")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split()[:4] == ["sim/small", "simulator", "0.15", "unknown"]


@pytest.mark.parametrize(
    ("options", "query"),
    [
        ([], ""),
        (["--provider", "openai", "--available"], "&provider=openai&available=true"),
        (["--capability", "vision", "--capability", "json"], "&capability=vision&capability=json"),
        (["--search", "gpt 4&"], "&search=gpt+4%26"),
    ],
)
def test_the_gateway_is_asked_for_some_models(gateway: FakeGateway, options: list[str], query: str) -> None:
    """Of 125 models one wants a few; which can be called, only the gateway knows."""
    gateway.answers["GET /api/models"] = listing()
    assert modelpilot("models", "list", *options).exit_code == 0
    assert gateway.calls == [(f"GET /api/models?limit=200{query}", None)]


PROVIDER = {"id": "groq", "kind": "openai", "baseUrl": "https://x", "hasKey": True, "keyCount": 1, "updatedAt": "now"}


def test_a_providers_key_comes_from_a_variable(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or from `.env`, so that it never stands in the shell's history."""
    gateway.answers["PUT /api/providers/groq"] = (200, PROVIDER)
    options = ("--kind", "openai", "--base-url", "https://x", "--api-key-env", "GROQ_API_KEY")
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("GROQ_API_KEY=from-file\n")
    assert modelpilot("providers", "put", "groq", *options).stdout == "provider groq: stored, with a key\n"
    monkeypatch.setenv("GROQ_API_KEY", "from-environment")
    modelpilot("providers", "put", "groq", *options)
    sent = {"kind": "openai", "baseUrl": "https://x"}
    assert [body for _, body in gateway.calls] == [
        {**sent, "apiKey": "from-file"},
        {**sent, "apiKey": "from-environment"},
    ]


def test_a_providers_key_comes_from_standard_input(gateway: FakeGateway) -> None:
    """`pass show groq | modelpilot providers put …`."""
    gateway.answers["PUT /api/providers/groq"] = (200, PROVIDER)
    options = ("--kind", "openai", "--api-key-stdin", "--json")
    shown = modelpilot("providers", "put", "groq", *options, input="secret\n").stdout
    assert gateway.calls[0][1] == {"kind": "openai", "apiKey": "secret"}
    assert "secret" not in shown
    assert json.loads(shown) == PROVIDER


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--kind", "openai", "--api-key-env", "NOT_SET"], "NOT_SET: holds no API key"),
        (["--kind", "openai", "--api-key-stdin"], "standard input: holds no API key"),
        (["--kind", "openai", "--api-key-stdin", "--api-key-env", "A"], "not both"),
        (["--kind", "open"], "'open' is none of openai"),
    ],
)
def test_a_provider_without_the_key_that_was_meant_is_not_stored(
    gateway: FakeGateway, options: list[str], said: str
) -> None:
    """An empty variable is a slip, and would keep the old key in use."""
    result = modelpilot("providers", "put", "groq", *options, input="")
    assert result.exit_code != 0
    assert said in (result.output or str(result.exception)) + str(result.exception)
    assert gateway.calls == []


def test_providers_are_listed_shown_applied_and_deleted(gateway: FakeGateway, tmp_path: Path) -> None:
    """The life of a provider on the command line; a file of several says of each that it is stored."""
    gateway.answers["GET /api/providers"] = listing(PROVIDER)
    gateway.answers["GET /api/providers/groq"] = (200, PROVIDER)
    gateway.answers["DELETE /api/providers/groq"] = (204, None)
    gateway.every = lambda body: (200, body)
    assert modelpilot("providers", "list").stdout.splitlines()[1].split()[:4] == ["groq", "openai", "https://x", "yes"]
    assert json.loads(modelpilot("providers", "list", "--json").stdout) == [PROVIDER]
    assert json.loads(modelpilot("providers", "show", "groq", "--json").stdout) == PROVIDER
    path = tmp_path / "providers.yaml"
    path.write_text("- {id: groq, kind: openai, baseUrl: 'https://x'}\n- {id: other, kind: anthropic}\n")
    applied = modelpilot("providers", "apply", "-f", str(path))
    assert applied.output == "provider groq: stored\nprovider other: stored\n"
    assert modelpilot("providers", "delete", "groq").output == "provider groq: deleted\n"
    assert gateway.calls[-2:] == [
        ("PUT /api/providers/other", {"id": "other", "kind": "anthropic"}),
        ("DELETE /api/providers/groq", None),
    ]


def test_feedback_says_what_the_answer_is_worth_now(gateway: FakeGateway) -> None:
    """The score, a comment, and the quality that came of it."""
    rated = {"requestId": "req_1", "score": 0.9, "quality": 0.85, "qualitySource": "feedback"}
    gateway.answers["POST /v1/feedback"] = (200, rated)
    shown = modelpilot("feedback", "req_1", "0.9", "--comment", "short").output
    assert shown == "request req_1: rated 0.9; its quality is 0.85 now (from feedback)\n"
    assert json.loads(modelpilot("feedback", "req_1", "1", "--json").stdout) == rated
    bodies = [{"requestId": "req_1", "score": 0.9, "comment": "short"}, {"requestId": "req_1", "score": 1.0}]
    assert [body for _, body in gateway.calls] == bodies


def test_rollback_writes_the_old_settings_as_a_new_version(gateway: FakeGateway) -> None:
    """Like the site's: nothing is lost, and a deleted router is not made anew."""
    old, new = {**SUPPORT, "name": "old", "version": 1}, {**SUPPORT, "name": "new", "version": 2}
    gateway.answers["GET /api/routers/support"] = (200, new)
    gateway.answers["GET /api/routers/support/versions"] = listing(new, old)
    gateway.answers["PUT /api/routers/support"] = lambda body: (200, {**body, "version": 3})
    result = modelpilot("routers", "rollback", "support", "1")
    assert (result.exit_code, result.output) == (0, "router support: version 3 has the settings of version 1\n")
    assert gateway.calls[-1] == ("PUT /api/routers/support", old)
    result = modelpilot("routers", "rollback", "support", "7")
    assert (result.exit_code, "no version 7" in result.output) == (1, True)
    assert modelpilot("routers", "rollback", "gone", "1").exit_code == 1
    assert [call for call, _ in gateway.calls if call.startswith("PUT")] == ["PUT /api/routers/support"]


def test_what_was_shown_can_be_put_again(gateway: FakeGateway, tmp_path: Path) -> None:
    """`models show x > f; models put -f f`: small prices stay numbers on the way through a file."""
    body = {"id": "sim/small", "costPerOutputToken": 6e-07, "costPerInputToken": 1e-6}
    path = tmp_path / "model.json"
    path.write_text(json.dumps(body))
    gateway.answers["PUT /api/models/sim/small"] = lambda got: (200, got)
    assert modelpilot("models", "put", "-f", str(path)).exit_code == 0
    assert gateway.calls[0][1] == body


@pytest.mark.parametrize("text", ["", "just a text", "- id: 5", "a: [", "name: no id"])
def test_a_file_without_things_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    """Nothing is sent for a file that is not what it should be."""
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"file\.yaml"):
        read_documents(str(path))


def test_lists_as_the_api_answers_them_are_documents(tmp_path: Path) -> None:
    """What `GET /api/routers` answers can be applied elsewhere."""
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"items": [{"id": "a"}, {"id": "b"}], "nextCursor": None}))
    assert [item["id"] for item in read_documents(str(path))] == ["a", "b"]


def component(raw: float | None, score: float, weight: float) -> dict[str, Any]:
    return {"raw": raw, "unit": "u", "score": score, "weight": weight}


def candidate(model: str, total: float | None, because: str | None = None) -> dict[str, Any]:
    parts = {name: component(None, 0.5, 0.25) for name in ("cost", "latency", "quality", "carbon")}
    return {"model": model, **parts, "total": total, "excludedBecause": because, "evidence": 2}


DECISION = {
    "mode": "smartRouter",
    "selectedModel": "b",
    "configVersion": 3,
    "candidates": [candidate("a", 0.4), candidate("b", 0.7), candidate("[c]", None, "no provider key")],
    "neighbours": [{"requestId": "req_1", "model": "b", "similarity": 0.91, "quality": None}],
    "explored": False,
    "degraded": ["vector"],
    "promptTokens": 5,
    "requestType": "chat",
}


def test_explain_shows_the_whole_decision(gateway: FakeGateway) -> None:
    """Best first, the excluded with their reasons, the neighbours, and what was degraded."""
    gateway.answers["POST /router/support/explain"] = (200, {"decision": DECISION})
    result = modelpilot("explain", "--router", "support", "Hello")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line]
    order = [line[0] for line in lines if line[0] in {"a", "b", "[c]", "req_1"}]
    assert order == ["b", "b", "a", "b", "a", "[c]", "req_1"]  # the first b is the headline, then come two tables
    assert "b is chosen: of 2 models that can serve this prompt it has the highest total." in result.stdout
    assert "Router support, version 3." in result.stdout
    assert "no provider key" in result.stdout
    assert ["b", "unknown", "unknown", "unknown", "unknown", "2"] in lines
    assert ["b", "0.50", "0.50", "0.50", "0.50", "0.700", "–"] in lines
    assert "cost × 0.25  latency × 0.25" in result.stdout
    assert "(degraded): vector" in result.stdout


def test_explain_shows_what_was_learnt(gateway: FakeGateway) -> None:
    """Which estimator decided and why, where an expectation comes from, how uncertain it is, and each model's chance
    under exploration."""
    sure = {"raw": 0.8, "unit": "share", "score": 0.8, "weight": 1.0, "sd": 0.05}
    parts = {"catalogue": 0.7, "level": 0.06, "prompt": 0.04, "sd": 0.05, "grades": 12.5, "fitted": None}
    learnt = {**candidate("a", 0.8), "quality": sure, "probability": 0.925, "learnt": parts}
    learner = {"version": 4, "updatedAt": None, "decidedBy": "online", "because": "no fit was tried"}
    decision = {**DECISION, "candidates": [learnt], "learner": learner}
    gateway.answers["POST /router/support/explain"] = (200, {"decision": decision})
    shown = modelpilot("explain", "--router", "support", "Hello").stdout
    assert "by what the router has learnt online (state 4): no fit was tried." in shown
    assert all(part in shown for part in ("0.700", "+0.060", "+0.040", "12.5"))
    assert "0.800 ± 0.050" in shown
    assert "quality × 1.00" in shown
    assert "92.5%" in shown


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "preferredModel"}, "b is chosen: it is the model that the router prefers."),
        ({"explored": True}, "b is chosen: as an exploration among 2 models, so that it gets evidence as well."),
        ({"candidates": [candidate("[c]", None, "no provider key")]}, "cannot serve this prompt"),
        ({"neighbours": []}, "No similar past prompts."),
    ],
)
def test_explain_says_how_it_came_to_that(gateway: FakeGateway, changes: dict[str, Any], said: str) -> None:
    """In words, whatever the mode."""
    gateway.answers["POST /router/demo/explain"] = (200, {"decision": {**DECISION, **changes}})
    assert said in modelpilot("explain", "Hello").stdout


def test_explain_fits_into_100_columns(gateway: FakeGateway) -> None:
    """With long names, dear models and long reasons, too; names keep both ends, and stay apart."""
    names = [f"openrouter/some-organization/instruct-preview-{size}" for size in ("small", "large")]
    dear = {
        name: {**component(raw, 0.123456, 0.25), "sd": raw / 7}
        for name, raw in (("cost", 98.7654321), ("latency", 1_234_567.8), ("quality", 0.987654), ("carbon", 1_234.567))
    }
    candidates = [{**candidate(name, 0.123456789), **dear, "probability": 0.123456} for name in names]
    excluded = candidate("openrouter/another/very-long-name-of-a-model", None, "it has no API key " * 20)
    near = [
        {"requestId": "req_" + "f" * 32, "model": name, "similarity": 0.5, "quality": 0.123456} for name in names * 6
    ]
    decision = {**DECISION, "candidates": [*candidates, excluded], "neighbours": near, "selectedModel": names[0]}
    gateway.answers["POST /router/support/explain"] = (200, {"decision": decision})
    shown = modelpilot("explain", "--router", "support", "Hello").stdout
    assert max(map(len, shown.splitlines())) <= 100, shown
    for name in names:
        assert f"openroute…{name[-16:]}" in shown


@pytest.mark.parametrize(
    ("value", "digits", "expected"),
    [
        (0.0, 3, "0"),
        (0.000123456, 3, "0.000123"),
        (1437.5, 3, "1,440"),
        (0.6, 2, "0.60"),
        (-12.34, 2, "-12"),
        (9.996, 3, "10.00"),
    ],
)
def test_numbers_are_plain(value: float, digits: int, expected: str) -> None:
    """No exponents: people read them."""
    assert plain(value, digits) == expected


def test_long_names_keep_both_ends_and_stay_apart() -> None:
    """Provider and size stand there; two that would look alike are shown whole."""
    long = "openrouter/meta-llama/llama-3.3-70b-instruct"
    assert shortened(["sim/small", long]) == ["sim/small", "openroute…3.3-70b-instruct"]
    alike = [long, long.replace("meta-llama", "elsewhere")]
    assert shortened(alike) == alike


def test_explain_says_why_no_model_is_left(gateway: FakeGateway) -> None:
    """A refusal is a message and exit code 1."""
    gateway.answers["POST /router/demo/explain"] = refusal(422, "no model can serve this request")
    result = modelpilot("explain", "Hello")
    assert (result.exit_code, result.output) == (1, "modelpilot: no model can serve this request\n")
