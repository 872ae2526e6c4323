"""What label probabilities and re-ranking change on the built-in encoder's validation part.

    python benchmarks/fused.py DATA_ROOT/uc_merced

Each of the 210 validation images of UC Merced queries the others: nDCG@100 with gain ``2^g - 1``
of g shared labels, and the 95 % bootstrap interval of its difference to the ranking by embeddings,
images of one scene class drawn together. Nothing reads the test part.

    python benchmarks/fused.py DATA_ROOT/uc_merced --test

Indexes both parts with their labels, as ``landcue index --labels`` does, takes the weight that
``auto`` chooses in the archive of the validation part, and searches that of the test part.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import landcue
from landcue.codes.hashers import fit_decoder
from landcue.codes.packing import unpack_bits
from landcue.data.datasets import load_dataset
from landcue.data.images import read_image
from landcue.data.splits import apply_split
from landcue.models.load import load_model
from landcue.search import rerank

SPLIT, K, SHORTLIST = "per-class-70-10-20-seed1", 100, 200


def encode(encoder: Any, records: Any) -> Any:
    """Return the encoding of all images of some records."""
    pixels = [encoder.prepare(read_image(record.path)) for record in records]
    return encoder.encode(np.stack(pixels))


def ndcg(scores: Any, gains: Any) -> Any:
    """Return nDCG@100 of each query, which is left out of its own ranking."""
    scores, gains = scores.copy(), gains.copy()
    np.fill_diagonal(scores, -np.inf)
    np.fill_diagonal(gains, 0)
    discount = 1 / np.log2(np.arange(2, 2 + min(K, len(gains))))
    order = np.argsort(-scores, axis=1, kind="stable")[:, : len(discount)]
    ideal = -np.sort(-gains, axis=1)[:, : len(discount)] @ discount
    return (np.take_along_axis(gains, order, axis=1) @ discount) / ideal


def interval(values: Any, groups: Any) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over groups that are drawn whole."""
    _, group = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(group, values), np.bincount(group)
    drawn = np.random.default_rng(0).integers(0, len(sums), (2_000, len(sums)))
    low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), (0.025, 0.975))
    return float(low), float(high)


def reciprocal(cosine: Any) -> tuple[Any, float]:
    """Return k-reciprocal scores of every query's shortlist, and the median milliseconds."""
    scores, seconds = cosine - 5.0, list[float]()
    for row, line in enumerate(cosine):
        others = np.delete(np.argsort(-line, kind="stable"), np.argsort(-line).tolist().index(row))
        some = np.array([row, *others[:SHORTLIST]])
        pairs = np.maximum(1 - cosine[np.ix_(some, some)], 0)
        started = time.perf_counter()
        scores[row, some[1:]] = 1 - rerank.k_reciprocal(pairs, queries=1)[0, 1:]
        seconds.append(time.perf_counter() - started)
    return scores, 1000 * float(np.median(seconds))


def index(images: Any, part: str, folder: Path) -> Any:
    """Index the images of a part with their labels."""
    lines, source = ["path,labels"], folder / part
    source.mkdir()
    for record in images.part(part).records:
        (source / record.path.name).symlink_to(record.path.resolve())
        lines.append(f"{record.path.name},{';'.join(record.labels)}")
    (folder / f"{part}.csv").write_text("\n".join(lines))
    options = landcue.IndexOptions(labels=folder / f"{part}.csv")
    return landcue.index(source, folder / f"{part}.archive", options=options)


def rank_test_part(images: Any) -> None:
    """Print nDCG@100 of the test part by mode."""
    with tempfile.TemporaryDirectory() as name:
        weight = index(images, "val", Path(name)).measure_fusion()["weight"]
        archive, records = index(images, "test", Path(name)), images.part("test").records
        row = {record.path.name: at for at, record in enumerate(records)}
        labels = np.array(
            [[n in (r.labels or ()) for n in images.label_names] for r in records], float
        )
        gains = 2.0 ** (labels @ labels.T) - 1
        for mode in ("embedding", "fused", "code", "fused-code"):
            options = landcue.SearchOptions(fused_weight=weight if "fused" in mode else None)
            scores = np.full(gains.shape, -np.inf)
            for id_, at in row.items():
                for rank, hit in enumerate(archive.search(id_, k=K, mode=mode, options=options)):
                    scores[at, row[hit.id]] = -rank
            used = f"weight {weight}" if "fused" in mode else ""
            print(f"{mode:12} {ndcg(scores, gains).mean():.4f}  {used}")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--test", action="store_true", help="rank the test part by mode")
    given = parser.parse_args()
    images = apply_split(load_dataset("ucmerced", given.root), SPLIT)
    if given.test:
        rank_test_part(images)
        return
    encoder = load_model("builtin")
    chosen, train = images.part("val").records, images.part("train").records[::3]
    found, known = encode(encoder, chosen), encode(encoder, train)
    labels = np.array([[n in (r.labels or ()) for n in images.label_names] for r in chosen], float)
    groups = [record.group for record in chosen]
    z, p, bits = found.embedding.astype(np.float64), found.label_scores, found.n_bits
    cosine, gains, log = z @ z.T, 2.0 ** (labels @ labels.T) - 1, rerank.log_gain(p, p)
    apart = ~np.eye(len(z), dtype=np.bool_)

    def scale(scores: Any, gain: Any = log) -> float:
        return rerank.label_scale(scores[apart], gain[apart])

    shared, expected = rerank.expected_shared(p, p), np.expm1(log)
    near, milliseconds = reciprocal(cosine)
    decoder = fit_decoder(known.code, known.embedding, bits)
    decoded, signs = decoder.scores(z, found.code), unpack_bits(found.code, bits) * 2.0 - 1
    expanded = [rerank.alpha_qe(z[[i]], np.delete(z, i, axis=0))[0] for i in range(len(z))]
    rows = {
        "embedding": cosine,
        "+ log gain, weight 0.5": cosine + 0.5 * scale(cosine) * log,
        "+ log gain, weight 1": cosine + scale(cosine) * log,
        "+ log gain, weight 2": cosine + 2 * scale(cosine) * log,
        "+ expected gain, weight 1": cosine + scale(cosine, expected) * expected,
        "+ expected shared labels, weight 1": cosine + scale(cosine, shared) * shared,
        "alpha-QE (k 10, alpha 3)": np.array(expanded) @ z.T,
        f"k-reciprocal ({milliseconds:.1f} ms a query)": near,
        "k-reciprocal + log gain, weight 1": near + scale(cosine) * log,
        f"{bits} hash bits": signs @ signs.T,
        f"{bits} hash bits, float query": decoded,
    }
    for step in (1, 2, 4):
        codes = rerank.FusedCodes(found.code, p, decoder, bits=step)
        rows[f"fused codes, {codes.bits_per_record} bits, weight 1"] = codes.scores(
            z, p, scale(decoded)
        )
    plain = ndcg(cosine, gains)
    for name, scores in rows.items():
        values = ndcg(scores, gains)
        low, high = interval(values - plain, groups)
        change = f"{(values - plain).mean():+.4f} ({low:+.4f} to {high:+.4f})"
        print(f"{name:38} {values.mean():.4f}  {change}")


if __name__ == "__main__":
    main()
