"""Tests over splits and seeds, clustered intervals, and search by radius."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from landcue.errors import UsageError
from landcue.metrics import (
    annotate,
    compare,
    compare_over_splits,
    evaluate,
    find_protocol,
    hamming,
    holm,
    radius_scores,
    relevant,
)
from landcue.metrics.intervals import student_p, student_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 7, 30, 400])
@pytest.mark.parametrize("t", [0.0, 0.1, 1.0, -2.5, 8.0, 60.0])
def test_student_p_is_that_of_scipy(t, freedom):
    assert student_p(t, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), abs=1e-9)
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


def test_disjoint_splits_give_the_paired_t_test():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 6))
    found = compare_over_splits(first, second)
    expected = stats.ttest_rel(first, second)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    interval = expected.confidence_interval()
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_overlapping_training_parts_widen_the_interval():
    scores = [0.80, 0.83, 0.79, 0.85], [0.79, 0.80, 0.78, 0.83]
    differences = np.subtract(*scores)
    found = compare_over_splits(*scores, test_share=0.25)
    error = math.sqrt((1 / 4 + 0.25) * differences.var(ddof=1))
    p = 2 * stats.t.sf(differences.mean() / error, 3)
    assert found.p_value == pytest.approx(p)
    assert found.p_value > compare_over_splits(*scores).p_value


def test_training_noise_is_apart_from_the_splits():
    first = np.array([[0.8, 0.9], [0.7, 0.7], [0.6, 0.8]])
    found = compare_over_splits(first, np.full((3, 2), 0.5))
    differences = first - 0.5
    assert found.training_noise == pytest.approx(np.sqrt(np.var(differences, 1, ddof=1).mean()))
    assert found.between_splits == pytest.approx(np.std(differences.mean(1), ddof=1))
    assert (found.n_split, found.n_seed) == (3, 2)
    alone = compare_over_splits(first[:1], first[:1] - 0.1)
    assert alone.difference == pytest.approx(0.1)
    assert math.isnan(alone.p_value)


@pytest.mark.parametrize(
    ("first", "second", "share", "word"),
    [
        ([0.1, 0.2], [0.1], 0.0, r"\[2\] against \[1\]"),
        ([0.1, math.nan], [0.1, 0.2], 0.0, "not finite"),
        ([0.1, 0.2], [0.1, 0.2], -1.0, "test_share"),
        ([], [], 0.0, "pass"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(first, second, share, word):
    with pytest.raises(UsageError, match=word):
        compare_over_splits(first, second, test_share=share)


def test_holm_is_the_step_down_correction():
    p = {"a": 0.01, "b": 0.012, "c": 0.5, "d": math.nan, "e": 0.03}
    adjusted = holm(p)
    assert adjusted["a"] == pytest.approx(0.04)
    assert adjusted["b"] == pytest.approx(0.04)  # 0.036 is below the one before it
    assert adjusted["e"] == pytest.approx(0.06)
    assert adjusted["c"] == 0.5
    assert math.isnan(adjusted["d"])


def test_queries_that_move_together_have_a_wider_interval():
    rng = np.random.default_rng(1)
    of = np.repeat(np.arange(10), 20)
    ours = rng.normal(size=10)[of] + 0.1 * rng.normal(size=200)
    theirs = np.zeros(200)
    alone, joined = compare([ours], [theirs]), compare([ours], [theirs], clusters=[of])
    assert joined.difference == alone.difference
    width = [c.interval[1] - c.interval[0] for c in (alone, joined)]
    # Clusters of equal size: the error is that of the mean of the 10 cluster means.
    means = ours.reshape(10, 20).mean(1)
    expected = 2 * 1.96 * np.std(means) / math.sqrt(10)
    assert width[1] == pytest.approx(expected, rel=0.1)
    assert width[1] > 3 * width[0]
    assert joined.p_value > alone.p_value


def test_a_cluster_for_every_query_is_no_cluster():
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(0.2, 1, 60), rng.normal(size=60)
    alone = compare([ours], [theirs])
    joined = compare([ours], [theirs], clusters=[np.arange(60)])
    assert joined.interval == pytest.approx(alone.interval, abs=0.03)
    assert joined.p_value == pytest.approx(alone.p_value, abs=0.02)


@pytest.mark.parametrize(
    ("clusters", "word"),
    [([[0, 1]], "2 clusters for 3"), ([[0, 0, 0]], "one cluster"), ([], "clusters of 0 runs")],
)
def test_clusters_that_do_not_fit_are_refused(clusters, word):
    values = np.array([0.1, 0.2, 0.4])
    with pytest.raises(UsageError, match=word):
        compare([values], [values / 2], clusters=clusters)


@pytest.mark.parametrize("radius", [0, 2, 5])
def test_scores_at_a_radius_equal_loops(radius):
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 4, (30, 1)).astype(np.uint8) * 9
    labels = (rng.random((30, 4)) < 0.4).astype(np.uint8)
    images = annotate([f"i{(k * 7) % 30:02}" for k in range(30)], labels)
    found = radius_scores(images, images, hamming(codes, codes, 8), find_protocol("ml-retrieval"),
                          radius)  # fmt: skip
    shares, recalls, counts = [], [], []
    common = relevant(labels, labels)
    for q in range(30):
        within = [i for i in range(30)
                  if i != q and int(codes[q, 0] ^ codes[i, 0]).bit_count() <= radius]  # fmt: skip
        hits = sum(common[q, i] for i in within)
        wanted = common[q].sum() - common[q, q]
        shares.append(hits / len(within) if within else 0.0)
        counts.append(len(within))
        if wanted:
            recalls.append(hits / wanted)
    assert found.precision == pytest.approx(np.mean(shares))
    assert found.recall == pytest.approx(np.mean(recalls))
    assert found.returned == pytest.approx(np.mean(counts))
    assert found.empty == np.mean(np.array(counts) == 0)


def test_both_gains_stand_side_by_side():
    """2^g - 1 rewards images with many labels, Jaccard overlap punishes them."""
    labels = np.array([[1, 1, 0, 0, 0], [1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1]])
    vectors = np.eye(4)
    report = evaluate(vectors, labels, protocol="ml-papers-v1")
    names = ["nDCG@100", "nDCG@100(jaccard)", "WAP@100(jaccard)", "mAP", "mAP@20", "P@50"]
    assert all(name in report.metrics for name in names)
    definition = report.protocol.definitions()["nDCG@100(jaccard)"]
    assert "shared labels over labels of either" in definition
    plain = find_protocol("ml-retrieval-v1")
    assert "nDCG@100(jaccard)" not in plain.definitions()
    assert plain.fingerprint == find_protocol("ml-retrieval").fingerprint
