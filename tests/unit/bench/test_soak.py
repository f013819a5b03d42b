"""`modelpilot bench soak`: growth per thousand requests, and what makes it doubtful."""

import io
from contextlib import redirect_stdout

from bench import machine
from bench.gateway.soak import growth, show_soak, soak_problems


def test_growth_is_per_thousand_requests() -> None:
    """One MiB per 100 requests is 10 per 1,000; what fills up at first is not in the later half."""
    samples = [
        (count, {"temporal": 100.0 + count / 100, "gateway": min(200.0 + count, 400.0)}) for count in range(0, 801, 100)
    ]
    found = growth(samples, {"temporal": 90.0}, {"temporal": 109.0, "gateway": 400.0}, {"temporal": 108.0})
    assert found["temporal"] == {
        "startMb": 90.0, "afterLoadMb": 109.0, "atRestMb": 108.0, "mbPer1000": 10.0, "mbPer1000Later": 10.0,
    }  # fmt: skip
    assert (found["gateway"]["mbPer1000"] or 0.0) > 0.0
    assert (found["gateway"]["mbPer1000Later"], found["gateway"]["startMb"]) == (0.0, None)
    assert growth(samples[:1], {}, {"temporal": 1.0}, {})["temporal"]["mbPer1000"] is None


def test_a_soak_is_shown_with_its_doubts() -> None:
    """Failed calls and open workflows stand below the table."""
    found = {
        **machine.about("soak"),
        "options": {"requests": 3_000, "clients": 16, "history": 20_000},
        "answered": 2_999,
        "answeredPerS": 40.0,
        "errors": {"reset": 1},
        "allClosed": False,
        "memory": growth([(0, {"worker": 10.0}), (500, {"worker": 11.0})], {"worker": 10.0}, {"worker": 11.0}, {}),
    }
    with redirect_stdout(io.StringIO()) as printed:
        show_soak(found)
    text = " ".join(printed.getvalue().split())
    assert "worker 10 11 +2.00" in text
    assert "2,999 of 3,000 answered by 16 clients, 40.0 per second" in text
    assert soak_problems(found) == ["1 failed: reset", "not every workflow was closed before the rest"]
