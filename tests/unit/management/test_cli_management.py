"""`keys`, `routers`, `models` and `explain` against a gateway whose answers are known."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.client import read_documents
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
    gateway.answers["GET /api/models"] = listing(MODEL, {**MODEL, "id": "x/y", "provider": "other"})
    result = modelpilot("models", "list", "--provider", "simulator")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split()[:4] == ["sim/small", "simulator", "0.15", "unknown"]
    assert "x/y" not in result.stdout


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
    assert order == ["b", "b", "a", "[c]", "req_1"]  # the first b is the headline
    assert "no provider key" in result.stdout
    assert "unknown → 0.500 × 0.25" in result.stdout
    assert "degraded: vector" in result.stdout


def test_explain_shows_what_was_learnt(gateway: FakeGateway) -> None:
    """The predictor's version, the uncertainty of each prediction, and each model's chance under exploration."""
    sure = {"raw": 0.8, "unit": "share", "score": 0.8, "weight": 1.0, "sd": 0.05}
    learnt = {**candidate("a", 0.8), "quality": sure, "probability": 0.925}
    predictor = {"version": 4, "fittedAt": "2026-01-01T00:00:00+00:00"}
    decision = {**DECISION, "candidates": [learnt], "predictor": predictor}
    gateway.answers["POST /router/support/explain"] = (200, {"decision": decision})
    shown = modelpilot("explain", "--router", "support", "Hello").stdout
    assert "with the fitted predictor of version 4" in shown
    assert "0.8 ± 0.05 share → 0.800 × 1.00" in shown
    assert "92.5%" in shown


def test_explain_says_why_no_model_is_left(gateway: FakeGateway) -> None:
    """A refusal is a message and exit code 1."""
    gateway.answers["POST /router/demo/explain"] = refusal(422, "no model can serve this request")
    result = modelpilot("explain", "Hello")
    assert (result.exit_code, result.output) == (1, "modelpilot: no model can serve this request\n")
