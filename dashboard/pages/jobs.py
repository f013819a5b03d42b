"""The Jobs page: what scheduled work (aggregation, export, refits and re-scoring) has left behind."""

from collections.abc import Sequence
from dataclasses import dataclass

import dash_mantine_components as dmc
from dash import Dash, Output, html

from dashboard.config import DashboardConfig
from dashboard.frame.elements import Element, command, dimmed, notice, outside_link, panel, stat_card, stat_grid
from dashboard.frame.formats import UNKNOWN, format_age, format_count, format_ms
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import Asked, Filled, PageFrame
from dashboard.frame.tables import Table, csv_button, labelled_table, register_csv
from dashboard.frame.urls import schedule_url, workflow_url
from dashboard.frame.zones import Zone
from modelpilot.metrics.jobs import FitRun, HourRun, JobsRead, RescoreRun, ScheduleFacts

# A run is due every five minutes: after three of them somebody should look.
LATE_S = 900.0
_MB = 1_000_000
_COMMANDS = {
    "modelpilot-aggregate-hourly": "modelpilot jobs aggregate",
    "modelpilot-refit": "modelpilot routers refit ROUTER",
    "modelpilot-rescore-nightly": "modelpilot jobs rescore",
}
_LIMIT = 50

FRAME = PageFrame("jobs", "Jobs", ranged=False, skeleton=(92, 200, 320))
CARDS = FRAME.id("cards")
SCHEDULES = FRAME.id("schedules")
RUNS = FRAME.id("runs")
HOURS = FRAME.id("hours")


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(
        context,
        search,
        dmc.Stack(
            [
                html.Div(id=CARDS),
                panel("Schedules", html.Div(id=SCHEDULES)),
                panel("Refits and re-scoring", csv_button(FRAME), html.Div(id=RUNS)),
                html.Div(id=HOURS),
            ]
        ),
    )


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    def table(asked: Asked) -> Table:
        return runs_csv(runs(context.reader.jobs(asked.scope.user_id, _LIMIT)), asked.zone)

    register_csv(app, context, FRAME, "modelpilot-jobs.csv", table)

    @FRAME.fills(
        app,
        context,
        Output(CARDS, "children"),
        Output(SCHEDULES, "children"),
        Output(RUNS, "children"),
        Output(HOURS, "children"),
    )
    def fill(asked: Asked) -> Filled:
        found, now_s = context.reader.jobs(asked.scope.user_id, _LIMIT), context.clock()
        listed, everybody = runs(found), asked.scope.user_id is None
        none_yet = dimmed("None yet. A refit needs graded answers; re-scoring runs every night.")
        values = (
            cards(found, now_s),
            schedules_table(found, context.config, asked.zone, now_s),
            runs_table(listed, context.config, asked.zone, with_owner=everybody) if listed else none_yet,
            panel("Hours computed", hours_table(found.hours, asked.zone)) if found.hours else None,
        )
        return Filled(values, late_notice(found, now_s))


PAGE = Page(path="/jobs", title="Jobs", layout=layout, register=register)


@dataclass(frozen=True, slots=True)
class Run:
    """A refit or a re-scoring job, as both are listed. Times are Unix seconds; None: unknown, or not yet."""

    kind: str
    user_id: str
    subject: str
    status: str
    began: float | None
    ended: float | None
    rows: str
    remark: str
    workflow_id: str | None = None

    @property
    def duration_ms(self) -> float | None:
        """How long it took."""
        return None if self.began is None or self.ended is None else (self.ended - self.began) * 1_000.0


def runs(found: JobsRead) -> list[Run]:
    """Refits and re-scoring jobs, the newest first."""
    listed = [*map(_fit, found.fits), *map(_rescore, found.rescores)]
    return sorted(listed, key=lambda one: -(one.began or one.ended or 0.0))


def cards(found: JobsRead, now_s: float) -> Element:
    """How far everything is."""
    progress, export = found.progress, found.export
    missed = "nothing to catch up on"
    if progress.pending_hours:
        missed = f"{progress.late_hours:,} of them are over" if progress.late_hours else "none of them is over"
    shown = [
        stat_card("Metrics up to", _age(progress.aggregated_through, now_s), "hourly metrics"),
        stat_card("Hours waiting", format_count(progress.pending_hours), missed),
        stat_card("Exported up to", _age(progress.exported_through, now_s), _export_hint(found)),
        stat_card("Outcomes waiting", format_count(found.vectors_waiting), "not yet among similar prompts (Milvus)"),
    ]
    if export is not None and export.files:
        written = f"{export.requests:,} requests, {export.bytes / _MB:,.1f} MB"
        shown.append(stat_card("Files exported", format_count(export.files), written))
        shown.append(stat_card("Files to write", format_count(export.due), "new or revised hours"))
    return stat_grid(shown)


