from __future__ import annotations

import numpy as np
import pytest
import pytrec_eval

from landcue.errors import UsageError
from landcue.metrics import evaluate_scores
from landcue.metrics.annotations import annotate
from landcue.metrics.distances import given
from landcue.metrics.protocol import Protocol
from landcue.metrics.relevance import gains
from landcue.metrics.runs import evaluate_run
from standard_protocol import evaluate

RULES = Protocol(
    "mine-v1", relevance="given", grades=("g2",), gain="judged", map_ks=(3,), precision_ks=(2,),
    hit_ks=(1,), recall_ks=(2,), ndcg_ks=(2,), gain_ks=(3,),
)  # fmt: skip


def sample(n_query=8, n=30, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.random((n, 5)) < 0.3
    images = annotate([f"i{i:02}" for i in range(n)], labels)
    scores = np.round(rng.random((n, n)), 1)  # ties
    return images, scores, gains(labels, labels)


def as_run(images, scores, judged):
    run, qrels = {}, {}
    for row, query in enumerate(images.ids):
        results = [
            (item, float(scores[row, column]))
            for column, item in enumerate(images.ids)
            if item != query
        ]
        run[query] = sorted(results, key=lambda result: -result[1])
        qrels[query] = {
            item: float(judged[row, column])
            for column, item in enumerate(images.ids)
            if judged[row, column]
        }
    return run, qrels


@pytest.mark.parametrize("ties", ["expectation", "id"])
def test_labels_arrays_and_runs_give_the_same_scores(ties):
    images, scores, judged = sample()
    own = Protocol("labels-v1", grades=("j0.4",), ties=ties)
    rules = Protocol("run", relevance="given", gain="judged", ties=ties)
    expected = evaluate(images, images, given(-scores), protocol=own, band=True, resamples=20)
    run, qrels = as_run(images, scores, judged)
    for got in (
        evaluate_run(
            run, qrels, protocol=rules, band=True, resamples=20, exclude_self=True, n_gallery=30
        ),
        evaluate_scores(
            scores,
            judged,
            query_ids=images.ids,
            gallery_ids=images.ids,
            exclude_self=True,
            protocol=rules,
            band=True,
            resamples=20,
        ),
    ):
        assert got.counts == {**got.counts, "n_query": 30, "n_gallery": 30}
        for name, value in got.metrics.items():
            assert value == pytest.approx(expected.metrics[name], abs=1e-12), name
            assert got.chance[name] == pytest.approx(expected.chance[name], abs=1e-12), name
            assert got.bands[name] == pytest.approx(expected.bands[name], abs=1e-12), name
            assert got.intervals[name] == pytest.approx(expected.intervals[name], abs=1e-12), name
        assert got.per_label == {}


def test_a_short_run_worked_out_by_hand():
    run = {"q": [("a", 0.9), ("b", 0.5), ("c", 0.5)]}
    qrels = {"q": {"a": 2, "c": 1, "d": 3, "e": 0}}
    got = evaluate_run(run, qrels, protocol=RULES, n_gallery=10)
    assert got.counts == {"n_query": 1, "n_gallery": 10, "n_without_relevant": 0, **{
        "n_without_relevant(g>=2)": 0
    }}  # fmt: skip
    # R = 3: a first, c on rank 2 or 3, d never.
    assert got.metrics["mAP"] == pytest.approx((1 + (2 / 2 + 2 / 3) / 2) / 3)
    assert got.metrics["mAP(g>=2)"] == pytest.approx(1 / 2)
    assert got.metrics["recall@2"] == pytest.approx(1.5 / 3)
    assert got.metrics["R-precision"] == pytest.approx(2 / 3)
    # K = 6: ranks 1, 2.5 on average, and 1.25 K for d; (10.99.. / 3 - 2) / (7.5 - 2)
    assert got.metrics["ANMRR"] == pytest.approx(((1 + 2.5 + 7.5) / 3 - 2) / 5.5)
    # DCG@2 = 3 + 0.5 / log2(3); ideal = 7 + 3 / log2(3)
    log3 = np.log2(3)
    assert got.metrics["nDCG@2"] == pytest.approx((3 + 0.5 / log3) / (7 + 3 / log3))
    assert got.chance["P@2"] == pytest.approx(3 / 10)


def test_short_lists_agree_with_trec_eval():
    rng = np.random.default_rng(3)
    run, qrels = {}, {}
    for q in range(10):
        items = rng.permutation(60)[:25]
        run[f"q{q}"] = [(f"g{i}", 25.0 - rank) for rank, i in enumerate(items)]
        qrels[f"q{q}"] = {f"g{i}": int(rng.integers(0, 4)) for i in rng.permutation(60)[:30]}
    rules = Protocol(
        "r", relevance="given", gain="judged", map_ks=(5,), precision_ks=(5,), hit_ks=(5,),
        recall_ks=(20,), ndcg_ks=(10,), gain_ks=(), denominators=("min(k,R)", "R"),
        dcg_gains=("exponential", "linear"),
    )  # fmt: skip
    got = evaluate_run(run, qrels, protocol=rules)
    names = {
        "map": "mAP", "map_cut_5": "mAP@5(/R)", "P_5": "P@5", "success_5": "hit rate@5",
        "recall_20": "recall@20", "Rprec": "R-precision", "recip_rank": "MRR",
        "ndcg_cut_10": "nDCG@10(linear)",
    }  # fmt: skip
    asked = {"map", "map_cut.5", "P.5", "success.5", "recall.20", "Rprec", "recip_rank"}
    judged = pytrec_eval.RelevanceEvaluator(qrels, asked | {"ndcg_cut.10"}).evaluate(
        {query: dict(results) for query, results in run.items()}
    )
    for row, query in enumerate(run):
        for theirs, ours in names.items():
            assert got.per_query[ours][row] == pytest.approx(judged[query][theirs], abs=1e-9), ours


def test_a_query_without_a_judged_item_is_left_out_and_counted():
    run = {"a": [("x", 1.0), ("y", 0.5)], "b": [("y", 1.0), ("x", 0.5)]}
    got = evaluate_run(run, {"a": {"x": 1}, "b": {}}, protocol=RULES)
    assert got.counts["n_without_relevant"] == 1
    assert got.metrics["mAP"] == 1


def test_one_query_has_no_interval():
    got = evaluate_run({"a": [("x", 1.0)]}, {"a": {"x": 1}}, protocol=RULES, resamples=50)
    assert np.isnan(got.intervals["mAP"]).all()


def test_a_cut_off_beyond_the_whole_gallery_is_fine():
    got = evaluate_run({"a": [("x", 1.0)]}, {"a": {"x": 1}})
    assert got.metrics["P@5"] == pytest.approx(1 / 5)
    assert got.metrics["nDCG@100"] == 1


def test_lists_that_end_anywhere_must_be_asked_for():
    run = {"a": [("x", 1.0), ("y", 0.5)], "b": [("y", 1.0)]}
    qrels = {"a": {"x": 1}, "b": {"x": 1}}
    with pytest.raises(UsageError, match="query 'b' has 1 results, others 2, of 2 items"):
        evaluate_run(run, qrels, protocol=RULES)
    got = evaluate_run(run, qrels, protocol=RULES, ragged=True)
    assert got.per_query["mAP"].tolist() == [1, 0]


def test_a_query_alone_in_its_gallery_has_no_result():
    with pytest.raises(UsageError, match="'a' has no result"):
        evaluate_run({"a": [("a", 1.0)]}, {"a": {"a": 1}}, protocol=RULES, exclude_self=True)


def test_more_is_asked_for_than_the_lists_hold():
    run = {"a": [("x", 1.0), ("y", 0.5)]}
    with pytest.raises(UsageError, match=r"'a' has 2 results of 50 .* the first 3: pass more"):
        evaluate_run(run, {"a": {"x": 1}}, protocol=RULES, n_gallery=50)


@pytest.mark.parametrize(
    ("run", "qrels", "message"),
    [
        ({}, {}, "the run holds no query"),
        ({"a": []}, {"a": {"x": 1}}, "query 'a' has no result: its gallery is empty"),
        ({"a": [("x", 1.0)]}, {}, "query 'a' is missing in the qrels"),
        ({"a": [("x", 1.0)]}, {"a": {}, "b": {"x": 1}}, "query 'b' is missing in the run"),
        ({"a": [("x", 1.0), ("y", float("nan"))]}, {"a": {}}, r"result 2 \('y'\) .* score NaN"),
        ({"a": [("x", 1.0), ("y", 2.0)]}, {"a": {}}, r"result 2 \('y'\) .* 2 after 1: sort"),
        ({"a": [("x", 1.0), ("x", 0.5)]}, {"a": {}}, r"result 2 \('x'\) .* twice"),
        ({"a": [("x", 1.0)]}, {"a": {"x": -1}}, "gain of item 'x' for query 'a' is -1"),
        ({"a": [("x", 1.0)]}, {"a": {"x": float("nan")}}, "item 'x' for query 'a' is nan"),
        ({"a": [("x", 1.0)]}, {"a": {"x": 5000}}, "is 5000: pass a number from 0 to 500"),
    ],
)
def test_broken_runs_are_refused_with_their_row(run, qrels, message):
    with pytest.raises(UsageError, match=message):
        evaluate_run(run, qrels, protocol=RULES)


def test_a_gallery_smaller_than_what_is_named_is_refused():
    with pytest.raises(UsageError, match="a gallery of 1, but run and qrels name 2 items"):
        evaluate_run({"a": [("x", 1.0)]}, {"a": {"y": 1}}, n_gallery=1)


@pytest.mark.parametrize(
    ("relevance", "gain", "message"),
    [("any", "judged", "'any' needs labels"), ("given", "shared", "'shared' needs labels"),
     ("j0.4", "judged", "'j0.4' needs labels")],
)  # fmt: skip
def test_rules_for_labels_do_not_fit_runs(relevance, gain, message):
    rules = Protocol("mine", relevance=relevance, gain=gain)
    with pytest.raises(UsageError, match=message):
        evaluate_run({"a": [("x", 1.0)]}, {"a": {"x": 1}}, protocol=rules)


def test_rules_for_runs_do_not_fit_labels():
    images, scores, _ = sample()
    with pytest.raises(UsageError, match=r"judged runs, not of labels"):
        evaluate(images, images, given(-scores), protocol=RULES)


ONES = np.ones((2, 2))


@pytest.mark.parametrize(
    ("scores", "judged", "ids", "message"),
    [
        (ONES, np.ones((2, 3)), {}, "scores have shape"),
        (np.ones(2), np.ones(2), {}, "scores have shape"),
        (np.ones((1, 0)), np.ones((1, 0)), {}, "1 queries and 0 gallery items"),
        (np.array([[1, 2], [1, np.nan]]), ONES, {}, "query 1 and gallery item 1 is NaN"),
        (ONES, np.array([[1, 2], [-3, 1]]), {}, "query 1 and gallery item 0 is -3"),
        (ONES, np.array([[1, np.nan], [3, 1]]), {}, "query 0 and gallery item 1 is nan"),
        (ONES, ONES, {"query_ids": ["a", "b"]}, "pass both or none"),
        (ONES, ONES, {"query_ids": ["a"], "gallery_ids": ["x", "y"]}, "1 query ids for 2"),
        (ONES, ONES, {"query_ids": ["a", "b"], "gallery_ids": ["x", "x"]}, "'x' occurs twice"),
        (np.ones((1, 5000)), np.arange(5000.0)[None] / 100, {}, "round them"),
    ],
)
def test_broken_matrices_are_refused_with_their_place(scores, judged, ids, message):
    with pytest.raises(UsageError, match=message):
        evaluate_scores(scores, judged, **ids)
