"""Other packages doing the work of ``benchmarks/metrics.py``; each returns values per query."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

K = 100

SHARED = {
    "mAP": ("map", "map"), "mAP@20(/R)": ("map@20", "map_cut_20"),
    **{f"P@{k}": (f"precision@{k}", f"P_{k}") for k in (1, 5, 10, 20, 100)},
    "R-precision": ("r-precision", "Rprec"), "MRR": ("mrr", "recip_rank"),
    **{f"hit rate@{k}": (f"hit_rate@{k}", f"success_{k}") for k in (1, 5, 10)},
    "recall@100": ("recall@100", "recall_100"),
    **{f"nDCG@{k}": (f"ndcg_burges@{k}", f"ndcg_cut_{k}") for k in (10, 100)},
}  # fmt: skip
"""LandCue's names of what ranx and trec_eval compute too, and their names."""

TWO = ("mAP", "nDCG@100")


@dataclass(frozen=True)
class Case:
    """Queries with the same ranking for everybody.

    Attributes:
        query_ids: q ids.
        gallery_ids: n ids.
        query_labels: Multi-hot ``[q, C]``.
        gallery_labels: Multi-hot ``[n, C]``.
        scores: float32 ``[q, n]``, all above 0 and different within a row.
        hidden: bool ``[q, n]``: a query's own image.
    """

    query_ids: tuple[str, ...]
    gallery_ids: tuple[str, ...]
    query_labels: np.ndarray
    gallery_labels: np.ndarray
    scores: np.ndarray
    hidden: np.ndarray

    def gains(self) -> np.ndarray:
        """Return the number of shared labels, int64 ``[q, n]``."""
        return self.query_labels.astype(np.int64) @ self.gallery_labels.T.astype(np.int64)


@dataclass(frozen=True)
class Timed:
    """What a package computed.

    Attributes:
        values: Values ``[q]`` by LandCue's name, or one mean.
        seconds: For computing them.
        building: For turning the matrices into what it reads.
    """

    values: dict[str, np.ndarray]
    seconds: float
    building: float


def clock(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return what ``work`` returns, and its wall time."""
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start


def dictionaries(case: Case, *, exponential: bool) -> tuple[dict, dict]:
    """Return qrels and run as nested dictionaries."""
    run, qrels = {}, {}
    for row, (query, gains) in enumerate(zip(case.query_ids, case.gains(), strict=True)):
        kept = np.flatnonzero(~case.hidden[row])
        names = [case.gallery_ids[i] for i in kept]
        run[query] = dict(zip(names, case.scores[row, kept].astype(float).tolist(), strict=True))
        worth = (2 ** gains[kept] - 1 if exponential else gains[kept]).tolist()
        qrels[query] = {n: gain for n, gain in zip(names, worth, strict=True) if gain}
    return qrels, run


def ranx(case: Case, names: tuple[str, ...]) -> Timed:
    """Compute metrics with ranx, compiled and warm."""
    import ranx as package

    def build() -> tuple[object, object]:
        qrels, run = dictionaries(case, exponential=False)
        return package.Qrels(qrels), package.Run(run)

    asked = [SHARED[name][0] for name in names]

    def compute(qrels: object, run: object) -> dict:
        return package.evaluate(qrels, run, asked, return_mean=False, save_results_in_run=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tiny = package.Qrels({"a": {"x": 1}}), package.Run({"a": {"x": 1.0}})
        compute(*tiny)  # numba compiles at the first call
        (qrels, run), building = clock(build)
        found, seconds = clock(lambda: compute(qrels, run))
    return Timed({name: found[SHARED[name][0]] for name in names}, seconds, building)


def trec_eval(case: Case, names: tuple[str, ...]) -> Timed:
    """Compute metrics with trec_eval through pytrec_eval."""
    import pytrec_eval

    (qrels, run), building = clock(lambda: dictionaries(case, exponential=True))
    asked: set[str] = set()
    for name in names:
        measure, _, k = SHARED[name][1].rpartition("_")
        asked.add(f"{measure}.{k}" if k.isdigit() else SHARED[name][1])
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, asked)
    found, seconds = clock(lambda: evaluator.evaluate(run))
    values = {
        name: np.array([found[query][SHARED[name][1]] for query in case.query_ids])
        for name in names
    }
    return Timed(values, seconds, building)


def torchmetrics(case: Case) -> Timed:
    """Compute mAP and nDCG@100 with linear gains with torchmetrics, in float32."""
    import torch
    from torchmetrics.retrieval import RetrievalMAP, RetrievalNormalizedDCG

    def build() -> tuple[torch.Tensor, ...]:
        kept = torch.from_numpy(~case.hidden)
        index = torch.arange(len(case.scores))[:, None].expand(case.scores.shape)
        scores, gains = torch.from_numpy(case.scores), torch.from_numpy(case.gains())
        return scores[kept], gains[kept], index[kept]

    (scores, gains, index), building = clock(build)

    def compute() -> tuple[float, float]:
        precision = RetrievalMAP(empty_target_action="skip")
        precision.update(scores, gains > 0, index)
        dcg = RetrievalNormalizedDCG(empty_target_action="skip", top_k=K)
        dcg.update(scores, gains, index)
        return float(precision.compute()), float(dcg.compute())

    (first, second), seconds = clock(compute)
    values = {"mAP": np.array([first]), f"nDCG@{K}(linear)": np.array([second])}
    return Timed(values, seconds, building)


def metric_learning(case: Case) -> Timed:
    """Compute mAP, P@1 and R-precision with pytorch-metric-learning's AccuracyCalculator."""
    import torch
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    scores = torch.from_numpy(np.where(case.hidden, -1, case.scores))
    with_self = bool(case.hidden.any())

    def ranked(_: object, n: int, *__: object) -> tuple[torch.Tensor, torch.Tensor]:
        return scores.topk(n, dim=1)

    def share_one(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one * other).sum(dim=-1) > 0

    names = {"mAP": "mean_average_precision", "P@1": "precision_at_1", "R-precision": "r_precision"}
    calculator = AccuracyCalculator(
        include=tuple(names.values()),
        k=scores.shape[1] - with_self,
        label_comparison_fn=share_one,
        knn_func=ranked,
        device=torch.device("cpu"),
    )
    query, gallery = (torch.from_numpy(x) for x in (case.query_labels, case.gallery_labels))
    nothing = torch.zeros(len(query), 1), torch.zeros(len(gallery), 1)
    found, seconds = clock(
        lambda: calculator.get_accuracy(nothing[0], query, nothing[1], gallery, with_self)
    )
    return Timed({own: np.array([found[name]]) for own, name in names.items()}, seconds, 0.0)