def late_notice(found: JobsRead, now_s: float) -> Element | None:
    """Says that the metrics stand still, and what to do; None where they do not."""
    through = found.progress.aggregated_through
    if through is None:
        said = ("They come from the maintenance worker: run ", command("modelpilot worker"), ".")
        return notice("No hourly metrics yet", *said, color="yellow")
    if now_s - through <= LATE_S:
        return None
    hint = (
        f"They stand still since {format_age(now_s - through)}. Is ",
        command("modelpilot worker"),
        " running? ",
        command("modelpilot doctor"),
        " tells; what was missed is made up for by the next run.",
    )
    return notice("The hourly metrics are late", *hint, color="yellow")


def schedules_table(found: JobsRead, config: DashboardConfig, zone: Zone, now_s: float) -> Element:
    """What runs by itself, when next, and how to run it now."""
    rows = [
        (
            _schedule_link(one, config),
            _every(one.every_s),
            zone.time(one.next_run(now_s)),
            html.Code(_COMMANDS[one.id]) if one.id in _COMMANDS else UNKNOWN,
        )
        for one in found.schedules
    ]
    return labelled_table(("Schedule", "Every", "Next run", "Run it now"), rows)


def runs_table(listed: Sequence[Run], config: DashboardConfig, zone: Zone, *, with_owner: bool) -> Element:
    """Refits and re-scoring jobs."""
    columns = ("Kind", "Of", "Status", "Began", "Took", "Rows", "Remark")
    rows = [
        (
            html.Span(one.kind, className="mp-nowrap"),
            f"{_subject(one)} of {one.user_id}" if with_owner else _subject(one),
            html.Span(one.status, className="mp-nowrap"),
            html.Span(zone.time(one.began) if one.began is not None else UNKNOWN, className="mp-nowrap"),
            html.Span(format_ms(one.duration_ms), className="mp-nowrap"),
            one.rows,
            _remark(one, config),
        )
        for one in listed
    ]
    return labelled_table(columns, rows, numeric=(4, 5))


def hours_table(hours: Sequence[HourRun], zone: Zone) -> Element:
    """The last computation of each of the newest hours."""
    rows = [
        (
            zone.span(one.hour, one.hour + 3_600.0),
            format_count(one.requests),
            zone.time(one.finished_at),
            format_ms(one.duration_ms),
        )
        for one in hours
    ]
    return labelled_table(("Hour", "Requests", "Last computed", "Took"), rows, numeric=(1, 3))


def runs_csv(listed: Sequence[Run], zone: Zone) -> Table:
    """The table of runs with all its figures."""
    rows = [
        (
            one.kind,
            one.user_id,
            one.subject,
            one.status,
            None if one.began is None else zone.time(one.began),
            None if one.ended is None else zone.time(one.ended),
            one.duration_ms,
            one.rows,
            one.remark,
        )
        for one in listed
    ]
    return ("kind", "owner", "of", "status", "began", "ended", "durationMs", "rows", "remark"), rows


def _fit(one: FitRun) -> Run:
    remark = f"refused: {one.refused_because}" if not one.accepted else f"predictor version {one.version}"
    status = "accepted" if one.accepted else "refused"
    return Run("refit", one.user_id, one.router_id, status, one.fitted_at, None, f"{one.rows:,}", remark)


def _rescore(one: RescoreRun) -> Run:
    status = "paused" if one.paused else one.status
    remark = "; ".join(part for part in (one.error, one.judge_stopped) if part)
    rows = f"{one.done:,} of {one.total:,}, {one.scored:,} changed"
    return Run(
        "re-scoring", one.user_id, one.id, status, one.created_at, one.finished_at, rows, remark, one.workflow_id
    )


def _subject(one: Run) -> str:
    return one.subject or "every router"


def _remark(one: Run, config: DashboardConfig) -> Element | str:
    url = workflow_url(config, one.workflow_id) if one.workflow_id else None
    said = one.remark or (UNKNOWN if url is None else "")
    if url is None:
        return said
    label = f"Open the workflow of {_subject(one)} in the Temporal Web UI"
    return html.Div([said, " ", outside_link("workflow", url, label)])


def _schedule_link(one: ScheduleFacts, config: DashboardConfig) -> Element | str:
    about = f"Open the schedule {one.title} in the Temporal Web UI"
    return outside_link(one.title, schedule_url(config, one.id), about)


def _every(seconds: float) -> str:
    for unit, size_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size_s:
            count = seconds / size_s
            return unit if count == 1 else f"{count:g} {unit}s"
    return f"{seconds:g} seconds"


def _age(moment: float | None, now_s: float) -> str:
    return UNKNOWN if moment is None else format_age(now_s - moment)


def _export_hint(found: JobsRead) -> str:
    if found.progress.exported_through is None:
        return "no warehouse is set up, or nothing yet"
    written = found.export.last_written_at if found.export else None
    return "to the warehouse" if written is None else "to the warehouse's files"
