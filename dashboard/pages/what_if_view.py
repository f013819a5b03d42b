"""Pure functions of the What-if page: the answer of a replay → cards, tables and a chart."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
import orjson
import plotly.graph_objects as go
from dash import html

from dashboard.frame.components import stat_card, stat_grid
from dashboard.frame.elements import Element, notice
from dashboard.frame.figures import bar_marker, dressed, legend_below
from dashboard.frame.formats import UNKNOWN, format_count, format_grams, format_ms, format_share, format_usd
from dashboard.frame.frame import Asked
from dashboard.frame.ranges import moment_in_url
from dashboard.frame.tables import Table, labelled_table
from modelpilot.routing.router import Objective

BEFORE, AFTER = "As it was", "Proposed"
_PER = 1_000
_NOTHING = 1e-9  # a difference below this is the last bit of a sum
_OUTCOME_COLUMNS = (
    "Mean (95 % interval)", "Measured", "Expected (doubly robust)", "Cross-check (inverse propensity)", "Difference",
    "Independent outcomes",
)  # fmt: skip
_ROW_PX, _FRAME_PX = 58, 90
MOST_MODELS = 12


def _quality(value: float) -> str:
    return f"{min(max(value, 0.0), 1.0):.3f}"


def _from_zero(say: Callable[[float], str]) -> Callable[[float], str]:
    # A symmetric interval of something that is never negative may begin below zero.
    return lambda value: say(max(value, 0.0))


# Key in the replay's answer, what it is called, what a value is multiplied by, and how it is written.
METRICS: tuple[tuple[str, str, float, Callable[[float], str]], ...] = (
    ("costUsd", "Cost per 1,000 requests", _PER, _from_zero(format_usd)),
    ("latencyMs", "Latency per request", 1.0, _from_zero(format_ms)),
    ("quality", "Quality, 0 to 1", 1.0, _quality),
    ("carbonG", "CO\u2082e per 1,000 requests", _PER, _from_zero(format_grams)),
)


def cards(found: Mapping[str, Any], most: int) -> Element:
    """What was replayed, and the two figures that people ask for first."""
    requests, left_out = int(found["requests"]), int(found["leftOut"])
    newest = f"the newest {most:,} of the range" if requests + left_out >= most else "all of the range"
    hint = f"{newest}; {left_out:,} could not be replayed" if left_out else newest
    unserved = int(found["unserved"])
    served = f"{unserved:,} would be served by no model" if unserved else "every request is still served"
    return stat_grid(
        [
            stat_card("Requests replayed", format_count(requests), hint),
            stat_card("Go to another model", format_share(found["changedShare"]), served),
            *(_difference_card(found, *metric) for metric in (METRICS[0], METRICS[2])),
        ]
    )


def predicted_table(found: Mapping[str, Any]) -> Element:
    """Every metric before and after, by the predictions that the decisions were made from."""
    rows = [
        (name, *(_with_interval(found["predicted"][key][which], scale, say) for which in ("logged", "proposed")),
         _with_interval(found["predicted"][key]["difference"], scale, signed(say)))
        for key, name, scale, say in METRICS
    ]  # fmt: skip
    return labelled_table(("Mean (95 % interval)", BEFORE, AFTER, "Difference"), rows, numeric=(1, 2, 3))


def outcome_table(found: Mapping[str, Any]) -> Element:
    """The same by what was measured, as far as the logged choices tell of the proposed ones."""
    rows = []
    for key, name, scale, say in METRICS[:3]:
        one = found["offPolicy"].get(key)
        if one is None:
            rows.append((name, "nothing measured yet", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN))
            continue
        measured, robust = _with_interval(one["logged"], scale, say), _with_interval(one["doublyRobust"], scale, say)
        weighted = _with_interval(one["inversePropensity"], scale, say)
        change = _with_interval(one["difference"], scale, signed(say))
        size = f"{one['effectiveSampleSize']:,.0f} of {one['logged']['requests']:,}"
        rows.append((name, measured, robust, weighted, change, size))
    return labelled_table(_OUTCOME_COLUMNS, rows, numeric=(1, 2, 3, 4, 5))


def evidence_notice(found: Mapping[str, Any]) -> Element | None:
    """Where the figures stand on little; None where they do not."""
    thin, lines = found["thinEvidence"], []
    if not thin["offPolicyReliable"]:
        unsupported = found["offPolicy"]["unsupportedShare"]
        never = f", and {format_share(unsupported)} of the proposed choices were never made" if unsupported else ""
        lines.append(
            f"Measured outcomes say little about this proposal: they are worth {thin['effectiveSampleSize']:,.0f} "
            f"independent ones{never}. Exploration in the router brings such evidence."
        )
    if thin["requestShare"] > 0.0:
        models = ", ".join(f"{one['model']} ({format_share(one['share'])})" for one in thin["models"])
        lines.append(
            f"{format_share(thin['requestShare'])} of the requests would go to models that were seen on fewer than "
            f"{thin['minimumNeighbours']} similar prompts: {models}."
        )
    lines += [f"{one['model']} is left out: {one['because']}." for one in thin["notConsidered"]]
    if not lines:
        return None
    return notice("Thin evidence", html.Ul([html.Li(line) for line in lines], className="mp-list"), color="yellow")


def shares_figure(found: Mapping[str, Any]) -> go.Figure:
    """Per model its share of the requests before and after, the largest proposed share on top."""
    rows = shares(found)
    places = list(range(len(rows)))
    traces = [
        go.Bar(
            name=name,
            x=[row[key] for row in rows],
            y=[place + shift for place in places],
            orientation="h",
            width=0.24,
            marker=bar_marker(index),
            customdata=[row["model"] for row in rows],
            hovertemplate="%{x:.1%} %{fullData.name}<br>%{customdata}<extra></extra>",
        )
        for index, (name, key, shift) in enumerate(((BEFORE, "loggedShare", -0.06), (AFTER, "proposedShare", 0.2)))
    ]
    figure = dressed(go.Figure(traces))
    for place, row in enumerate(rows):
        text = f"{row['model']} · {row['loggedShare']:.0%} → {row['proposedShare']:.0%}"
        figure.add_annotation(x=0, xref="paper", y=place - 0.36, text=text, showarrow=False, xanchor="left")
    height_px = max(len(rows), 2) * _ROW_PX + _FRAME_PX
    figure.update_yaxes(range=[max(len(rows), 2) - 0.6, -0.7], visible=False)
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title={"text": "share of the requests"})
    return legend_below(figure).update_layout(barmode="overlay", height=height_px)


def shares(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models with any share, the largest proposed one first; those beyond MOST_MODELS as one row."""
    rows = [dict(row) for row in found["models"] if row["loggedShare"] > 0.0 or row["proposedShare"] > 0.0]
    if len(rows) <= MOST_MODELS:
        return rows
    kept, rest = rows[: MOST_MODELS - 1], rows[MOST_MODELS - 1 :]
    summed = {key: sum(row[key] for row in rest) for key in ("loggedShare", "proposedShare")}
    return [*kept, {"model": f"{len(rest)} other models", **summed, "evidence": None}]


