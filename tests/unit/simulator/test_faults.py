"""The grammar of faults, who gets them, and how they change pace and pieces; tests/integration has each of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.delivery import Head, Reset, Send, Timing, Wait, plan_stream, timing
from simulator.faults import FAULTS, Active, Fault, SimError, from_json, parse_faults, split_model
from simulator.generate import Frame
from simulator.models import MODELS
from simulator.state import FaultSwitches
from simulator.wire_openai import OpenAI

AT_ONCE = Timing(0)
FRAMES = [
    Frame(b'data: {"role":"x"}\n\n'),
    *(Frame(b'data: {"t":%d}\n\n' % number, token=True) for number in range(4)),
    Frame(b'data: {"end":1}\n\n', closing=True),
    Frame(b"data: [DONE]\n\n", closing=True, terminator=True),
]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("503", [Fault("status", 503.0)]),
        ("fail503", [Fault("status", 503.0)]),
        ("fail", [Fault("status", 500.0)]),
        ("500x1", [Fault("status", 500.0, 1)]),
        ("status=429x2", [Fault("status", 429.0, 2)]),
        ("hangx1", [Fault("hang", None, 1)]),
        ("cut40", [Fault("cut", 40.0)]),
        ("cut", [Fault("cut", 5.0)]),
        ("filtered", [Fault("filtered", None)]),
        ("filter", [Fault("filter", None)]),
        ("firsttoken1500.5x3", [Fault("firsttoken", 1500.5, 3)]),
        ("429+retryafter-1", [Fault("status", 429.0), Fault("retryafter", "-1")]),
        ("retryafter=soon, maybe", [Fault("retryafter", "soon, maybe")]),
        ("retrydate-5", [Fault("retrydate", -5.0)]),
        ("", []),
    ],
)
def test_grammar(text: str, faults: list[Fault]) -> None:
    """Every form the documentation gives is read as it says."""
    assert list(parse_faults(text)) == faults
    assert split_model(f"sim/small+{text}") == ("sim/small", tuple(faults))


@pytest.mark.parametrize(
    "text", ["nonsense", "cutx", "cut=abc", "status200", "601", "cut-1", "hang5", "cutnan", "cutinf"]
)
def test_bad_faults_are_refused(text: str) -> None:
    """A mistyped fault is an error, never silently no fault."""
    with pytest.raises(SimError) as caught:
        parse_faults(text)
    assert caught.value.status == 400


@given(st.text())
def test_any_text_is_faults_or_a_clear_error(text: str) -> None:
    """No suffix can crash the simulator."""
    refused = None
    try:
        parse_faults(text)
    except SimError as error:
        refused = error.status
    assert refused in (None, 400)


def test_json_form() -> None:
    """The object form means the same as the text; `times` holds for all; false is off."""
    assert from_json({"status": 503, "retryafter": 2, "hang": False, "times": 2}) == (
        Fault("status", 503.0, 2),
        Fault("retryafter", "2", 2),
    )
    assert from_json({"cut": 1}) == (Fault("cut", 1.0),)
    assert from_json({"cut": True, "hang": None}) == (Fault("cut", 5.0), Fault("hang", None))
    for bad in (["503"], {"times": -1}, {"what": 1}, 5):
        with pytest.raises(SimError):
            from_json(bad)


def test_every_fault_can_be_written_bare() -> None:
    """A name alone means its default, for every row of the table."""
    for name in FAULTS:
        assert [fault.name for fault in parse_faults(name)] == [name]


def test_limited_faults_count_per_prompt() -> None:
    """`x1` fails once for every prompt, so that tests with prompts of their own do not disturb each other."""
    switches = FaultSwitches()
    brought = parse_faults("503x1")
    seen = [bool(switches.active("small+503x1", prompt, brought).names) for prompt in ("a", "a", "b", "a")]
    assert seen == [True, False, True, False]
    switches.clear()
    assert switches.active("small+503x1", "a", brought).names


def test_rules_match_model_and_prompt_and_count_over_all_calls() -> None:
    """A switched model fails for everybody, so many times; the request's own faults win over the rule."""
    switches = FaultSwitches()
    switches.set("large", parse_faults("503x2"), match="bad")
    assert not switches.active("large", "good", ()).names
    assert not switches.active("small", "bad", ()).names
    assert [switches.active("sim/large", f"bad {n}", ()).names for n in range(3)] == [["status"], ["status"], []]
    switches.set("*", parse_faults("500"))
    assert switches.active("any", "x", parse_faults("429")).number("status") == 429
    switches.set("*", ())
    assert not switches.active("any", "x", ()).names


def test_flapping_alternates() -> None:
    """A flapping model fails for one period, works for the next, and so on; clearing starts again."""
    now = [100.0]
    switches = FaultSwitches(lambda: now[0])
    faults = parse_faults("503+flap60")
    seen = []
    for now[0] in (100.0, 159.0, 161.0, 219.0, 221.0):
        seen.append("status" in switches.active("small", "x", faults))
    assert seen == [True, True, False, False, True]


def _stream(faults: str, pace: Timing = AT_ONCE) -> list[object]:
    return list(plan_stream(OpenAI(), FRAMES, Active(parse_faults(faults)), pace))


def test_unpaced_stream_is_one_write() -> None:
    """Benchmarks pay for one write per answer."""
    body = b"".join(frame.data for frame in FRAMES)
    assert _stream("", Timing(20)) == [Wait(20), Head(200, "text/event-stream", len(body)), Send(body)]


def test_paced_stream_waits_before_every_token_but_the_first() -> None:
    """The first token leaves with the headers after `first_ms`, each other one `token_ms` later."""
    steps = _stream("", Timing(100, 5))
    assert steps[0] == Wait(100)
    assert [step for step in steps if isinstance(step, Wait)] == [Wait(100), *[Wait(5)] * 3]
    assert b"".join(step.data for step in steps if isinstance(step, Send)) == b"".join(f.data for f in FRAMES)


def test_latency_fault_and_option_replace_the_pace() -> None:
    """The fault wins over the option, the option over the table."""
    assert timing(MODELS["small"], Active(), None).token_ms == 4
    assert timing(MODELS["small"], Active(), 20) == Timing(20)
    assert timing(MODELS["small"], Active(parse_faults("latency7")), 20) == Timing(7)
    assert timing(MODELS["small"], Active(parse_faults("firsttoken2000")), None).first_ms == 2000


@pytest.mark.parametrize(("fault", "tokens"), [("cut0", 0), ("cut99", 4)])
def test_cuts_at_either_end_of_a_stream_break_it(fault: str, tokens: int) -> None:
    """Before the first token, or behind the last one: nothing more is sent, and never the end."""
    steps = _stream(fault)
    sent = b"".join(step.data for step in steps if isinstance(step, Send))
    assert (sent.count(b'"t"'), sent.count(b"end"), steps[-1]) == (tokens, 0, Reset())
