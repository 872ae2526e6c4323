"""Own-label AP against explicit loops, and the thirds of labels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from landcue.errors import UsageError
from landcue.metrics import Protocol, annotate, evaluate, evaluate_distances
from landcue.metrics.own_label import cut_thirds

NAMES = list("abcde")


def average_precision(order, relevant):
    hits, total = 0, 0.0
    for rank, item in enumerate(order, 1):
        if item in relevant:
            hits += 1
            total += hits / rank
    return total / len(relevant)


def naive(distances, labels):
    """Mean over orders of the ties; every image queries the others."""
    n, columns = labels.shape
    out = np.full((n, columns), np.nan)
    for q, c in itertools.product(range(n), range(columns)):
        others = [i for i in range(n) if i != q]
        relevant = {i for i in others if labels[i, c]}
        if not labels[q, c] or not relevant:
            continue
        orders = [
            order
            for order in itertools.permutations(others)
            if all(distances[q, a] <= distances[q, b] for a, b in itertools.pairwise(order))
        ]
        out[q, c] = np.mean([average_precision(order, relevant) for order in orders])
    return out


@pytest.mark.parametrize("levels", [1, 3, 50])
def test_own_label_precision_is_the_mean_over_all_orders_of_ties(levels):
    rng = np.random.default_rng(levels)
    labels = (rng.random((6, 5)) < 0.5).astype(np.uint8)
    labels[:, 4] = [1, 0, 0, 0, 0, 0]  # nobody else carries it
    distances = rng.integers(0, levels, (6, 6)).astype(np.float32)
    distances[0] = np.arange(6)  # a ranking without ties among some that have them
    ids = [f"i{k}" for k in (3, 1, 5, 0, 4, 2)]  # not in the order of rows
    report = evaluate_distances(distances, annotate(ids, labels, NAMES))
    expected = naive(distances, labels)
    np.testing.assert_allclose(report.own_label, expected, atol=1e-12)
    for c, name in enumerate(NAMES[:4]):
        assert report.per_label[name].mean == pytest.approx(np.nanmean(expected[:, c]))
        assert report.per_label[name].n_query == np.isfinite(expected[:, c]).sum()
        chance = np.nanmean(naive(np.zeros((6, 6)), labels)[:, c])
        assert report.per_label[name].chance == pytest.approx(chance)
    assert report.per_label["e"].third == ""
    means = [report.per_label[name].mean for name in NAMES[:4]]
    assert report.macro["all"] == pytest.approx(np.mean(means))


def test_left_out_groups_are_not_found():
    labels = np.array([[1], [1], [1], [0]])
    images = annotate(list("wxyz"), labels, ["a"], ["g", "g", "h", "h"])
    distances = np.array([[0, 1, 3, 2], [1, 0, 3, 2], [1, 2, 0, 3], [1, 2, 3, 0]], np.float32)
    report = evaluate_distances(distances, images, protocol=Protocol("apart", exclude_group=True))
    assert report.own_label[:, 0] == pytest.approx([0.5, 0.5, 1.0, np.nan], nan_ok=True)


def test_own_label_precision_is_that_of_the_class_for_single_labels():
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(40, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    report = evaluate(vectors, np.arange(40) % 5, relevance="same-class")
    assert report.macro["all"] == pytest.approx(report.metrics["mAP"])


def test_rare_labels_show_where_any_shared_label_does_not():
    """All images share label a; label b is found or not, and only own-label AP sees it."""
    labels = np.ones((8, 2), np.uint8)
    labels[2:, 1] = 0
    near, far = np.ones((8, 8), np.float32), np.ones((8, 8), np.float32)
    near[0, 1] = near[1, 0] = 0
    far[0, 1] = far[1, 0] = 2
    found, missed = (evaluate_distances(d, labels) for d in (near, far))
    assert found.metrics["mAP"] == missed.metrics["mAP"] == 1
    assert found.per_label["label 1"].mean == 1
    assert missed.per_label["label 1"].mean == pytest.approx(1 / 7)


def test_thirds_follow_the_training_counts():
    labels = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    images = annotate(list("wxyz"), labels, ["a", "b", "c"])
    counts = {"c": 5, "a": 900, "b": 20}
    report = evaluate_distances(np.zeros((4, 4)), images, label_counts=counts)
    assert {name: score.third for name, score in report.per_label.items()} == {
        "a": "frequent", "b": "medium", "c": "rare",
    }  # fmt: skip
    with pytest.raises(UsageError, match="label_counts lack the label 'b'"):
        evaluate_distances(np.zeros((4, 4)), images, label_counts={"a": 1, "c": 2})


@pytest.mark.parametrize(
    ("counts", "thirds"),
    [
        ([1, 2, 3, 4, 5, 6, 7], "rrrmmff"),
        ([7, 7, 7], "mmm"),
        ([70, 70, 70, 71, 200, 300], "rrrmff"),
        ([1, 1, 1, 1, 9, 9], "rrrrff"),
        ([5], "r"),
    ],
)
def test_labels_with_equal_counts_are_in_one_third(counts, thirds):
    order = np.random.default_rng(0).permutation(len(counts))
    found = cut_thirds(np.array(counts)[order])
    assert "".join(found[list(order).index(i)][0] for i in range(len(counts))) == thirds


def test_own_labels_can_be_left_out_and_change_nothing_else():
    rng = np.random.default_rng(3)
    labels = (rng.random((30, 11)) < 0.3).astype(np.uint8)
    distances = rng.integers(0, 4, (30, 30)).astype(np.float32)
    full = evaluate_distances(distances, labels)
    short = evaluate_distances(distances, labels, per_label=False)
    assert not short.per_label
    assert not short.own_label.size
    for name, values in full.per_query.items():
        np.testing.assert_allclose(short.per_query[name], values, atol=1e-12, err_msg=name)
