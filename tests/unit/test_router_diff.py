"""What differs between two versions of a router."""

from hypothesis import given
from hypothesis import strategies as st

from modelpilot.router_diff import FieldChange, added_and_removed, differences

BODIES = st.dictionaries(st.text("abc", min_size=1), st.none() | st.integers() | st.lists(st.integers()), max_size=5)


def test_changes_are_named_by_their_field() -> None:
    """Nested fields have a dotted name; what is new or gone has no other side; equal fields are left out."""
    before = {"mode": "smartRouter", "objective": {"costWeight": 1, "qualityWeight": 0}, "gone": 1}
    after = {"mode": "smartRouter", "objective": {"costWeight": 0.4, "qualityWeight": 0}, "fresh": ["a"]}
    assert differences(before, after) == (
        FieldChange("objective.costWeight", 1, 0.4),
        FieldChange("fresh", None, ["a"]),
        FieldChange("gone", 1, None),
    )


@given(BODIES, BODIES)
def test_differences_turn_round(before: dict[str, object], after: dict[str, object]) -> None:
    """Equal bodies have none, and the way back has the same fields with their sides exchanged."""
    assert differences(before, before) == ()
    there = {(one.field, repr(one.before), repr(one.after)) for one in differences(before, after)}
    back = {(one.field, repr(one.after), repr(one.before)) for one in differences(after, before)}
    assert there == back


def test_lists_say_what_came_and_went() -> None:
    """Models that are new and that are gone; another order is neither."""
    assert added_and_removed(["a", "b"], ["b", "c"]) == (("c",), ("a",))
    assert added_and_removed(["a", "b"], ["b", "a"]) == ((), ())
