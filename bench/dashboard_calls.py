"""What a browser posts when a page of the analytics site opens, and how long the server takes to answer. Pure, but for
the clock: the site is called in this process through its WSGI interface, so no network and no browser take part."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask.testing import FlaskClient

from bench.statistics import percentile

CALLBACKS = "/_dash-update-component"

# Titles of notices that stand in the place of an answer; one of these would be the quickest page of all.
REFUSALS = (
    "The database cannot be read", "This cannot be replayed", "No decision", "No router chosen", "There is no router",
    "No routers yet", "No prompt",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Visit:
    """A page as somebody opens it: its frame's name, its query string, and what further inputs hold by id."""

    label: str
    frame: str
    search: str
    also: Mapping[str, Any]
    goal_ms: float


class CallFailed(Exception):
    """A callback that did not answer with data."""


def specs_of(client: FlaskClient) -> list[dict[str, Any]]:
    """Every callback that runs on the server, as the site itself describes them."""
    found: list[dict[str, Any]] = client.get("/_dash-dependencies").get_json()
    return [spec for spec in found if not spec["clientside_function"]]


def of_page(specs: Sequence[dict[str, Any]], visit: Visit) -> Iterator[tuple[str, dict[str, Any]]]:
    """The callbacks that read for a page, with a name for each. Of those that keep controls and URL in step, only one
    that runs when the page opens has something to read: What-if's, which sets its sliders as the router has them."""
    url = f"{visit.frame}-url"
    for spec in specs:
        reads = [given["id"] for kind in ("inputs", "state") for given in spec[kind]]
        output = spec["output"].strip(".").split("...")[0]
        name, _, duplicate = output.partition("@")
        if url in reads and (name != f"{url}.search" or (duplicate and not spec["prevent_initial_call"])):
            yield name, body_of(spec, {url: visit.search, **visit.also})


def body_of(spec: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a callback whose inputs hold `values` (by id); all others hold nothing."""
    names = spec["output"].strip(".").split("...")
    outputs: Any = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]
    if not spec["output"].startswith(".."):
        outputs = outputs[0]
    inputs, state = (
        [given | {"value": values.get(given["id"])} for given in spec[kind]] for kind in ("inputs", "state")
    )
    changed = [f"{given['id']}.{given['property']}" for given in inputs if given["id"] in values]
    return {"output": spec["output"], "outputs": outputs, "inputs": inputs, "state": state, "changedPropIds": changed}


def timed(client: FlaskClient, body: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Post it so many times: milliseconds and the size of the answer. Raises CallFailed."""
    took_ms, size = [], 0
    for _ in range(rounds):
        began = time.perf_counter()
        answer = client.post(CALLBACKS, json=body)
        took_ms.append((time.perf_counter() - began) * 1_000.0)
        size = len(answer.data)
        if answer.status_code not in (200, 204):
            raise CallFailed(f"{body['output']}: {answer.status_code}")
        if refusal := next((said for said in REFUSALS if said in answer.text), None):
            raise CallFailed(f"{body['output']}: {refusal}")
    return {
        "samples": len(took_ms),
        "p50Ms": round(percentile(took_ms, 50.0), 1),
        "maxMs": round(max(took_ms), 1),
        "kilobytes": round(size / 1e3, 1),
    }
