"""The Jobs page: what is late, what runs next, and refits and re-scoring as one list."""

import pytest

from dashboard.config import DashboardConfig
from dashboard.frame.urls import schedule_url
from dashboard.frame.zones import UTC_ZONE
from dashboard.pages.jobs import late_notice, runs, runs_csv, runs_table, schedules_table
from modelpilot.metrics.jobs import AggregationProgress, FitRun, JobsRead, RescoreRun, ScheduleFacts
from tests.support.site import NOW_S

CONFIG = DashboardConfig(temporal_ui_url="http://127.0.0.1:8233", temporal_namespace="a/b")
FIT = FitRun("u1", "support", 3, NOW_S - 60.0, 120, accepted=False, refused_because="worse than the means")
JOB = RescoreRun(
    "u1", "rescore-1", "rescore/u1/rescore-1", "running", True, 100, 40, 7, NOW_S - 120.0, None, "budget spent", None
)


@pytest.mark.parametrize(
    ("every_s", "offset_s", "now_s", "expected"),
    [
        (300.0, 120.0, 0.0, 120.0),
        (300.0, 120.0, 120.0, 420.0),
        (300.0, 120.0, 119.9, 120.0),
        (86_400.0, 7_200.0, 86_400.0, 93_600.0),
        (1_800.0, 0.0, 1_800.0, 3_600.0),
    ],
)
def test_next_run_of_a_schedule(every_s: float, offset_s: float, now_s: float, expected: float) -> None:
    """Always after now, at the offset behind a multiple of the interval, as Temporal counts."""
    assert ScheduleFacts("s", "S", every_s, offset_s).next_run(now_s) == pytest.approx(expected)


def test_late_metrics_are_said() -> None:
    """Never computed and no longer computed each say what to run; a quarter of an hour is fine."""
    assert "modelpilot worker" in str(late_notice(JobsRead(), NOW_S))
    assert "stand still since 20 min" in str(
        late_notice(JobsRead(progress=AggregationProgress(NOW_S - 1_200.0)), NOW_S)
    )
    assert late_notice(JobsRead(progress=AggregationProgress(NOW_S - 600.0)), NOW_S) is None


def test_runs_are_one_list() -> None:
    """Newest first, with why a fit was refused, how far a job is, and why judging stopped."""
    listed = runs(JobsRead(fits=(FIT,), rescores=(JOB,)))
    assert [(one.kind, one.status) for one in listed] == [("refit", "refused"), ("re-scoring", "paused")]
    table = str(runs_table(listed, CONFIG, UTC_ZONE, with_owner=True))
    for said in ("refused: worse than the means", "40 of 100, 7 changed", "budget spent", "support of u1"):
        assert said in table
    assert "rescore%2Fu1%2Frescore-1" in table
    columns, rows = runs_csv(listed, UTC_ZONE)
    assert [dict(zip(columns, row, strict=True))["of"] for row in rows] == ["support", "rescore-1"]


def test_schedules_lead_into_temporal() -> None:
    """With the command that runs the same work now."""
    found = JobsRead(schedules=(ScheduleFacts("modelpilot-aggregate-hourly", "Metrics", 300.0, 120.0),))
    table = str(schedules_table(found, CONFIG, UTC_ZONE, NOW_S))
    assert "/namespaces/a%2Fb/schedules/modelpilot-aggregate-hourly" in table
    assert "modelpilot jobs aggregate" in table
    assert "5 minutes" in table
    assert schedule_url(DashboardConfig(), "x") is None
