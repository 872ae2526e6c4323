"""All metrics of one evaluation against other packages on the same rankings, in one run.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --images 300 --large-queries 20 --large-gallery 5000

Part 1: every image queries all others. Part 2: separate queries and a large gallery, where the
other packages get a few queries only and their time is scaled to all, which is said in the table.
Everybody ranks the same float32 scores without ties; values are compared before a time is printed.
No other package has own-label AP, which is left out. LandCue always adds mAP, R-precision, MRR,
ANMRR and the chance level of every metric. A ratio above 1 means that LandCue is faster. Part 3:
what ties cost.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
from collections.abc import Callable
from dataclasses import replace

import numpy as np

import metrics_peers as peers
from landcue.metrics.annotations import Annotations, annotate
from landcue.metrics.distances import given, hamming
from landcue.metrics.evaluation import evaluate, evaluate_codes, evaluate_distances
from landcue.metrics.protocol import DEFAULT, Metric, Protocol, find_protocol
from landcue.metrics.relevance import pair_table
from landcue.metrics.report import Report
from landcue.metrics.scoring import Ranker, Tables, score_block

EXACT, SINGLE = 1e-9, 2e-6  # packages that compute in float64, in float32
NOTHING = {f"{name}_ks": () for name in ("map", "precision", "hit", "recall", "ndcg", "gain")}
FEW = Protocol("few", **NOTHING)
TWO = replace(FEW, ndcg_ks=(peers.K,))
MANY = replace(Protocol("many", denominators=("min(k,R)", "R")), gain_ks=(), ndcg_ks=(10, peers.K))
LINEAR = replace(TWO, dcg_gains=("exponential", "linear"))


def make_images(n: int, n_labels: int, dim: int, seed: int) -> tuple[Annotations, np.ndarray]:
    """Return n images, one to about a fifth of the labels each, and unit vectors ``[n, dim]``."""
    rng = np.random.default_rng(seed)
    labels = rng.random((n, n_labels)) < rng.uniform(0.02, 0.4, n_labels)
    labels[~labels.any(axis=1), 0] = True
    directions = rng.standard_normal((n_labels, dim))
    vectors = labels @ directions + 2 * rng.standard_normal((n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"image{i:07d}" for i in range(n)]
    return annotate(ids, labels), vectors.astype(np.float32)


def take(images: Annotations, rows: slice) -> Annotations:
    """Return some of the images."""
    return Annotations(images.ids[rows], images.labels[rows], images.label_names)


def make_case(
    query: Annotations, gallery: Annotations, ours: np.ndarray, theirs: np.ndarray
) -> peers.Case:
    """Return a ranking by cosine, its scores replaced by their places: n for the best, then 1."""
    order = np.argsort(-(ours @ theirs.T), axis=1, kind="stable")
    scores = np.empty(order.shape, np.float32)
    np.put_along_axis(scores, order, np.arange(len(gallery), 0, -1, dtype=np.float32)[None], 1)
    own = np.array(query.ids)[:, None] == np.array(gallery.ids)[None]
    return peers.Case(query.ids, gallery.ids, query.labels, gallery.labels, scores, own)


def compare(name: str, ours: Report, theirs: peers.Timed, most: float) -> float:
    """Return the largest difference of values, per query where they are known.

    Raises:
        SystemExit: They differ by more than ``most``.
    """
    worst = 0.0
    for metric, values in theirs.values.items():
        own = ours.per_query[metric] if len(values) > 1 else np.array([ours.metrics[metric]])
        worst = max(worst, float(np.abs(own - values).max()))
        if not worst < most:
            raise SystemExit(f"{name} and landcue differ by {worst:.2e} in {metric}")
    return worst


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several wall times."""
    return min(peers.clock(work)[1] for _ in range(repeats))