def shares_rows(found: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[object]]]:
    """The same as a table."""
    rows: list[Sequence[object]] = [
        (
            row["model"],
            format_share(row["loggedShare"]),
            format_share(row["proposedShare"]),
            UNKNOWN if row["evidence"] is None else f"{row['evidence']:,.0f}",
        )
        for row in found["models"]
    ]
    return ("Model", BEFORE, AFTER, "Similar prompts seen (median)"), rows


def csv_rows(found: Mapping[str, Any]) -> Table:
    """Every figure of the page, one per row, in the units of the API."""
    rows = [
        (kind, metric, which, interval["mean"], interval["low"], interval["high"], interval["requests"])
        for kind in ("predicted", "offPolicy")
        for metric, values in found[kind].items()
        if isinstance(values, Mapping)
        for which, interval in values.items()
        if isinstance(interval, Mapping)
    ]
    rows += [
        ("share", row["model"], which, row[key], None, None, found["requests"])
        for row in found["models"]
        for which, key in (("logged", "loggedShare"), ("proposed", "proposedShare"))
    ]
    return ("kind", "metric", "of", "mean", "low", "high", "requests"), rows


def router_text(body: Mapping[str, Any]) -> str:
    """A router as a file that `modelpilot routers apply` takes."""
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


def signed(say: Callable[[float], str]) -> Callable[[float], str]:
    """The same with a sign: `+$0.12`, `−3.1 ms`."""

    def with_sign(value: float) -> str:
        size = 0.0 if abs(value) < _NOTHING else abs(value)
        sign = "" if size == 0.0 else "+" if value > 0.0 else "\u2212"
        return sign + say(size)

    return with_sign


def _with_interval(interval: Mapping[str, Any] | None, scale: float, say: Callable[[float], str]) -> Element | str:
    if interval is None:
        return UNKNOWN
    mean, low, high = (say(interval[name] * scale) for name in ("mean", "low", "high"))
    return html.Div([html.Div(mean), dmc.Text(f"{low} to {high}", size="xs", c="dimmed")], className="mp-nowrap")


def _difference_card(
    found: Mapping[str, Any], key: str, name: str, scale: float, say: Callable[[float], str]
) -> Element:
    of = found["predicted"][key]
    if of["difference"] is None:
        return stat_card(name, UNKNOWN, "nothing predicted")
    before, after = (say(of[which]["mean"] * scale) for which in ("logged", "proposed"))
    return stat_card(name, signed(say)(of["difference"]["mean"] * scale), f"{before} → {after}, as predicted")


