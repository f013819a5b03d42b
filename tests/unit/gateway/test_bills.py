"""What a request costs by what its provider reports: the row, the bill's lines and the answer agree."""

from typing import Any

import pytest

from api.gateway.described import request_view
from modelpilot.providers.pricing import total_usd
from modelpilot.requests.outcome import Remedy
from tests.support.core import A, Core, failure, routed
from tests.support.routing_samples import stream

USD = 2e-5  # 10 tokens in at a millionth, and 5 out at two


def reporting(usage: Any, **places: Any) -> list[dict[str, Any]]:
    """A stream whose last chunk has this report, or has it elsewhere."""
    chunks = stream()
    last = {key: value for key, value in chunks[-1].items() if key != "usage"}
    return [*chunks[:-1], {**last, **({"usage": usage} if usage is not None else {}), **places}]


async def viewed(core: Core) -> dict[str, Any]:
    """The request as the API shows it, once it has ended; its figures agree."""
    record = await core.submissions.ended(await core.submit())
    view = request_view(record)
    if view["costUsd"] is not None:
        assert total_usd(line["usd"] for line in view["bill"]) == view["costUsd"]
        assert total_usd(each["costUsd"] for each in view["attempts"]) == view["costUsd"]
    return view


@pytest.mark.parametrize(
    "chunks",
    [
        reporting({"prompt_tokens": 10, "completion_tokens": 5}),
        reporting({"prompt_tokens": 10.0, "completion_tokens": "5"}),
        reporting({"input_tokens": 10, "output_tokens": 5}),
        reporting({"prompt_tokens": 10, "total_tokens": 15}),
        reporting(None, x_groq={"usage": {"prompt_tokens": 10, "completion_tokens": 5}}),
        reporting(None, choices=[{"index": 0, "delta": {}, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}]),
        [*reporting({"prompt_tokens": 10, "completion_tokens": 5}), *reporting({"prompt_tokens": 0})[-1:]],
    ],
)
async def test_a_report_is_read_as_it_is_meant(chunks: list[dict[str, Any]]) -> None:
    """Wherever it stands and whatever it calls its counts; it is no estimate then."""
    core = Core()
    core.providers.will(A, chunks)
    view = await viewed(core)
    assert (view["costUsd"], view["estimated"]) == (USD, None)
    assert [(line["unit"], line["quantity"]) for line in view["bill"]] == [("input", 10), ("output", 5)]


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (None, "did not count the input"),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, "did not count the output"),
        ({"prompt_tokens": "many", "completion_tokens": None}, "did not count"),
        ({"prompt_tokens": 10, "completion_tokens": 0}, "did not count the output"),
        ({"prompt_tokens": 10**19, "completion_tokens": 10**19}, "more than there can be"),
        ({"total_tokens": 40}, "both sides together"),
    ],
)
async def test_what_cannot_be_is_an_estimate_and_says_so(usage: Any, words: str) -> None:
    """Never free, and never beyond what a sum can hold."""
    core = Core()
    core.providers.will(A, reporting(usage))
    view = await viewed(core)
    assert words in view["estimated"]
    assert 0.0 < view["costUsd"] < 0.001
    assert view["tokens"]["output"] > 0


async def test_what_the_provider_charged_is_the_bill() -> None:
    """OpenRouter's figure; ours stands beside it."""
    core = Core()
    core.providers.will(A, reporting({"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.00123}))
    view = await viewed(core)
    assert (view["costUsd"], view["listCostUsd"], view["estimated"]) == (0.00123, USD, None)
    assert view["bill"] == [{"unit": "provider", "quantity": 1, "usd": 0.00123}]


async def test_what_the_provider_charged_needs_no_price() -> None:
    """A model without a price costs what its provider says."""
    unpriced = A.model_copy(update={"cost_per_input_token": None, "cost_per_output_token": None})
    shot = routed()
    shot.models[A.id] = unpriced
    core = Core(shot)
    core.providers.will(A, reporting({"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.00123}))
    view = await viewed(core)
    assert (view["costUsd"], view["listCostUsd"]) == (0.00123, None)


async def test_an_unknown_price_is_unknown_line_by_line() -> None:
    """The quantities are known all the same."""
    shot = routed()
    shot.models[A.id] = A.model_copy(update={"cost_per_output_token": None})
    core = Core(shot)
    core.providers.will(A, reporting({"prompt_tokens": 10, "completion_tokens": 5}))
    view = await viewed(core)
    assert view["costUsd"] is None
    assert view["bill"] == [
        {"unit": "input", "quantity": 10, "usd": 1e-5},
        {"unit": "output", "quantity": 5, "usd": None},
    ]


async def test_the_bill_has_every_call() -> None:
    """One that broke off, and its repeat: what both wrote is paid."""
    core = Core(routed(same_model_retries=1))
    broken = failure("stream_cut", Remedy.RETRY_SAME)
    core.providers.will(A, [*stream(tokens=None)[:2], broken], reporting({"prompt_tokens": 10, "completion_tokens": 5}))
    view = await viewed(core)
    assert [each["status"] for each in view["attempts"]] == ["error", "ok"]
    assert sum(line["quantity"] for line in view["bill"] if line["unit"] == "output") > 5
