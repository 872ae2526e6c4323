"""landcue.metrics as its users call it: arrays in, a report out."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys

import numpy as np
import pytest

from landcue import metrics
from landcue.errors import UsageError


def unit(n, seed=0, dim=6):
    vectors = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def multi_hot(n, seed=0, labels=4):
    return (np.random.default_rng(seed).random((n, labels)) < 0.4).astype(int)


def test_arrays_alone_give_what_annotations_give():
    vectors, labels = unit(30), multi_hot(30)
    named = metrics.annotate([f"{i:09}" for i in range(30)], labels)
    plain = metrics.evaluate(vectors, labels, protocol="ml-retrieval-v1")
    assert plain.to_json() == metrics.evaluate(vectors, named, protocol="ml-retrieval").to_json()
    assert plain.counts["n_gallery"] == 30
    assert plain.exclude_self


def test_cutoffs_and_relevance_are_those_asked_for():
    vectors, labels = unit(30), multi_hot(30)
    report = metrics.evaluate(vectors, labels, ks=(3, 7), relevance="exact")
    for family in ("mAP", "P", "hit rate", "recall"):
        assert {f"{family}@3(exact)", f"{family}@7(exact)"} <= set(report.metrics)
    assert {"nDCG@3", "nDCG@7", "ACG@7", "WAP@3"} <= set(report.metrics)
    relevant = metrics.relevant(labels, labels, "exact") & ~np.eye(30, dtype=bool)
    near = np.argsort(np.where(np.eye(30, dtype=bool), -2, vectors @ vectors.T), axis=1)[:, ::-1]
    counted = relevant.any(axis=1)
    first = np.take_along_axis(relevant, near[:, :3], axis=1)[counted]
    assert report.metrics["hit rate@3(exact)"] == pytest.approx(first.any(axis=1).mean())
    shares = first.sum(axis=1) / relevant[counted].sum(axis=1)
    assert report.metrics["recall@3(exact)"] == pytest.approx(shares.mean())


def test_classes_are_labels():
    vectors, classes = unit(20), np.arange(20) % 3
    report = metrics.evaluate(vectors, classes, relevance="same-class")
    assert report.metrics == metrics.evaluate(vectors, np.eye(3)[classes]).metrics


def test_two_collections_may_use_the_same_ids():
    """Query 0 and items 0 and 1, which tie, 1 relevant: the mean of 1 and 1/2."""
    run, qrels = {"0": [("0", 1.0), ("1", 1.0)]}, {"0": {"1": 1}}
    assert metrics.evaluate_run(run, qrels, ragged=True).metrics["mAP"] == 0.75
    same = metrics.evaluate_run(run, qrels, ragged=True, exclude_self=True)
    assert same.metrics["mAP"] == 1
    scores, gains, ids = np.ones((1, 2)), np.array([[0, 1]]), ["0", "1"]
    asked = {"query_ids": ids[:1], "gallery_ids": ids}
    assert metrics.evaluate_scores(scores, gains, **asked).metrics["mAP"] == 0.75
    own = metrics.evaluate_scores(scores, gains, **asked, exclude_self=True)
    assert own.metrics["mAP"] == 1
    distances, query, items = np.zeros((1, 2)), metrics.annotate(["0"], [[1]]), [[0], [1]]
    gallery = metrics.annotate(ids, items)
    assert metrics.evaluate_distances(distances, query, gallery).metrics["mAP"] == 0.75
    assert metrics.evaluate_distances(distances, [[1]], items).metrics["mAP"] == 0.75
    own = metrics.evaluate_distances(distances, query, gallery, exclude_self=True)
    assert own.metrics["mAP"] == 1
    vectors = np.ones((2, 1), np.float32)
    report = metrics.evaluate(vectors[:1], query, gallery=vectors, gallery_labels=gallery)
    assert report.metrics["mAP"] == 0.75
    assert "the id of the query counts" in " ".join(report.rules())
    assert "does not find itself" in " ".join(own.rules())


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({"q": [(1, 0.5)]}, {"q": {"1": 1}}, "items of the run have 1, those of the qrels '1'"),
        ({1: [("a", 0.5)]}, {"1": {"a": 1}}, "queries of the run have 1, those of the qrels '1'"),
    ],
)
def test_ids_that_match_only_after_conversion_are_refused(run, qrels, message):
    with pytest.raises(UsageError, match=message):
        metrics.evaluate_run(run, qrels, ragged=True)


def test_ids_of_two_kinds_are_refused_where_a_query_is_left_out():
    ones = np.ones((1, 2))
    with pytest.raises(UsageError, match="query ids have 0, gallery ids '0'"):
        metrics.evaluate_scores(
            ones, ones, query_ids=[0], gallery_ids=["0", "1"], exclude_self=True
        )
    with pytest.raises(UsageError, match="exclude_self needs ids"):
        metrics.evaluate_scores(ones, ones, exclude_self=True)


def test_runs_may_be_mappings_or_results_that_hold_one():
    pairs = {"q": [("a", 3.0), ("b", 2.0), ("c", 2.0)]}
    scores = {"q": {"b": 2.0, "a": 3.0, "c": 2.0}}
    qrels = {"q": {"c": 2, "x": 1}}

    class Result:
        run = pairs

    expected = metrics.evaluate_run(pairs, qrels, ragged=True).to_json()
    assert metrics.evaluate_run(scores, qrels, ragged=True).to_json() == expected
    assert metrics.evaluate_run(Result(), qrels, ragged=True).to_json() == expected
    assert metrics.evaluate_run([Result()], qrels, ragged=True).to_json() == expected
    with pytest.raises(UsageError, match="pass each query once"):
        metrics.evaluate_run([Result(), Result()], qrels, ragged=True)


def test_a_gallery_needs_its_labels():
    vectors = unit(4)
    with pytest.raises(UsageError, match="labels of the gallery are missing"):
        metrics.evaluate(vectors, [0, 0, 1, 1], gallery=vectors)
    with pytest.raises(UsageError, match="embeddings of the gallery are missing"):
        metrics.evaluate(vectors, [0, 0, 1, 1], gallery_labels=[0, 0, 1, 1])
    with pytest.raises(UsageError, match="class numbers"):
        metrics.evaluate(vectors, ["a", "a", "b", "b"])


def test_a_report_is_a_table_for_people_and_for_pandas():
    report = metrics.evaluate(unit(20), multi_hot(20), ks=(5,), resamples=20, band=True)
    table = report.to_pandas()
    assert list(table.index) == list(report.metrics)
    assert table.loc["nDCG@5", "value"] == report.metrics["nDCG@5"]
    assert table.loc["mAP", "low"] == report.intervals["mAP"][0]
    assert table.loc["mAP", "best"] == report.bands["mAP"][1]
    assert table.loc["P@5", "definition"].startswith("share of relevant items")
    shown = repr(report)
    assert shown.startswith("Report of any@5, 20 queries, 20 gallery images\n")
    assert f"{report.metrics['hit rate@5']:.4f}" in shown
    html = report._repr_html_()
    assert "<td>ANMRR (lower is better)</td>" in html
    assert html.count("<tr>") == 1 + len(report.metrics)
    json.dumps(report.to_json(), allow_nan=False)


def test_without_pandas_one_line_says_so(monkeypatch):
    imports = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return imports(name, *args, **kwargs)

    report = metrics.evaluate(unit(4), [0, 0, 1, 1])
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(UsageError, match="pip install pandas"):
        report.to_pandas()


def test_metrics_need_numpy_alone():
    code = (
        "import sys, landcue.metrics; "
        "print([m for m in ('torch', 'numba', 'pandas', 'scipy', 'lancedb', 'PIL', 'shapely') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_gallery_of_other_vectors_is_another_collection_also_with_the_same_labels():
    """Vectors of two encoders: each finds the image of its own number first."""
    ours, labels = np.eye(4, dtype=np.float32), multi_hot(4)
    theirs = ours.copy()
    report = metrics.evaluate(ours, labels, gallery=theirs, gallery_labels=labels, ks=(1,))
    assert not report.exclude_self
    assert report.metrics["P@1"] == pytest.approx(labels.any(axis=1).mean())
    copied = metrics.evaluate(ours, labels, gallery=theirs, gallery_labels=labels.copy(), ks=(1,))
    assert report.to_json() == copied.to_json()
    asked = {"gallery": theirs, "gallery_labels": labels, "exclude_self": True, "ks": (1,)}
    alone = metrics.evaluate(ours, labels, ks=(1,))
    assert metrics.evaluate(ours, labels, **asked).to_json() == alone.to_json()
    codes = np.array([[1], [2], [4], [8]], np.uint8)
    same = metrics.evaluate_codes(codes, 4, labels, gallery=codes.copy(), gallery_labels=labels)
    assert not same.exclude_self


@pytest.mark.parametrize("kind", [list, np.array])
def test_classes_of_one_side_only_are_classes_of_both(kind):
    vectors, ours, theirs = unit(9), kind([0, 1, 0]), kind([0, 1, 2, 3, 2, 1])
    options = {"gallery": vectors[3:], "ks": (2,), "relevance": "same-class"}
    report = metrics.evaluate(vectors[:3], ours, gallery_labels=theirs, **options)
    hot = np.eye(4, dtype=int)
    spelled = metrics.evaluate(
        vectors[:3], hot[list(ours)], gallery_labels=hot[list(theirs)], **options
    )
    assert report.to_json() == spelled.to_json()
    mixed = metrics.evaluate(vectors[:3], ours, gallery_labels=hot[list(theirs)], **options)
    assert mixed.to_json() == spelled.to_json()


def test_cutoffs_and_names_may_be_of_numpy_and_pandas():
    pandas = pytest.importorskip("pandas")
    vectors, labels = unit(6), multi_hot(6)
    plain = metrics.evaluate(vectors, labels, ks=(1, 3)).to_json()
    assert metrics.evaluate(vectors, labels, ks=np.array([1, 3])).to_json() == plain
    table = pandas.DataFrame(labels, columns=list("abcd"), index=[f"{i}" for i in range(6)])
    named = metrics.annotate(table.index, table, table.columns)
    assert (named.ids, named.label_names) == (tuple("012345"), tuple("abcd"))
