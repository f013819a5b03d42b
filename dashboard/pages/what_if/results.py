"""What the What-if page shows of the answer of a replay: cards, tables, a chart and CSV."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import plotly.graph_objects as go
from dash import html

from dashboard.frame.elements import Element, notice, stat_card, stat_grid, two_lines
from dashboard.frame.figures import bar_marker, dressed, legend_below, named_rows
from dashboard.frame.formats import UNKNOWN, format_count, format_grams, format_ms, format_share, format_usd
from dashboard.frame.tables import Table, labelled_table

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
    return f"{value:.3f}"


# Key in the replay's answer, what it is called, what a value is multiplied by, and how it is written.
METRICS: tuple[tuple[str, str, float, Callable[[float], str]], ...] = (
    ("costUsd", "Cost per 1,000 requests", _PER, format_usd),
    ("latencyMs", "Latency per request", 1.0, format_ms),
    ("quality", "Quality, 0 to 1", 1.0, _quality),
    ("carbonG", "CO\u2082e per 1,000 requests", _PER, format_grams),
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
    named_rows(figure, [f"{row['model']} · {row['loggedShare']:.0%} → {row['proposedShare']:.0%}" for row in rows])
    height_px = max(len(rows), 2) * _ROW_PX + _FRAME_PX
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
    return two_lines(mean, f"{low} to {high}", className="mp-nowrap")


def _difference_card(
    found: Mapping[str, Any], key: str, name: str, scale: float, say: Callable[[float], str]
) -> Element:
    of = found["predicted"][key]
    if of["difference"] is None:
        return stat_card(name, UNKNOWN, "nothing predicted")
    before, after = (say(of[which]["mean"] * scale) for which in ("logged", "proposed"))
    return stat_card(name, signed(say)(of["difference"]["mean"] * scale), f"{before} → {after}, as predicted")
