"""How much feedback counts: nobody speaks for everybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelpilot.learning.feedback import (
    KEY_SHARE,
    PRIOR_SCORE,
    PRIOR_WEIGHT,
    SOURCE_FLOOR,
    SOURCE_SHARE,
    SourceTotal,
    Trust,
    capped_weights,
    score_of,
    trust,
)

counts = st.dictionaries(st.integers(0, 60), st.floats(0.0, 1e6), max_size=40)


def said(key: str, source: str, count: int, score: float) -> SourceTotal:
    return SourceTotal(key, source, count, score * count)


def weights(trusted: Trust, totals: list[SourceTotal]) -> dict[tuple[str, str], float]:
    return {(t.api_key, t.source): trusted.shares[t.api_key, t.source] * t.count for t in totals}


@given(counts, st.floats(0.01, 0.9), st.floats(0.0, 100.0))
def test_no_weight_is_above_its_share_of_what_counts(said_by: dict[int, float], share: float, floor: float) -> None:
    """The cap is a share of the capped sum, whatever anybody says, or the floor."""
    capped = capped_weights(said_by, share, floor)
    limit = max(floor, share * sum(capped.values()))
    assert all(weight <= limit * (1 + 1e-9) + 1e-9 for weight in capped.values())
    assert all(0.0 <= capped[name] <= said_by[name] for name in said_by)


@given(counts, st.floats(0.01, 0.9), st.floats(0.0, 100.0))
def test_the_cap_takes_no_more_than_it_must(said_by: dict[int, float], share: float, floor: float) -> None:
    """Whoever is capped stands at the limit: honest sources lose nothing that the rule lets them keep."""
    capped = capped_weights(said_by, share, floor)
    limit = max(floor, share * sum(capped.values()))
    for name, weight in capped.items():
        assert weight == said_by[name] or weight == pytest.approx(limit, rel=1e-6, abs=1e-6)


def test_a_source_that_says_a_thousand_times_as_much_counts_a_tenth() -> None:
    """Twenty honest people with ten ratings each against one with ten thousand: 10 % of what counts is his."""
    capped = capped_weights({**{f"user{i}": 10.0 for i in range(20)}, "loud": 10_000.0}, SOURCE_SHARE, SOURCE_FLOOR)
    assert capped["loud"] == pytest.approx(0.1 * sum(capped.values()))
    assert capped["user3"] == 10.0


def test_few_ratings_count_fully() -> None:
    """Where there are few sources a tenth would be nothing: five ratings of each count."""
    totals = [said("key", "ann", 5, 1.0), said("key", "bob", 3, 0.0)]
    assert trust(totals).shares == {("key", "ann"): 1.0, ("key", "bob"): 1.0}


def test_one_client_cannot_poison_a_router() -> None:
    """The scenario: 30 people find a model good (0.9), one sends 5,000 times 0. The mean over all requests stays near
    what the 30 say, though almost all requests are the attacker's."""
    honest = [said("shop", f"user{i}", 10, 0.9) for i in range(30)]
    attack = said("shop", "mallory", 5_000, 0.0)
    trusted = trust([*honest, attack])
    requests = [(t, trusted.tempered(t.api_key, t.source, t.score_sum / t.count)) for t in [*honest, attack]]
    mean = sum(t.count * score for t, score in requests) / sum(t.count for t, _ in requests)
    assert mean > 0.75
    assert trusted.tempered("shop", "user1", 0.9) == 0.9  # what honest people say is left as it is
    assert trusted.tempered("shop", "mallory", 0.0) > 0.7  # each lie counts for almost nothing


def test_a_key_that_makes_up_users_counts_no_more_than_the_others_together() -> None:
    """End users are what a key says they are: a thousand invented ones outweigh nobody else's key."""
    honest = [said("shop", f"user{i}", 10, 1.0) for i in range(20)]
    forged = [said("leaked", f"fake{i}", 10, 0.0) for i in range(1_000)]
    trusted = trust([*honest, *forged])
    by_name = weights(trusted, [*honest, *forged])
    shop = sum(weight for (key, _), weight in by_name.items() if key == "shop")
    leaked = sum(weight for (key, _), weight in by_name.items() if key == "leaked")
    assert shop == pytest.approx(200.0)
    assert leaked <= shop * (1 + 1e-9)
    assert trusted.consensus >= KEY_SHARE - 0.01


def test_a_lone_loud_source_does_not_decide_alone() -> None:
    """With nobody to compare with, what goes beyond the floor counts half as nothing known."""
    trusted = trust([said("key", "", 1_000, 0.0)])
    assert trusted.consensus == pytest.approx(PRIOR_SCORE * PRIOR_WEIGHT / (SOURCE_FLOOR + PRIOR_WEIGHT))
    assert trusted.shares["key", ""] == pytest.approx(SOURCE_FLOOR / 1_000)


totals = st.lists(
    st.builds(said, st.sampled_from("ab"), st.sampled_from("uvwxyz"), st.integers(1, 5_000), st.floats(0.0, 1.0)),
    unique_by=lambda total: (total.api_key, total.source),
    max_size=12,
)


@given(totals)
def test_everything_stays_between_nothing_and_all(said_by: list[SourceTotal]) -> None:
    """Shares are in (0, 1], and a tempered score is a score."""
    trusted = trust(said_by)
    assert 0.0 <= trusted.consensus <= 1.0
    for total in said_by:
        assert 0.0 < trusted.shares[total.api_key, total.source] <= 1.0 + 1e-9
        assert 0.0 <= trusted.tempered(total.api_key, total.source, 1.0) <= 1.0 + 1e-9


@given(totals)
def test_the_order_in_which_people_speak_does_not_matter(said_by: list[SourceTotal]) -> None:
    """The same feedback gives the same trust, however the database returns it."""
    one, other = trust(said_by), trust(said_by[::-1])
    assert one.consensus == pytest.approx(other.consensus)
    assert one.shares == pytest.approx(other.shares)


def test_thumbs_are_scores() -> None:
    """Up is right, down is wrong."""
    assert (score_of("up"), score_of("down")) == (1.0, 0.0)
