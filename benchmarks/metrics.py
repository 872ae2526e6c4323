"""All metrics of one evaluation against naive mAP + nDCG and trec_eval, in one run.

    python benchmarks/metrics.py --images 2100 --labels 17

LandCue computes every metric of its default protocol, with chance levels. The rivals compute AP
and nDCG@100 only: a NumPy version that ranks with argsort, and trec_eval through pytrec_eval if
it is installed, without and with the time to build the dictionaries that it reads.
A ratio above 1 means that LandCue is faster. Values are compared before the times are printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable

import numpy as np

from landcue.evaluation.annotations import Annotations, annotate
from landcue.evaluation.evaluate import evaluate_codes, evaluate_embeddings

K = 100


def make_images(n: int, n_labels: int, dim: int, seed: int) -> tuple[Annotations, np.ndarray]:
    """Return n images, about a fifth of the labels each, and unit vectors ``[n, dim]``."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_labels)) < rng.uniform(0.02, 0.4, n_labels)
    directions = rng.standard_normal((n_labels, dim))
    vectors = labels @ directions + 2 * rng.standard_normal((n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"image{i:07d}" for i in range(n)]
    return annotate(ids, labels), vectors.astype(np.float32)


def naive(images: Annotations, vectors: np.ndarray) -> tuple[float, float]:
    """Return mAP and nDCG@100 the short way, without a query's own image."""
    labels = images.labels.astype(np.float32)
    distances = 1 - vectors @ vectors.T
    np.fill_diagonal(distances, np.inf)
    gains = labels @ labels.T
    np.fill_diagonal(gains, 0)
    ranked = np.take_along_axis(gains, np.argsort(distances, axis=1, kind="stable"), axis=1)
    relevant = ranked > 0
    ranks = np.arange(1, len(labels) + 1)
    n_relevant = relevant.sum(axis=1)
    some = n_relevant > 0
    precision = np.cumsum(relevant, axis=1) / ranks
    average = (precision * relevant).sum(axis=1)[some] / n_relevant[some]
    discounts = 1 / np.log2(1 + ranks[:K])
    ideal = -np.sort(-gains, axis=1)[:, :K]
    dcg = (2 ** ranked[:, :K] - 1) @ discounts[: ranked.shape[1]]
    best = (2**ideal - 1) @ discounts[: ranked.shape[1]]
    return float(average.mean()), float((dcg[some] / best[some]).mean())


def trec_input(images: Annotations, vectors: np.ndarray) -> tuple[dict, dict]:
    """Return relevance judgments and rankings as the dictionaries that trec_eval reads."""
    labels = images.labels.astype(np.float32)
    scores, gains = vectors @ vectors.T, (2 ** (labels @ labels.T) - 1).astype(int)
    run, qrels = {}, {}
    for i, own in enumerate(images.ids):
        run[own] = dict(zip(images.ids, scores[i].tolist(), strict=True))
        qrels[own] = {
            name: gain for name, gain in zip(images.ids, gains[i].tolist(), strict=True) if gain
        }
        del run[own][own]
        qrels[own].pop(own, None)
    return qrels, run


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several wall times."""
    taken: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Compare values, then print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--labels", type=int, default=17)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if min(options.images - K, options.labels, options.dim, options.bits, options.repeats) < 1:
        parser.error(f"need more than {K} images, and at least 1 of everything else")
    images, vectors = make_images(options.images, options.labels, options.dim, options.seed)
    projection = np.random.default_rng(options.seed).standard_normal((options.dim, options.bits))
    codes = np.packbits(vectors @ projection > 0, axis=1, bitorder="little")

    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, load {load}"
    )
    scores = evaluate_embeddings(images, vectors)
    ours = scores.metrics["mAP"], scores.metrics[f"nDCG@{K}"]
    if not np.allclose(ours, naive(images, vectors), atol=1e-5):
        raise SystemExit(f"landcue {ours} and the naive version disagree")
    n_metric = len(scores.metrics)
    base = seconds(lambda: evaluate_embeddings(images, vectors), options.repeats)
    title = f"{options.images:,} x {options.images:,}, {options.labels} labels"
    print(f"{title}: landcue, {n_metric} metrics and chance: {base:.3f} s")

    def line(name: str, taken: float) -> None:
        print(f"{name:52} {taken:8.3f} s  {taken / base:6.2f}x", flush=True)

    line("naive NumPy, mAP and nDCG@100", seconds(lambda: naive(images, vectors), options.repeats))
    hashed = seconds(
        lambda: evaluate_codes(images, codes, options.bits, band=False), options.repeats
    )
    line(f"landcue, {options.bits}-bit codes", hashed)
    banded = seconds(lambda: evaluate_codes(images, codes, options.bits), options.repeats)
    line(f"landcue, {options.bits}-bit codes with tie bands", banded)
    try:
        import pytrec_eval
    except ImportError:
        print("pytrec_eval is not installed")
        return
    start = time.perf_counter()
    qrels, run = trec_input(images, vectors)
    building = time.perf_counter() - start
    evaluator = pytrec_eval.RelevanceEvaluator(qrels, {"map", f"ndcg_cut.{K}"})
    judged = [values for name, values in evaluator.evaluate(run).items() if qrels[name]]
    theirs = [float(np.mean([v[m] for v in judged])) for m in ("map", f"ndcg_cut_{K}")]
    if not np.allclose(ours, theirs, atol=1e-5):
        raise SystemExit(f"landcue {ours} and trec_eval {theirs} disagree")
    taken = seconds(lambda: evaluator.evaluate(run), min(2, options.repeats))
    line("pytrec_eval, map and ndcg_cut_100", taken)
    line("pytrec_eval with building its dictionaries", taken + building)


if __name__ == "__main__":
    main()
