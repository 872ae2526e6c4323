"""The same rankings measured by other packages, under the names that say what they measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from landcue.metrics.annotations import annotate
from landcue.metrics.distances import given
from landcue.metrics.protocol import find_protocol
from landcue.metrics.relevance import gains, relevant
from standard_protocol import evaluate

K = 5
TOOLS = replace(
    find_protocol("ml-retrieval-v1+tools"), map_ks=(K,), hit_ks=(K,), recall_ks=(K,), ndcg_ks=(K,)
)
EXACT = 1e-9
SINGLE = 2e-6  # torchmetrics computes in float32


@pytest.fixture(scope="module")
def case():
    """Scores of 12 queries in 40 images, all different and above 0, and their gains."""
    rng = np.random.default_rng(5)
    labels = rng.random((52, 6)) < 0.3
    labels[:12, 0] |= ~labels[:12].any(axis=1)
    labels[12, :] = True  # so that every query has a relevant image
    query = annotate([f"q{i:02}" for i in range(12)], labels[:12])
    gallery = annotate([f"g{i:02}" for i in range(40)], labels[12:])
    scores = 1 + rng.permutation(12 * 40).reshape(12, 40) / 480
    return query, gallery, scores, evaluate(query, gallery, given(-scores), protocol=TOOLS)


@pytest.mark.slow  # it compiles itself
@pytest.mark.filterwarnings("ignore:unsafe cast")
def test_ranx(case):
    ranx = pytest.importorskip("ranx")
    query, gallery, scores, ours = case
    shared = gains(query.labels, gallery.labels).astype(int)
    qrels = {
        q: {g: int(shared[i, j]) for j, g in enumerate(gallery.ids) if shared[i, j]}
        for i, q in enumerate(query.ids)
    }
    run = {q: dict(zip(gallery.ids, map(float, scores[i]))) for i, q in enumerate(query.ids)}  # noqa: B905
    names = {
        "map": "mAP",
        f"map@{K}": f"mAP@{K}(/R)",
        "mrr": "MRR",
        f"ndcg@{K}": f"nDCG@{K}(linear)",
        f"ndcg_burges@{K}": f"nDCG@{K}",
    }
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), list(names), threads=1)
    for name, own in names.items():
        assert theirs[name] == pytest.approx(ours.metrics[own], abs=EXACT), own


def test_torchmetrics(case):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.retrieval")
    query, gallery, scores, ours = case
    shared = torch.from_numpy(gains(query.labels, gallery.labels).astype(np.int64))
    preds = torch.from_numpy(scores)
    calls = {
        "mAP": functional.retrieval_average_precision,
        f"mAP@{K}(/hits)": functional.retrieval_average_precision,
        f"P@{K}": functional.retrieval_precision,
        f"hit rate@{K}": functional.retrieval_hit_rate,
        f"recall@{K}": functional.retrieval_recall,
        "R-precision": functional.retrieval_r_precision,
        "MRR": functional.retrieval_reciprocal_rank,
        f"nDCG@{K}(linear)": functional.retrieval_normalized_dcg,
    }
    for name, call in calls.items():
        options = {"top_k": K} if "@" in name else {}
        for row, value in enumerate(ours.per_query[name]):
            target = shared[row] if "nDCG" in name else shared[row] > 0
            got = float(call(preds[row], target, **options))
            assert got == pytest.approx(value, abs=SINGLE), name


def test_torchmetrics_averages_linear_dcg_over_ties_too(case):
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.retrieval")
    query, gallery, scores, _ = case
    coarse = np.floor(scores * 4)
    ours = evaluate(query, gallery, given(-coarse), protocol=TOOLS)
    shared = torch.from_numpy(gains(query.labels, gallery.labels).astype(np.int64))
    for row, value in enumerate(ours.per_query[f"nDCG@{K}(linear)"]):
        got = functional.retrieval_normalized_dcg(torch.from_numpy(coarse[row]), shared[row], K)
        assert float(got) == pytest.approx(value, abs=SINGLE)


def test_torchmetrics_loses_what_scores_zero_or_less():
    """The reason why its mAP is wrong for cosine similarities."""
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.retrieval")
    scores, target = torch.tensor([0.5, -0.1, -0.2]), torch.tensor([False, True, False])
    assert float(functional.retrieval_average_precision(scores, target)) == 0
    images = annotate(["a", "b", "c"], [[0], [1], [0]])
    ours = evaluate(annotate(["q"], [[1]]), images, given(-scores.numpy()[None]))
    assert ours.metrics["mAP"] == pytest.approx(1 / 2)


def test_pytorch_metric_learning(case):
    torch = pytest.importorskip("torch")
    accuracy = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    query, gallery, scores, ours = case
    theirs, mine = torch.from_numpy(gallery.labels), torch.from_numpy(query.labels)

    def ranked(_query, n, _gallery, _same):
        values, order = torch.from_numpy(-scores).sort(dim=1)
        return values[:, :n], order[:, :n]

    def share_one(one, other):
        return (one * other).sum(dim=-1) > 0

    for k, name in ((40, "mAP"), (K, f"mAP@{K}(/R)")):
        made = accuracy.AccuracyCalculator(
            include=("mean_average_precision", "precision_at_1"),
            k=k,
            label_comparison_fn=share_one,
            knn_func=ranked,
            device=torch.device("cpu"),
        ).get_accuracy(torch.zeros(12, 1), mine, torch.zeros(40, 1), theirs)
        assert made["mean_average_precision"] == pytest.approx(ours.metrics[name], abs=EXACT)
        assert made["precision_at_1"] == pytest.approx(ours.metrics["P@1"], abs=EXACT)


def test_code_that_divides_by_hits(case):
    """The loop of deep-hashing papers, as far as every query has a relevant image."""
    query, gallery, scores, ours = case
    truth = relevant(query.labels, gallery.labels)
    values = []
    for row in range(len(query)):
        first = truth[row, np.argsort(-scores[row])][:K]
        ranks = np.flatnonzero(first) + 1
        values.append(np.mean(np.arange(1, len(ranks) + 1) / ranks) if len(ranks) else 0.0)
    assert ours.metrics[f"mAP@{K}(/hits)"] == pytest.approx(np.mean(values), abs=EXACT)
    assert ours.metrics[f"mAP@{K}(/hits)"] > ours.metrics[f"mAP@{K}"]  # it flatters
