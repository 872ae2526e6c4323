"""What the "mAP@20" of DHCL's published code gives for random codes.

Its function walks through the queries in file order, keeps the share of queries so far that had a
relevant image among their first 20, adds that share for every such query, and divides by the
number of queries. No rank enters it. With a hit rate of h it comes to about h squared.

    python benchmarks/published_map.py
"""

from __future__ import annotations

import numpy as np

from landcue.codes.packing import pack_bits
from landcue.metrics.annotations import annotate
from landcue.metrics.distances import hamming
from landcue.metrics.evaluation import evaluate_codes

CLASSES, PER_CLASS, K = 21, 20, 20  # UC Merced, files 80-99 of every class


def published_map(codes: np.ndarray, n_bits: int, classes: np.ndarray) -> float:
    """Compute the published formula leave-one-out, equal distances in file order."""
    n = len(codes)
    distances = hamming(codes, codes, n_bits).rows(slice(0, n)).astype(np.int64)
    np.fill_diagonal(distances, n_bits + 1)
    first = np.argsort(distances, axis=1, kind="stable")[:, :K]
    hit = (classes[first] == classes[:, None]).any(axis=1)
    share_so_far = np.cumsum(hit) / np.arange(1, n + 1)
    return float(share_so_far[hit].sum() / n)


def main() -> None:
    """Print both numbers for random codes of 16 to 64 bits, mean of 20 draws."""
    classes = np.repeat(np.arange(CLASSES), PER_CLASS)
    images = annotate([f"{i:03}" for i in range(len(classes))], np.eye(CLASSES, dtype=int)[classes])
    print("random codes, UC Merced's test files, mean of 20 draws")
    print(f"{'bits':>5} {'published formula':>18} {'true mAP@20':>12} {'chance':>8}")
    for n_bits in (16, 32, 48, 64):
        published, true, chance = [], [], 0.0
        for seed in range(20):
            rng = np.random.default_rng(seed)
            codes = pack_bits(rng.random((len(classes), n_bits)) < 0.5)
            published.append(published_map(codes, n_bits, classes))
            scores = evaluate_codes(codes, n_bits, images, protocol="sl-retrieval-v1", band=False)
            true.append(scores.metrics["mAP@20"])
            chance = scores.chance["mAP@20"]
        print(f"{n_bits:>5} {np.mean(published):>18.4f} {np.mean(true):>12.4f} {chance:>8.4f}")


if __name__ == "__main__":
    main()
