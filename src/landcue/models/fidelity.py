"""What an exported encoder loses: vectors, codes and retrieval beside the original's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.codes.packing import unpack_bits
from landcue.data.imageset import label_matrix
from landcue.metrics.annotations import annotate
from landcue.metrics.evaluation import evaluate, evaluate_codes
from landcue.metrics.protocol import DEFAULT
from landcue.types import Encoding, Record

_NEIGHBORS = 20
_METRIC = "nDCG@100"


def compare_encodings(
    original: Encoding, exported: Encoding, records: Sequence[Record], label_names: Sequence[str]
) -> dict[str, Any]:
    """Compare what two encoders say about the same n images.

    Returns:
        ``images``; ``cosine``: mean and least cosine between the two embeddings of an image;
        ``flipped_bits``: share of bits that differ; ``recall@20``: share of the original's 20
        nearest images that are among the exported one's; ``retrieval``: of both, nDCG@100 with
        every image as a query, and the ``loss`` as a share of the original's.
    """
    cosine = np.einsum("nd,nd->n", original.embedding, exported.embedding)
    found: dict[str, Any] = {
        "images": len(original),
        "cosine": {"mean": float(cosine.mean()), "least": float(cosine.min())},
        f"recall@{_NEIGHBORS}": _overlap(original.embedding, exported.embedding),
    }
    if original.n_bits:
        bits = [unpack_bits(e.code, e.n_bits) for e in (original, exported)]
        found["flipped_bits"] = float((bits[0] != bits[1]).mean())
    if label_names and all(record.labels for record in records) and len(records) > 1:
        found["retrieval"] = _retrieval(original, exported, records, label_names)
    return found


def _retrieval(
    original: Encoding, exported: Encoding, records: Sequence[Record], label_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    labels = label_matrix([record.labels for record in records], label_names)
    images = annotate([record.id for record in records], labels, label_names)
    pairs = {
        "embedding": [
            evaluate(e.embedding, images, protocol=DEFAULT) for e in (original, exported)
        ],
    }
    if original.n_bits:
        codes = [
            evaluate_codes(e.code, e.n_bits, images, protocol=DEFAULT) for e in (original, exported)
        ]
        pairs["code"] = codes
    found: dict[str, dict[str, float]] = {}
    for space, scores in pairs.items():
        before, after = (s.metrics[_METRIC] for s in scores)
        found[space] = {"original": before, "exported": after, "loss": 1 - after / before}
    return found


def _overlap(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> float:
    """Return the share of each row's nearest others in ``first`` that ``second`` finds too."""
    k = min(_NEIGHBORS, len(first) - 1)
    if k < 1:
        return 1.0
    near = [_nearest(vectors, k) for vectors in (first, second)]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(shared)) / k


def _nearest(vectors: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    return np.argpartition(-similarity, k - 1, axis=1)[:, :k]
