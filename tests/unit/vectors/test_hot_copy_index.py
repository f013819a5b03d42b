"""The index of a large in-memory history: what it finds, when all vectors are compared, and that it keeps up."""

import threading
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.vectors.hot_copy import HotCopy, coordinates, kth_largest, largest, principal_directions
from infra.vectors.rows import HistoryRow, new_row
from modelpilot.requests.records import EXPLAINED_NEIGHBOURS, HistoryPoint, HistoryScope, Vector

DIMENSION, ROWS, NEAREST = 96, 3_000, 40
SCOPE = HistoryScope("alice", "r")


def units(vectors: Any) -> Vector:
    """Rows of length 1."""
    whole = np.asarray(vectors, np.float32)
    scaled: Vector = whole / np.linalg.norm(whole, axis=-1, keepdims=True)
    return scaled


def clustered(count: int, seed: int = 0) -> Vector:
    """Prompts as they come: thirty topics, of which some are asked more often, and in each of them all kinds."""
    draw = np.random.default_rng(seed)
    topics = np.random.default_rng(99).standard_normal((30, DIMENSION))
    spread = np.random.default_rng(98).standard_normal((DIMENSION, DIMENSION)) * 0.97 ** np.arange(DIMENSION)[:, None]
    chosen = topics[np.minimum(draw.exponential(8.0, count).astype(int), 29)]
    return units(chosen + 1.5 * draw.standard_normal((count, DIMENSION)) @ spread)


def rows_of(vectors: Vector) -> list[HistoryRow]:
    """A row per vector, in the order of their timestamps."""
    return [row(f"p{number}", vector, float(number)) for number, vector in enumerate(vectors)]


def row(name: str, vector: Vector, timestamp: float = 1e6) -> HistoryRow:
    """One outcome."""
    made = HistoryPoint(name, SCOPE, "m", name, vector, 100.0, 1.0, None, None, 10, 20, "chat", timestamp)
    return new_row(made, timestamp)


def filled(rows: Sequence[HistoryRow], *, index: bool = True, cap: int = 20_000) -> HotCopy:
    """A copy that holds these rows, and has an index from a thousand rows on that is built by the hundred."""
    copy = HotCopy(DIMENSION, cap, indexed_rows=1_000, block_products=300_000)
    copy.put(list(rows))
    if index:
        copy.build_index()
    return copy


def shares_found(vectors: Vector, asked: Vector) -> np.ndarray:
    """For each prompt, the share of its exact nearest rows that the index finds."""
    rows = rows_of(vectors)
    exact, indexed = filled(rows, index=False), filled(rows)
    assert indexed.numbers_read < exact.numbers_read
    found = []
    for vector in asked:
        right = exact.search(vector, NEAREST).timestamp  # of each row another one
        found.append(np.isin(right, indexed.search(vector, NEAREST).timestamp).mean())
    return np.array(found)


def test_nearly_all_of_the_nearest_are_found() -> None:
    """On data with topics; the loss is spread, so that no prompt is left without its neighbours."""
    shares = shares_found(clustered(ROWS), clustered(60, seed=1))
    assert shares.mean() > 0.98
    assert shares.min() > 0.85


def test_vectors_without_any_structure_are_no_worse() -> None:
    """Where directions tell nothing, the whole vectors are compared."""
    draw = np.random.default_rng(3)
    shares = shares_found(units(draw.standard_normal((ROWS, DIMENSION))), units(draw.standard_normal((30, DIMENSION))))
    assert shares.min() == 1.0


def test_a_rare_topic_is_not_lost_behind_a_common_one() -> None:
    """Ten prompts that have something in common with a large topic, and far more with each other."""
    draw, axes = np.random.default_rng(4), np.eye(DIMENSION)
    others = draw.standard_normal((ROWS, DIMENSION)) * (np.arange(DIMENSION) < DIMENSION - 8)
    others[:600] = axes[0] + 0.01 * others[:600]
    rare = 0.3 * axes[0] + 0.95 * axes[-1] + 0.01 * draw.standard_normal((11, DIMENSION))
    vectors = units(np.concatenate([others, rare[1:]]))
    found = filled(rows_of(vectors)).search(units(rare[0]), 10)
    assert set(found.timestamp) == set(range(ROWS, ROWS + 10))


def test_equal_vectors_tie_as_without_the_index() -> None:
    """One prompt a thousand times, and a whole history of one prompt: the lowest slots, however many are wanted."""
    vectors = clustered(ROWS)
    vectors[500:1_600] = vectors[7]
    for made in (vectors, np.repeat(vectors[:1], ROWS, axis=0)):
        rows = rows_of(made)
        exact, indexed = filled(rows, index=False), filled(rows)
        for limit in (1, NEAREST, 400):
            one, other = indexed.search(made[7], limit), exact.search(made[7], limit)
            assert one.timestamp.tolist() == other.timestamp.tolist()


def test_equal_vectors_are_not_copied_to_be_compared() -> None:
    """A shortlist of everything would take as much memory again as the copy, with every request."""
    copy = filled(rows_of(np.repeat(clustered(1), ROWS, axis=0)))
    tracemalloc.start()
    copy.search(clustered(1)[0], NEAREST)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < ROWS * DIMENSION * 4 / 2


def test_near_equal_vectors_are_as_near_as_the_nearest() -> None:
    """Which of a thousand hardly different prompts is found matters less than how near it is."""
    draw, vectors = np.random.default_rng(5), clustered(ROWS)
    vectors[500:1_600] = units(vectors[7] + 1e-3 * draw.standard_normal((1_100, DIMENSION)))
    rows = rows_of(vectors)
    exact, indexed = (filled(rows, index=index).search(vectors[7], NEAREST).similarity for index in (False, True))
    assert exact[0] == indexed[0]
    np.testing.assert_allclose(indexed, exact, atol=5e-5)


