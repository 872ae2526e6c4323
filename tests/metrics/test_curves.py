"""Curves against plain loops over every order of the ties, and against the metrics."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from landcue.errors import UsageError
from landcue.metrics.annotations import annotate
from landcue.metrics.curves import compute_curves, cutoffs, radius_scores
from landcue.metrics.distances import given
from landcue.metrics.protocol import Protocol
from standard_protocol import evaluate

PROTOCOL = Protocol("test", precision_ks=(1, 3, 6), recall_ks=(2, 5), ndcg_ks=(4, 6), map_ks=())


def world(seed=0, n_query=3, n=6, ties=3, **options):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < 0.4
    asked = rng.random((n_query, 3)) < 0.5
    query = annotate([f"q{i}" for i in range(n_query)], asked, **options)
    gallery = annotate([f"g{i}" for i in range(n)], labels, **options)
    matrix = rng.integers(0, ties, (n_query, n)).astype(np.uint16)
    return query, gallery, matrix


def all_orders(distances):
    """Return every order of the rows that keeps the distances rising."""
    groups = [np.flatnonzero(distances == d).tolist() for d in np.unique(distances)]
    for parts in itertools.product(*(list(itertools.permutations(g)) for g in groups)):
        yield [row for part in parts for row in part]


def naive_by_k(shared, distances, k):
    """Return P@k, recall@k and nDCG@k of one query by loops, as means over all orders."""
    n_relevant = sum(s > 0 for s in shared)
    best = sorted(shared, reverse=True)

    def dcg(gains):
        return sum((2**g - 1) / math.log2(r + 1) for r, g in enumerate(gains[:k], 1))

    values = []
    for order in all_orders(distances):
        gains = [shared[row] for row in order]
        hits = sum(g > 0 for g in gains[:k])
        rest = (hits / n_relevant, dcg(gains) / dcg(best)) if n_relevant else (math.nan,) * 2
        values.append((hits / k, *rest))
    return np.mean(values, axis=0)


def naive_precision(shared, distances, level):
    """Return the largest mean P@k over the k whose mean recall reaches the level."""
    n_relevant = sum(s > 0 for s in shared)
    means = [naive_by_k(shared, distances, k)[:2] for k in range(1, len(shared) + 1)]
    return max(p for p, recall in means if recall * n_relevant >= level * n_relevant - 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_curves_are_means_over_all_orders_of_ties(seed):
    query, gallery, matrix = world(seed)
    shared = query.labels.astype(int) @ gallery.labels.T
    found = compute_curves(query, gallery, given(matrix), PROTOCOL, np.arange(1, 7))
    for k in range(1, 7):
        each = np.array([naive_by_k(s, d, k) for s, d in zip(shared, matrix, strict=True)])
        random = np.array([naive_by_k(s, np.zeros(6), k) for s in shared])
        for column, kind in enumerate(("P", "recall", "nDCG")):
            curve = found.by_k[kind]
            assert curve.mean[k - 1] == pytest.approx(np.nanmean(each[:, column]), abs=1e-12)
            assert curve.chance[k - 1] == pytest.approx(np.nanmean(random[:, column]), abs=1e-12)
    some = [row for row in range(3) if shared[row].any()]
    for place in (0, 10, 33, 50, 67, 100):
        expected = [naive_precision(shared[r], matrix[r], place / 100) for r in some]
        assert found.precision_recall.mean[place] == pytest.approx(np.mean(expected), abs=1e-12)
    share = np.mean([(shared[r] > 0).mean() for r in some])
    assert found.precision_recall.chance == pytest.approx(share)


def test_curves_pass_through_the_metrics():
    rng = np.random.default_rng(5)
    images = annotate([f"{i:03}" for i in range(90)], rng.random((90, 5)) < 0.15)
    distances = given(rng.integers(0, 9, (90, 90)).astype(np.uint8))
    scores = evaluate(images, images, distances, protocol=PROTOCOL)
    found = compute_curves(images, images, distances, PROTOCOL)
    assert scores.counts["n_without_relevant"] > 0
    for metric in PROTOCOL.metrics():
        if metric.kind in found.by_k:
            curve = found.by_k[metric.kind]
            place = np.flatnonzero(curve.x == metric.k).item()
            assert curve.mean[place] == pytest.approx(scores.metrics[metric.name], abs=1e-12)
            assert curve.chance[place] == pytest.approx(scores.chance[metric.name], abs=1e-12)
    assert np.all(np.diff(found.precision_recall.mean) <= 1e-12)


def test_a_perfect_ranking_has_precision_one_at_every_recall():
    labels = np.repeat(np.eye(2), 4, axis=0)
    images = annotate([f"{i}" for i in range(8)], labels)
    distances = given(1 - labels @ labels.T)
    found = compute_curves(images, images, distances, PROTOCOL)
    assert found.precision_recall.mean == pytest.approx(1)
    assert found.precision_recall.chance == pytest.approx(3 / 7)


def test_groups_and_the_rule_for_ties_are_kept():
    query, gallery, matrix = world(1, n_query=4, n=12, ties=2, groups=())
    by_id = Protocol("ids", ties="id", precision_ks=(4,), map_ks=())
    scores = evaluate(query, gallery, given(matrix), protocol=by_id)
    curve = compute_curves(query, gallery, given(matrix), by_id).by_k["P"]
    assert curve.mean[np.flatnonzero(curve.x == 4)] == pytest.approx(scores.metrics["P@4"])
    expectation = compute_curves(query, gallery, given(matrix), PROTOCOL).by_k["P"]
    assert not np.allclose(curve.mean, expectation.mean)


def test_queries_without_relevant_images_give_nan_and_no_precision():
    images = annotate(["a", "b"], [[1, 0], [0, 1]])
    found = compute_curves(images, images, given(np.zeros((2, 2), np.uint8)), PROTOCOL)
    assert np.isnan(found.precision_recall.mean).all()
    assert np.isnan(found.by_k["nDCG"].mean).all()
    assert found.by_k["P"].mean == pytest.approx(0)
    unlabeled = annotate(["a", "b"], np.zeros((2, 3)))
    found = compute_curves(unlabeled, unlabeled, given(np.zeros((2, 2), np.uint8)), PROTOCOL)
    assert np.isnan(found.by_k["recall"].mean).all()


def test_cutoffs_rise_to_the_gallery_and_hold_the_protocols_own():
    ks = cutoffs(1000, PROTOCOL)
    assert ks[0] == 1
    assert ks[-1] == 1000
    assert np.all(np.diff(ks) > 0)
    assert {1, 2, 3, 4, 5, 6} <= set(ks.tolist())
    assert len(ks) < 60
    assert cutoffs(1, PROTOCOL).tolist() == [1]


@pytest.mark.parametrize("ks", [[0], [7], [3, 7], []])
def test_cutoffs_beyond_the_gallery_are_refused(ks):
    query, gallery, matrix = world(0)
    with pytest.raises(UsageError, match="pass 1 to 6"):
        compute_curves(query, gallery, given(matrix), PROTOCOL, np.array(ks, int))


@pytest.mark.parametrize("measure", [compute_curves, radius_scores])
def test_distances_of_other_images_are_refused(measure):
    query, gallery, matrix = world(0)
    for wrong in (np.vstack([matrix, matrix]), matrix[:-1], matrix[:, :-1]):
        with pytest.raises(UsageError, match="pass the same images for both"):
            measure(query, gallery, given(wrong), PROTOCOL)
