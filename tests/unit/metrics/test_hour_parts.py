"""Which part of a range comes from hourly rows, and which from single requests."""

from datetime import UTC, datetime, timedelta

import pytest

from infra.db.metrics.hour_parts import only_raw, split

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(hours: float) -> datetime:
    """So many hours after noon."""
    return NOON + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("stale", "raw"),
    [
        ([], [(0.5, 1), (9, 9.5)]),
        ([4], [(0.5, 1), (4, 5), (9, 9.5)]),
        ([4, 5, 7], [(0.5, 1), (4, 6), (7, 8), (9, 9.5)]),
        ([1, 8], [(0.5, 2), (8, 9.5)]),
        ([1, 2, 3, 4, 5, 6, 7, 8], [(0.5, 9.5)]),
    ],
)
def test_stale_hours_that_follow_each_other_are_one_part(stale: list[int], raw: list[tuple[float, float]]) -> None:
    """A backfill of months would else be a condition for every hour of it."""
    found = split(at(0.5), at(9.5), {"through": at(9.2), "stale": [at(hour) for hour in stale]})
    assert found.raw == tuple((at(begin), at(end)) for begin, end in raw)
    assert (found.first, found.last, found.hours) == (at(1), at(9), 8 - len(stale))
    assert found.of_raw.count("created_at >=") == len(raw)
    assert sum(f"raw_{index}_0" in found.parameters for index in range(10)) == len(raw)


def test_a_range_without_raw_parts_reads_none() -> None:
    """Nothing between whole hours: the condition holds for no request, instead of for all of them."""
    found = split(at(1), at(3), {"through": at(9), "stale": []})
    assert (found.raw, found.of_raw, found.hours) == ((), "false", 2)
    assert only_raw(at(0.5), at(2)).hours == 0