def against_peers(
    title: str,
    query: Annotations,
    gallery: Annotations,
    ours: np.ndarray,
    theirs: np.ndarray,
    n_peer: int,
    repeats: int,
) -> None:
    """Print times of all packages; the others get the first ``n_peer`` queries."""
    n_query = len(query)
    whole = seconds(
        lambda: evaluate(ours, query, gallery=theirs, gallery_labels=gallery, protocol=DEFAULT),
        repeats,
    )
    n_metric = len(find_protocol("ml-retrieval-v1").metrics())
    print(f"\n{title}: landcue from embeddings, {n_metric} metrics and chance: {whole:.3f} s")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"largest memory of the process so far: {memory:,.0f} MiB")
    some = take(query, slice(0, n_peer))
    case = make_case(some, gallery, ours[:n_peer], theirs)
    near, scale = given(-case.scores), n_query / n_peer
    full = scale * seconds(
        lambda: evaluate_distances(near, some, gallery, protocol=DEFAULT, exclude_self=True),
        repeats,
    )
    print(f"landcue from distances, {n_metric} metrics and chance: {full:.3f} s")
    note = "" if scale == 1 else f" (others: {n_peer} queries, times x {scale:g})"
    print(
        f"{'the same work' + note:58} {'other':>9} {'landcue':>9} {'ratio':>7} {'difference':>11}"
    )

    def line(name: str, protocol: Protocol, timed: peers.Timed, most: float) -> None:
        def work() -> Report:
            return evaluate_distances(
                near, some, gallery, protocol=protocol, exclude_self=True, per_label=False
            )

        difference = compare(name, work(), timed, most)
        own = seconds(work, repeats)
        print(
            f"{name:58} {timed.seconds * scale:8.3f}s {own * scale:8.3f}s "
            f"{timed.seconds / own:6.1f}x {difference:11.1e}",
            flush=True,
        )
        if timed.building:
            print(f"{'  and to build what it reads':58} {timed.building * scale:8.3f}s", flush=True)
        if protocol is not LINEAR and "mAP, P@1" not in name:
            print(f"{'  against all of landcue from distances':58} {'':9} {full:8.3f}s "
                  f"{timed.seconds * scale / full:6.1f}x")  # fmt: skip

    names = tuple(peers.SHARED)
    for package, label in ((peers.trec_eval, "pytrec_eval"), (peers.ranx, "ranx")):
        line(f"{label}: mAP and nDCG@100", TWO, package(case, peers.TWO), EXACT)
        line(f"{label}: {len(names)} metrics", MANY, package(case, names), EXACT)
    line("torchmetrics: mAP and nDCG@100 (linear)", LINEAR, peers.torchmetrics(case), SINGLE)
    learned = peers.metric_learning(case)
    few = replace(FEW, precision_ks=(1,))
    line("pytorch-metric-learning: mAP, P@1, R-precision (binary)", few, learned, EXACT)


def ties(images: Annotations, vectors: np.ndarray, n_bits: int, repeats: int) -> None:
    """Print what the expectation over ties costs for codes."""
    rng = np.random.default_rng(0)
    projection = rng.standard_normal((vectors.shape[1], n_bits))
    codes = np.packbits(vectors @ projection > 0, axis=1, bitorder="little")
    rules = find_protocol("ml-retrieval-v1")
    pairs = pair_table(images.labels, images.labels)
    tables = Tables(pairs)

    def only_ndcg(protocol: Protocol) -> None:
        ranker = Ranker(images, images, hamming(codes, codes, n_bits), protocol, pairs)
        for part in (part for parts in ranker.parts() for part in parts):
            block = ranker.rank(part)
            wanted = (Metric("nDCG", peers.K, "shared"),)
            score_block(wanted, tables, block.census, block.ranked, peers.K)

    by_id = replace(rules, ties="id")
    print(f"\n{len(images):,} codes of {n_bits} bits")

    def every(protocol: Protocol) -> None:
        evaluate_codes(codes, n_bits, images, protocol=protocol, band=False)

    def line(name: str, work: Callable[[Protocol], None]) -> None:
        plain = seconds(lambda: work(by_id), repeats)
        aware = seconds(lambda: work(rules), repeats)
        print(
            f"{name}: ties by id {plain:.3f} s, mean over ties {aware:.3f} s, {aware / plain:.2f}x"
        )

    line("ranking and nDCG@100", only_ndcg)
    line("all metrics", every)
    banded = seconds(lambda: evaluate_codes(codes, n_bits, images, protocol=DEFAULT), repeats)
    print(f"all metrics with tie bands: {banded:.3f} s")


def main() -> None:
    """Compare values, then print times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2100)
    parser.add_argument("--labels", type=int, default=17)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--bits", type=int, default=64)
    parser.add_argument("--large-queries", type=int, default=2000, help="0 to leave part 2 out")
    parser.add_argument("--large-gallery", type=int, default=100_000)
    parser.add_argument("--peer-queries", type=int, default=10, help="of the large gallery")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    large = (options.large_queries, options.large_gallery, options.peer_queries)
    sizes = (options.images - peers.K, options.labels, options.dim, options.bits, options.repeats)
    if min(sizes) < 1 or (large[0] and not 1 < large[2] <= large[0]):
        parser.error(f"need more than {peers.K} images, and 2 or more queries for all packages")
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, load {load}"
    )
    n = options.images
    images, vectors = make_images(n, options.labels, options.dim, options.seed)
    against_peers(f"{n:,} x {n:,}", images, images, vectors, vectors, n, options.repeats)
    ties(images, vectors, options.bits, options.repeats)
    if large[0]:
        n_query, n, n_peer = large
        images, vectors = make_images(n_query + n, options.labels, options.dim, options.seed)
        query, gallery = take(images, slice(0, n_query)), take(images, slice(n_query, None))
        ours, theirs = vectors[:n_query], vectors[n_query:]
        against_peers(f"{n_query:,} x {n:,}", query, gallery, ours, theirs, n_peer, 1)


if __name__ == "__main__":
    main()
