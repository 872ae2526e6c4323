"""Best and worst queries, confusions and the map, against plain loops."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from landcue.metrics.annotations import annotate
from landcue.metrics.distances import given
from landcue.metrics.protocol import Protocol
from landcue.report.embedding_map import categories, largest, make_map, principal_components
from landcue.report.evaluation import Evaluation, Space
from landcue.report.queries import (
    confusion,
    deciding_metric,
    extremes,
    first_hits,
    retrieve,
    wrong_first_hits,
)
from standard_protocol import evaluate


def tied_subject(protocol, n=14, n_query=None, seed=0):
    """Return a subject with few different distances, so that many images tie."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 3)) < 0.4
    ids = [f"{i:02}" for i in rng.permutation(n)]
    gallery = annotate(ids, labels, groups=[f"{i % 5}" for i in range(n)])
    rows = np.arange(n_query or n)
    query = annotate([ids[i] for i in rows], labels[rows], groups=[f"{i % 5}" for i in rows])
    distances = given(rng.integers(0, 4, (len(rows), n)).astype(np.uint8))
    scores = evaluate(query, gallery, distances, protocol=protocol, exclude_self=True)
    space = Space(scores, distances)
    about = {"searched": "space", "part": "test"}
    return Evaluation("s", about, query, gallery, {"space": space}, lambda _: {})


def ranked(subject, row):
    """Return the gallery rows that a query may find, by (distance, id)."""
    distances = subject.main.distances.rows(slice(row, row + 1))[0]
    group = subject.main.scores.protocol.exclude_group
    may = [
        column
        for column, name in enumerate(subject.gallery.ids)
        if name != subject.query.ids[row]
        and not (group and subject.gallery.groups[column] == subject.query.groups[row])
    ]
    return sorted(may, key=lambda column: (distances[column], subject.gallery.ids[column]))


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("n_query", [14, 5])
def test_hits_are_in_the_order_of_distance_and_id(exclude, n_query):
    subject = tied_subject(Protocol("p", exclude_group=exclude), n_query=n_query)
    rows = range(n_query)
    found = retrieve(subject, subject.main, rows, 6)
    for row, one in zip(rows, found, strict=True):
        assert list(one.hits) == ranked(subject, row)[:6]
        distances = subject.main.distances.rows(slice(row, row + 1))[0]
        assert list(one.distances) == [distances[hit] for hit in one.hits]
    for part, hits, real in first_hits(subject, subject.main, 99):
        for row in range(n_query)[part]:
            line = hits[row - part.start][real[row - part.start]]
            assert line.tolist() == ranked(subject, row)


def test_extremes_are_sorted_apart_and_various():
    labels = [[1, 0], [1, 0], [0, 1], [1, 1], [0, 1], [1, 1], [1, 0]]
    images = annotate(list("abcdefg"), labels)
    values = np.array([0.9, 0.9, 0.8, 0.1, 0.3, np.nan, 0.2])
    assert extremes(values, images, 2) == ([0, 2], [3, 6])
    assert extremes(values, images, 9) == ([0, 1, 2], [3, 6, 4])
    assert extremes(values, images, 2, falling=True) == ([3, 6], [0, 2])
    assert extremes(np.full(7, np.nan), images, 3) == ([], [])
    assert extremes(np.array([0.5]), annotate(["a"], [[1]]), 3) == ([0], [])


def test_the_deciding_metric_is_graded_and_deep_where_there_is_one():
    assert deciding_metric(Protocol("p", ndcg_ks=(10, 100, 20))).name == "nDCG@100"
    assert deciding_metric(Protocol("p", ndcg_ks=())).name == "mAP"


@pytest.mark.parametrize("n_query", [14, 6])
def test_confusions_are_counts_of_hits(n_query):
    subject = tied_subject(Protocol("p"), n_query=n_query, seed=4)
    k, asked, held = 4, subject.query.labels, subject.gallery.labels
    found = confusion(subject, subject.main, k)
    for c in range(3):
        carrying = [row for row in range(n_query) if asked[row, c]]
        assert found.n_query[c] == len(carrying)
        if not carrying:
            assert np.isnan(found.missed[c])
            continue
        for hits_of, missed, instead in (
            (lambda row: ranked(subject, row)[:k], found.missed, found.instead),
            (lambda row: ranked(subject, row), found.chance_missed, found.chance),
        ):
            lacking = [[hit for hit in hits_of(row) if not held[hit, c]] for row in carrying]
            shares = [len(hits) / len(hits_of(row))
                      for row, hits in zip(carrying, lacking, strict=True)]  # fmt: skip
            assert missed[c] == pytest.approx(np.mean(shares))
            for d in range(3):
                shares = [
                    sum(held[hit, d] and not asked[row, d] for hit in hits) / len(hits_of(row))
                    for row, hits in zip(carrying, lacking, strict=True)
                ]
                assert instead[c, d] == pytest.approx(np.mean(shares))
    assert found.worst(3) == sorted(range(3), key=lambda c: (-found.missed[c], found.names[c]))


def test_wrong_first_hits_share_no_label():
    subject = tied_subject(Protocol("p"), seed=5)
    values = subject.main.scores.per_query["mAP"]
    expected = [
        row
        for row in range(14)
        if np.isfinite(values[row])
        and not (subject.query.labels[row] & subject.gallery.labels[ranked(subject, row)[0]]).any()
    ]
    wrong = wrong_first_hits(subject, values)
    assert sorted(wrong) == expected
    assert expected
    assert np.all(np.diff(values[wrong]) >= 0)


def test_principal_components_span_the_most_variance_and_fix_their_sign():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)) * (9, 5, 1, 1, 1, 1)
    points, shares = principal_components(vectors)
    values, directions = np.linalg.eigh(np.cov(vectors.T))
    assert shares == pytest.approx(tuple(values[::-1][:2] / values.sum()))
    exact = (vectors - vectors.mean(axis=0)) @ directions[:, ::-1][:, :2]
    assert np.abs(points) == pytest.approx(np.abs(exact))
    assert principal_components(vectors[:, ::-1])[0] == pytest.approx(points)
    flat, shares = principal_components(np.ones((4, 1)))
    assert flat == pytest.approx(0)
    assert shares == (0, 0)


def test_a_map_has_limited_points_and_one_outcome_per_seed():
    vectors = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    space = Space(None, given(np.zeros((1, 1), np.float32)), floats=vectors)
    made = make_map(space, seed=4, method="pca")
    assert len(made.points) == len(set(made.rows.tolist())) == 1500
    assert "principal components" in made.method
    again = make_map(space, seed=4, method="pca")
    assert np.array_equal(made.points, again.points)
    assert not np.array_equal(made.rows, make_map(space, seed=5, method="pca").rows)
    if importlib.util.find_spec("umap") is None:
        assert make_map(space, seed=4).method == made.method


def test_images_are_colored_by_group_or_else_by_a_telling_label():
    grouped = annotate(["a", "b", "c", "d"], np.eye(4), groups=["x", "y", "x", None])
    assert categories(grouped) == (["x", "y", "x", "none"], "group")
    labels = [[1, 0], [1, 1], [1, 0], [0, 0]]
    names, what = categories(annotate(["a", "b", "c", "d"], labels, ["often", "seldom"]))
    assert names == ["often", "seldom", "often", "none of these"]
    assert "rarest label" in what
    assert largest(["b", "a", "b", "c"], 2) == ["a", "b"]