def test_similarities_are_those_of_the_whole_vectors() -> None:
    """The index chooses whom to compare; it does not guess how near they are."""
    vectors, asked = clustered(ROWS), clustered(1, seed=6)[0]
    found = filled(rows_of(vectors)).search(asked, NEAREST)
    whole = vectors[found.timestamp.astype(int)]
    np.testing.assert_array_equal(found.similarity, np.vecdot(whole, asked))
    assert np.all(np.diff(found.similarity) <= 0.0)


def test_a_row_is_told_by_its_model_and_the_nearest_by_their_requests() -> None:
    """Models as the rows that are here now have them, ids in the order in which a decision lists them."""
    vectors, asked = clustered(ROWS), clustered(1, seed=13)[0]
    rows = [replace(made, model=f"m{number % 7}") for number, made in enumerate(rows_of(vectors))]
    copy = filled(rows)
    copy.put([replace(made, model="new") for made in rows[::10]])
    found = copy.search(asked, NEAREST)
    numbers = found.timestamp.astype(int).tolist()
    assert [found.models[model] for model in found.model] == [f"m{n % 7}" if n % 10 else "new" for n in numbers]
    assert found.request_ids == tuple(f"p{number}" for number in numbers[:EXPLAINED_NEIGHBOURS])


def test_the_order_of_the_rows_changes_nothing() -> None:
    """Two gateways that loaded the same history in another order decide alike."""
    rows, asked = rows_of(clustered(ROWS)), clustered(30, seed=7)
    shuffled = [rows[place] for place in np.random.default_rng(8).permutation(ROWS)]
    first, second = filled(rows), filled(shuffled)
    for vector in asked:
        one, other = first.search(vector, NEAREST), second.search(vector, NEAREST)
        assert one.timestamp.tolist() == other.timestamp.tolist()
        assert one.similarity.tobytes() == other.similarity.tobytes()


def test_rows_that_come_later_are_found() -> None:
    """New, replaced and evicted rows, also where the matrix grows behind the index."""
    copy, asked = filled(rows_of(clustered(2_000)), cap=3_000), clustered(1, seed=9)[0]
    copy.put([row("new", asked)])
    assert copy.search(asked, 5).request_ids[0] == "new"
    copy.put([row("new", -asked)])
    assert 1e6 not in copy.search(asked, NEAREST).timestamp
    copy.put([row(f"later{number}", vector) for number, vector in enumerate(clustered(1_200, seed=10))])
    copy.put([row("last", asked, 2e6)])
    assert len(copy) == 3_000
    assert copy.search(asked, NEAREST).request_ids[0] == "last"
    assert copy.search(asked, 600).timestamp.min() >= 202.0  # the oldest made room


def test_the_index_is_built_while_rows_come_in() -> None:
    """Rows put in by the event loop while a thread works on the index are in it, wherever the thread stands."""
    early, late = clustered(ROWS), clustered(600, seed=11)
    copy = filled(rows_of(early), index=False)
    builder = threading.Thread(target=copy.build_index)
    builder.start()
    copy.put([row(f"late{number}", vector) for number, vector in enumerate(late)])
    builder.join()
    assert copy.numbers_read == len(copy) * DIMENSION // 3
    assert all(copy.search(vector, 3).request_ids[0] == f"late{number}" for number, vector in enumerate(late))
    assert all(copy.search(vector, 3).request_ids[0] == f"p{number}" for number, vector in enumerate(early))


def test_the_index_is_counted_and_small_copies_have_none() -> None:
    """A third of the vectors' memory, of which the bound on all copies knows."""
    rows = rows_of(clustered(ROWS))
    plain, indexed, small = filled(rows, index=False), filled(rows), filled(rows[:999])
    assert indexed.size_bytes - plain.size_bytes >= ROWS * DIMENSION // 3 * 4
    assert small.numbers_read == 999 * DIMENSION


def test_directions_are_orthonormal_and_the_leading_ones() -> None:
    """They hold as much of the sample as its best approximation of that rank, but for a twentieth."""
    sample = clustered(1_500)
    directions = principal_directions(sample, 20)
    np.testing.assert_allclose(directions @ directions.T, np.eye(20), atol=1e-5)
    best = np.linalg.svd(sample, compute_uv=False)[:20]
    assert np.square(coordinates(sample, directions)).sum() >= 0.95 * np.square(best).sum()


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=300), st.data())
def test_the_largest_are_all_that_are_at_least_the_smallest_of_them(numbers: list[int], data: st.DataObject) -> None:
    """Ties at the border come along, so that it does not matter where they stand."""
    values, count = np.array(numbers, np.float32), data.draw(st.integers(1, len(numbers)))
    least = sorted(numbers, reverse=True)[count - 1]
    assert kth_largest(values, count) == least
    assert largest(values, count).tolist() == [place for place, number in enumerate(numbers) if number >= least]


@pytest.mark.parametrize("count", [1, 7, 400])
def test_the_largest_are_found_wherever_they_stand(count: int) -> None:
    """Side by side, spread over the whole, or anywhere: no shortcut leaves one out."""
    ordered = np.arange(7_001, dtype=np.float32)
    for values in (ordered, ordered[::-1], np.random.default_rng(12).permutation(ordered)):
        assert kth_largest(values, count) == 7_001 - count
        assert sorted(values[largest(values, count)].tolist()) == list(range(7_001 - count, 7_001))
