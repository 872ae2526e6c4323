"""What holds for every ranking: bounds, bands, swaps, and the order of equal scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from landcue.metrics import evaluate_scores
from landcue.metrics.protocol import DCG_GAINS, DENOMINATORS, Protocol

RULES = Protocol(
    "every-v1", relevance="given", grades=("g2",), gain="judged", map_ks=(1, 3, 50),
    precision_ks=(1, 3, 50), hit_ks=(1, 3, 50), recall_ks=(1, 3, 50), ndcg_ks=(1, 3, 50),
    gain_ks=(1, 3, 50), denominators=DENOMINATORS, dcg_gains=DCG_GAINS,
)  # fmt: skip
QUOTIENTS = {m.name for m in RULES.metrics() if m.kind in ("WAP", "AP@k/hits")}
"""Means over what was found: one more weak hit lowers them, so they need not grow with swaps."""

MANY = settings(max_examples=60)
gain_rows = arrays.arrays(
    np.float64, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=st.integers(0, 3)
)


@st.composite
def cases(draw, most=3):
    judged = draw(gain_rows)
    scores = draw(arrays.arrays(np.float32, judged.shape, elements=st.integers(0, most)))
    return scores, judged


@MANY
@given(cases())
def test_scores_chance_and_bands_stay_in_bounds(case):
    scores, judged = case
    got = evaluate_scores(scores, judged, protocol=RULES, band=True)
    for metric in RULES.metrics():
        most = 3 if metric.kind in ("ACG", "WAP") else 1
        values = [got.metrics[metric.name], got.chance[metric.name], *got.bands[metric.name]]
        for value in values:
            assert np.isnan(value) or -1e-12 <= value <= most + 1e-12, metric.name


@MANY
@given(cases())
def test_the_band_holds_the_expectation(case):
    scores, judged = case
    got = evaluate_scores(scores, judged, protocol=RULES, band=True)
    for metric in RULES.metrics():
        if metric.name not in QUOTIENTS:
            low, high = got.bands[metric.name]
            if metric.family.falling:
                low, high = high, low
            value = got.metrics[metric.name]
            assert np.isnan(value) or low - 1e-12 <= value <= high + 1e-12, metric.name


@MANY
@given(cases(), st.randoms(use_true_random=False))
def test_permuting_equal_scores_changes_nothing(case, random):
    scores, judged = case
    moved = judged.copy()
    for row in range(len(scores)):
        for score in np.unique(scores[row]):
            places = np.flatnonzero(scores[row] == score)
            moved[row, places] = judged[row, random.sample(places.tolist(), len(places))]
    one = evaluate_scores(scores, judged, protocol=RULES, band=True)
    other = evaluate_scores(scores, moved, protocol=RULES, band=True)
    for name, values in one.per_query.items():
        np.testing.assert_allclose(other.per_query[name], values, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(other.bands[name], one.bands[name], atol=1e-12, err_msg=name)


@MANY
@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.data())
def test_a_better_item_moved_up_never_lowers_a_score(judged, data):
    place = data.draw(st.integers(0, len(judged) - 2))
    later = data.draw(st.integers(place + 1, len(judged) - 1))
    swapped = list(judged)
    swapped[place], swapped[later] = max(judged[place], judged[later]), min(
        judged[place], judged[later]
    )  # fmt: skip
    # The same multiset of gains, the larger one now in front.
    before = list(judged)
    before[place], before[later] = swapped[later], swapped[place]
    scores = np.arange(len(judged), 0, -1, dtype=np.float32)[None]
    worse = evaluate_scores(scores, np.array([before], float), protocol=RULES)
    better = evaluate_scores(scores, np.array([swapped], float), protocol=RULES)
    for metric in RULES.metrics():
        if metric.name not in QUOTIENTS:
            gained = better.metrics[metric.name] - worse.metrics[metric.name]
            gained = -gained if metric.family.falling else gained
            assert np.isnan(gained) or gained >= -1e-12, metric.name


@MANY
@given(cases(most=1), st.integers(2, 5))
def test_any_rising_change_of_scores_changes_nothing(case, factor):
    scores, judged = case
    one = evaluate_scores(scores, judged, protocol=RULES)
    other = evaluate_scores(scores.astype(np.float64) ** 3 * factor - 7, judged, protocol=RULES)
    for name, values in one.per_query.items():
        np.testing.assert_array_equal(other.per_query[name], values, err_msg=name)


@MANY
@given(cases())
def test_ties_in_the_order_of_ids_lie_within_the_band(case):
    scores, judged = case
    got = evaluate_scores(scores, judged, protocol=RULES, band=True)
    by_id = evaluate_scores(scores, judged, protocol=replace(RULES, ties="id"))
    for metric in RULES.metrics():
        if metric.name not in QUOTIENTS:
            low, high = sorted(got.bands[metric.name])
            value = by_id.metrics[metric.name]
            assert np.isnan(value) or low - 1e-12 <= value <= high + 1e-12, metric.name
