from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brute_force
from landcue.metrics import measures
from landcue.metrics.ranking import TieRuns, one_group

KS = (1, 2, 3, 4, 5, 9)


def ours(groups, ks=KS):
    """All metrics of one query given as a list of tie groups of gains."""
    gains = np.array([[gain for group in groups for gain in group]], float)
    starts = np.zeros(gains.shape, bool)
    starts[0, np.cumsum([0, *(len(group) for group in groups[:-1])])] = True
    runs = TieRuns.of(starts)
    relevant = runs.collect(gains > 0)
    graded, exponential = runs.collect(gains), runs.collect(2**gains - 1)
    ordered = np.sort(gains)[:, ::-1]
    n_relevant = np.array([np.count_nonzero(gains)])
    return measured(relevant, graded, exponential, ordered, n_relevant, ks)


def measured(relevant, graded, exponential, ordered, n_relevant, ks):
    every = {
        ("AP", None): measures.average_precision(relevant, n_relevant),
        ("R-precision", None): measures.r_precision(relevant, n_relevant),
        ("MRR", None): measures.reciprocal_rank(relevant),
        ("ANMRR", None): measures.nmrr(relevant, n_relevant),
        ("WAP", None): measures.weighted_mean_gain(graded, None),
    }
    levels = -np.unique(-ordered)
    counts = np.array([[np.count_nonzero(ordered == level) for level in levels]])
    for k in ks:
        ideal = measures.ideal_dcg(2**levels - 1, counts, k)
        linear = measures.ideal_dcg(levels, counts, k)
        every |= {
            ("AP@k", k): measures.average_precision(relevant, n_relevant, k),
            **{
                (f"AP@k/{by}", k): measures.average_precision(relevant, n_relevant, k, by)
                for by in ("R", "hits", "k")
            },
            ("P", k): measures.precision(relevant, k),
            ("hit rate", k): measures.hit_rate(relevant, k),
            ("recall", k): measures.recall(relevant, n_relevant, k),
            ("ACG", k): measures.mean_gain(graded, k),
            ("nDCG", k): measures.dcg(exponential, k) / np.where(ideal > 0, ideal, 1),
            ("nDCG-linear", k): measures.dcg(graded, k) / np.where(linear > 0, linear, 1),
            ("WAP", k): measures.weighted_mean_gain(graded, k),
        }
    return {name: float(value[0]) for name, value in every.items()}


def test_a_ranking_worked_out_by_hand():
    # gains 2 0 1 0; R = 2.
    got = ours([[2], [0], [1], [0]])
    assert got["AP", None] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert got["AP@k", 1] == pytest.approx(1)  # min(1, R) = 1
    assert got["AP@k", 2] == pytest.approx(1 / 2)
    assert got["AP@k/R", 1] == pytest.approx(1 / 2)
    assert got["AP@k/hits", 2] == pytest.approx(1 / 1)  # one found, on rank 1
    assert got["AP@k/k", 4] == pytest.approx((1 + 2 / 3) / 4)
    # (2/1 + 1/log2(4)) / (2/1 + 1/log2(3))
    assert got["nDCG-linear", 4] == pytest.approx(2.5 / 2.6309297536)
    assert got["P", 4] == pytest.approx(2 / 4)
    assert got["P", 9] == pytest.approx(2 / 9)  # divided by k, though 4 items are all
    assert got["R-precision", None] == pytest.approx(1 / 2)
    assert got["recall", 2] == pytest.approx(1 / 2)
    assert got["MRR", None] == 1
    # K = 4; ranks 1 and 3, mean 2; (2 - 1.5) / (1.25 * 4 - 1.5) = 0.5 / 3.5
    assert got["ANMRR", None] == pytest.approx(1 / 7)
    assert got["ACG", 3] == pytest.approx(3 / 3)
    # DCG = 3/1 + 1/log2(4) = 3.5; ideal = 3/1 + 1/log2(3) = 3.63093
    assert got["nDCG", 4] == pytest.approx(3.5 / 3.6309297536)
    # ACG@1 = 2, ACG@3 = 1: mean 1.5
    assert got["WAP", 3] == pytest.approx(1.5)
    assert got["WAP", 2] == pytest.approx(2)


def test_a_tie_worked_out_by_hand():
    # One relevant item of gain 2 ties with an irrelevant one on ranks 1 and 2.
    got = ours([[2, 0]])
    assert got["AP", None] == pytest.approx((1 + 1 / 2) / 2)
    assert got["MRR", None] == pytest.approx(3 / 4)
    assert got["hit rate", 1] == pytest.approx(1 / 2)
    # K = 2; rank 1 -> 0, rank 2 -> (2 - 1) / (2.5 - 1) = 2/3
    assert got["ANMRR", None] == pytest.approx(1 / 3)
    # k = 1: WAP is 2 if the relevant item is first, else 0.
    assert got["WAP", 1] == pytest.approx(1)
    # k = 2: ACG@1 = 2, or ACG@2 = 1.
    assert got["WAP", 2] == pytest.approx(3 / 2)


