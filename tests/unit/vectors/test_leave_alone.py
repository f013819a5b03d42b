"""How long a store that fails is left alone."""

from infra.vectors import LEAVE_ALONE
from modelpilot.providers.breaker import Breaker


def test_a_store_that_fails_is_left_alone_and_then_tried_by_one() -> None:
    """One slow answer is tolerated; two in a row close the door for a moment, longer each time, up to a bound."""
    now = [0.0]
    breaker = Breaker(LEAVE_ALONE, clock=lambda: now[0])
    breaker.record(healthy=False, began_s=0.0)
    assert breaker.next_probe_s == 0.0
    breaker.record(healthy=False, began_s=0.0)
    pauses = []
    for _ in range(20):
        pauses.append(breaker.next_probe_s)
        now[0] += breaker.next_probe_s
        assert breaker.next_probe_s == 0.0  # this one may try,
        breaker.reserve()
        assert breaker.next_probe_s > 0.0  # the others wait for it
        breaker.record(healthy=False, began_s=now[0])
    assert pauses[:5] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert pauses[-1] == 5.0
    now[0] += 5.0
    breaker.record(healthy=True, began_s=now[0])
    assert breaker.next_probe_s == 0.0
    assert breaker.state == "closed"
