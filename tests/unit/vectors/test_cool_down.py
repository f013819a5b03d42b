"""How long a store that fails is left alone."""

from infra.vectors.cool_down import CoolDown


def test_a_cool_down_opens_after_failures_and_lets_one_try() -> None:
    """One slow answer is tolerated; two in a row close the door for a moment, longer each time, up to a bound."""
    now = [0.0]
    cool_down = CoolDown(clock=lambda: now[0])
    cool_down.failed()
    assert cool_down.remaining_s() == 0.0
    cool_down.failed()
    assert cool_down.remaining_s() == 0.5
    now[0] = 0.5
    assert cool_down.remaining_s() == 0.0  # this one may try,
    assert cool_down.remaining_s() > 0.0  # the others wait for it
    for _ in range(20):
        cool_down.failed()
    assert cool_down.remaining_s() == 5.0
    cool_down.succeeded()
    assert cool_down.remaining_s() == 0.0