def test_a_cut_off_that_divides_a_tie_makes_the_denominator_random():
    # Gain 1 first, then {3, 0} tie; k = 2. 3 drawn: (1 + 4/2) / 2 = 1.5; 0 drawn: 1 / 1 = 1.
    # The ratio of expectations would be (1 + 0.5 * 2) / 1.5 = 4/3 instead.
    assert ours([[1], [3, 0]])["WAP", 2] == pytest.approx(5 / 4)


TIED = [
    [[1, 0, 2, 0, 0, 3]],
    [[0, 0], [2, 0, 1], [0, 1]],
    [[1], [0], [3], [2], [0], [1]],
    [[0, 1, 1, 1], [0], [2, 2]],
    [[0], [0, 0, 0, 5], [1, 1]],
    [[2, 2, 2, 2, 2]],
    [[0, 0, 0]],
    [[0, 1], [0, 2], [0, 3]],
    [[3, 1, 0, 0, 2, 0, 1]],
]


@pytest.mark.parametrize("groups", TIED)
def test_values_are_means_over_all_orders_of_ties(groups):
    expected = brute_force.expectation(groups, KS)
    got = ours(groups)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


gain_groups = st.lists(
    st.lists(st.sampled_from([0, 0, 1, 2, 3]), min_size=1, max_size=4), min_size=1, max_size=3
).filter(lambda groups: sum(map(len, groups)) <= 8)


@settings(max_examples=60)
@given(gain_groups)
def test_values_are_means_over_all_orders_of_any_ties(groups):
    expected = brute_force.expectation(groups, KS)
    got = ours(groups)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("gains", [[1, 0, 2, 0, 0, 3], [0, 0, 1, 0], [1, 1], [0, 0], [2]])
def test_chance_is_the_mean_over_all_orders_of_the_gallery(gains):
    expected = brute_force.expectation([gains], KS)
    array = np.array([gains], float)
    size, count = np.array([len(gains)]), np.array([np.count_nonzero(gains)])
    relevant, graded, exponential = (
        one_group(size, count, values.sum(axis=1))
        for values in ((array > 0).astype(float), array, 2**array - 1)
    )
    got = measured(relevant, graded, exponential, np.sort(array)[:, ::-1], count, KS)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-12), name


def test_long_rankings_with_and_without_ties_agree_with_loops():
    rng = np.random.default_rng(0)
    gains = rng.choice([0, 0, 0, 1, 2, 3], 3000)
    expected = brute_force.by_name(gains.tolist(), int(np.count_nonzero(gains)), (100, 1000))
    plain = ours([[g] for g in gains], (100, 1000))
    # One tie of two equal gains changes no value but takes the way of tied rankings.
    place = int(np.flatnonzero(gains[1:] == gains[:-1])[-1])
    groups = [[g] for g in gains[:place]] + [list(gains[place : place + 2])]
    tied = ours(groups + [[g] for g in gains[place + 2 :]], (100, 1000))
    for name, value in expected.items():
        assert plain[name] == pytest.approx(value, rel=1e-10), name
        assert tied[name] == pytest.approx(value, rel=1e-10), name


def test_ties_of_a_large_gallery_keep_their_precision():
    # 100,000 items, 10 % relevant, in ties of two: against a sum over ranks in float64.
    rng = np.random.default_rng(1)
    gains = rng.random(100_000) < 0.1
    starts = np.zeros((1, gains.size), bool)
    starts[0, ::2] = True
    n_relevant = np.array([gains.sum()])
    groups = TieRuns.of(starts).collect(gains[None])
    pairs = gains.reshape(-1, 2)
    orders = [pairs, pairs[:, ::-1]]
    total = 0.0
    before = np.concatenate(([0], np.cumsum(pairs.sum(axis=1))[:-1]))
    start = np.arange(0, gains.size, 2)
    for order in orders:  # each pair contributes on its own, given what is before it
        total += np.sum(order[:, 0] * (before + 1) / (start + 1)) / 2
        total += np.sum(order[:, 1] * (before + order[:, 0] + 1) / (start + 2)) / 2
    got = measures.average_precision(groups, n_relevant)[0]
    assert got == pytest.approx(total / n_relevant[0], rel=1e-8)


def test_queries_of_one_block_do_not_mix():
    rng = np.random.default_rng(2)
    gains = rng.choice([0, 1, 2], (6, 12)) * np.array([1, 0, 1, 1, 0, 1])[:, None]
    starts = rng.random((6, 12)) < 0.5
    starts[:, 0] = True
    together = TieRuns.of(starts).collect(gains.astype(float))
    for row in range(6):
        alone = TieRuns.of(starts[row : row + 1]).collect(gains[row : row + 1].astype(float))
        for k in (None, 1, 5):
            assert measures.weighted_mean_gain(together, k)[row] == pytest.approx(
                measures.weighted_mean_gain(alone, k)[0]
            )
        assert measures.reciprocal_rank(together)[row] == pytest.approx(
            measures.reciprocal_rank(alone)[0]
        )