# What the What-if page proposes, as the URL says it, as its controls show it, and as the replay and a router want it.
#
# In the URL: `w=40,20,30,10` (cost, latency, quality, carbon), `models=a,b`, `explore=5` (%), and `limits=own` with
# `maxCost` (USD), `maxLatency` (ms), `minQuality`. What is left out is as the router has it.

PARTS = ("cost", "latency", "quality", "carbon")
LIMITS = ("maxCost", "maxLatency", "minQuality")
NAMES = ("w", "models", "explore", "limits", *LIMITS)
_FIELDS = dict(zip(LIMITS, ("maxCostUsd", "maxLatencyMs", "minQuality"), strict=True))
_LARGEST = dict(zip(LIMITS, (1e6, 3.6e6, 1.0), strict=True))
_HIGHEST_WEIGHT, _MOST_MODELS = 100, 500


@dataclass(frozen=True, slots=True)
class Shown:
    """What the controls show: weights from 0 to 100, names, exploration in per cent, and limits (None: none)."""

    weights: tuple[int, ...]
    models: tuple[str, ...]
    explore_percent: float
    limits: tuple[float | None, ...]


def shown(values: Mapping[str, str], body: Mapping[str, Any]) -> Shown:
    """What the URL says over what the router (its JSON) has. What makes no sense in the URL is left out."""
    weights, models = _weights(values.get("w")), _models(values.get("models"))
    explore = _number(values.get("explore"), 100.0)
    own = values.get("limits") == "own"
    constraints = body.get("constraints") or {}
    return Shown(
        weights=weights or weights_of(body),
        models=models or models_of(body),
        explore_percent=round(float(body.get("exploration") or 0.0) * 100.0, 3) if explore is None else explore,
        limits=tuple(
            _number(values.get(name), _LARGEST[name]) if own else constraints.get(_FIELDS[name]) for name in LIMITS
        ),
    )


def weights_of(body: Mapping[str, Any]) -> tuple[int, ...]:
    """The shares of a router's objective in per cent."""
    return tuple(round(share * 100.0) for share in Objective.model_validate(body.get("objective") or {}).shares())


def models_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that a router may choose."""
    return tuple(body.get("availableModels") or ())


def changes(before: Shown, after: Shown) -> dict[str, str | None]:
    """What to write into the URL since the controls went from one state to another; nothing where they agree."""
    found: dict[str, str | None] = {}
    if after.weights != before.weights:
        found["w"] = ",".join(map(str, after.weights))
    if set(after.models) != set(before.models):
        found["models"] = ",".join(after.models) or None
    if after.explore_percent != before.explore_percent:
        found["explore"] = f"{after.explore_percent:g}"
    if after.limits != before.limits:
        found["limits"] = "own"
        found |= {name: _text(limit) for name, limit in zip(LIMITS, after.limits, strict=True)}
    return found


def proposal(values: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a router that the URL changes, in the router's own JSON; empty where it changes none."""
    wanted = shown(values, body)
    found: dict[str, Any] = {}
    if _weights(values.get("w")):
        named = zip(PARTS, wanted.weights, strict=True)
        found["objective"] = {f"{part}Weight": weight / 100.0 for part, weight in named}
    if _models(values.get("models")):
        found["availableModels"] = list(wanted.models)
    if _number(values.get("explore"), 100.0) is not None:
        found["exploration"] = round(wanted.explore_percent / 100.0, 6)
    if values.get("limits") == "own":
        limits = {_FIELDS[name]: limit for name, limit in zip(LIMITS, wanted.limits, strict=True)}
        found["constraints"] = {**(body.get("constraints") or {}), **limits}
    return found


def replay_body(asked: Asked, body: Mapping[str, Any]) -> dict[str, Any]:
    """What `POST /router/{id}/replay` is asked for: the proposal over the page's range of time."""
    span = {"from": moment_in_url(asked.window.start_s), "to": moment_in_url(asked.window.end_s + 1.0)}
    return {**proposal(asked.values, body), **span}


def proposed_router(values: Mapping[str, str], body: Mapping[str, Any]) -> dict[str, Any]:
    """The whole router with the proposal in it: a body for `PUT /api/routers/{id}`."""
    return {**body, **proposal(values, body)}


def _weights(text: str | None) -> tuple[int, ...] | None:
    parts = (text or "").split(",")
    if len(parts) != len(PARTS) or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(min(int(part[:4]), _HIGHEST_WEIGHT) for part in parts)


def _models(text: str | None) -> tuple[str, ...] | None:
    named = dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip())
    return tuple(named)[:_MOST_MODELS] or None


def _number(text: str | None, largest: float) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0.0 <= value <= largest else None


def _text(limit: float | None) -> str | None:
    return None if limit is None else f"{limit:.12g}"
