"""The simulator's own endpoints under `/_sim`: switch faults, read the log of calls."""

from typing import Any

from aiohttp import web

from simulator.calls import summary
from simulator.errors import SimError
from simulator.faults import FAULTS, from_json
from simulator.handlers import read_json
from simulator.request import text_of
from simulator.state import SIMULATOR
from simulator.switches import Rule

_MAX_WAIT_MS = 60_000


def _show(rule: Rule) -> dict[str, Any]:
    faults = [{"name": fault.name, "value": fault.value, "times": fault.times} for fault in rule.faults]
    return {"model": rule.model, "match": rule.match, "faults": faults}


def _bad(error: SimError) -> web.Response:
    shown = {"message": error.message, "type": "invalid_request_error", "param": error.param, "code": None}
    return web.json_response({"error": shown}, status=400)


async def set_faults(request: web.Request) -> web.Response:
    """`POST /_sim/faults` `{"model", "faults", "match"?}`: put faults on a model, in place of those it had."""
    sim = request.app[SIMULATOR]
    try:
        body = read_json(await request.read())
        faults = from_json(body.get("faults", {}))
        sim.switches.set(text_of(body.get("model"), "model"), faults, str(body.get("match", "")))
    except SimError as error:
        return _bad(error)
    return web.json_response({"rules": [_show(rule) for rule in sim.switches.rules]})


async def get_faults(request: web.Request) -> web.Response:
    """`GET /_sim/faults`: the rules in force, and the table of all faults."""
    known = {spec.name: spec.does for spec in FAULTS.values()}
    return web.json_response({"rules": [_show(rule) for rule in request.app[SIMULATOR].switches.rules], "known": known})


async def clear_faults(request: web.Request) -> web.Response:
    """`DELETE /_sim/faults`: forget all rules and counters."""
    request.app[SIMULATOR].switches.clear()
    return web.json_response({"rules": []})


async def get_calls(request: web.Request) -> web.Response:
    """`GET /_sim/calls?tag=&model=&outcome=&min=&wait_ms=`: the calls seen, oldest first, and their counts.

    With `min` and `wait_ms` it answers as soon as there are so many, or when the time (milliseconds) is over.
    """
    query = request.query
    try:
        least, wait_ms = int(query.get("min", "1")), min(float(query.get("wait_ms", "0")), _MAX_WAIT_MS)
    except ValueError:
        return _bad(SimError(400, "min and wait_ms must be numbers", param="min"))
    wanted = {name: query.get(name, "") for name in ("tag", "model", "outcome")}
    calls = request.app[SIMULATOR].calls
    found = await calls.wait(least, wait_ms, **wanted) if wait_ms > 0 else calls.find(**wanted)
    return web.json_response({"calls": [call.as_json() for call in found], "counts": summary(found)})


async def clear_calls(request: web.Request) -> web.Response:
    """`DELETE /_sim/calls`: forget the calls."""
    request.app[SIMULATOR].calls.clear()
    return web.json_response({"calls": []})
