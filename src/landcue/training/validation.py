"""Retrieval scores of a model on images: during training, and of a finished run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landcue.codes.packing import pack_bits
from landcue.data.imageset import label_matrix
from landcue.metrics.annotations import Annotations
from landcue.metrics.evaluation import evaluate, evaluate_codes
from landcue.metrics.protocol import DEFAULT, Protocol
from landcue.metrics.report import Report
from landcue.models.encoder import NeuralEncoder
from landcue.training.pixels import Pixels
from landcue.types import ByteArray, FloatArray

_BATCH = 64
_SHOWN = ("nDCG@100", "mAP", "WAP@100", "mAP@20")


@dataclass(frozen=True, slots=True)
class Spaces:
    """The same n images in every space a model has.

    Attributes:
        embedding: Unit-norm projections, float32 ``[n, d]``.
        features: Unit-norm backbone features, float32 ``[n, F]``.
        code: Packed hash codes, uint8 ``[n, ceil(K / 8)]``.
        n_bits: K; 0 without a hash head.
        label_scores: Of the label head, float32 ``[n, C]`` in 0..1; ``[n, 0]`` without it.
    """

    embedding: FloatArray
    features: FloatArray
    code: ByteArray
    n_bits: int
    label_scores: FloatArray


def encode_pixels(
    model: NeuralEncoder,
    pixels: ByteArray,
    progress: Callable[[int, int], None] | None = None,
) -> Spaces:
    """Encode prepared images, uint8 ``[n, s, s, 3]``, in batches."""
    parts: list[tuple[FloatArray, FloatArray, ByteArray, FloatArray]] = []
    for first in range(0, len(pixels), _BATCH):
        out = model.outputs(pixels[first : first + _BATCH])
        features = out.features.cpu().numpy()
        features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        bits = out.hash.cpu().numpy() > 0
        scores = model.label_scores(out.logits).cpu().numpy()
        parts.append((out.embedding.cpu().numpy(), features, pack_bits(bits), scores))
        if progress:
            progress(min(first + _BATCH, len(pixels)), len(pixels))
    embedding, features, code, scores = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Spaces(embedding, features, code, model.n_bits, scores)


def annotate_pixels(pixels: Pixels, label_names: tuple[str, ...]) -> Annotations:
    """Return ids, labels and groups of decoded images."""
    records = pixels.records
    labels = label_matrix([record.labels for record in records], label_names)
    ids = tuple(record.id for record in records)
    return Annotations(ids, labels, label_names, tuple(record.group for record in records))


def score_spaces(
    spaces: Spaces,
    images: Annotations,
    gallery: tuple[Annotations, Spaces] | None = None,
    *,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 0,
) -> dict[str, Report]:
    """Evaluate every space: each image queries a gallery, or all other images without one.

    Returns:
        ``embedding``, ``features`` and, with a hash head, ``code``.
    """
    known, theirs = gallery or (images, spaces)
    scores = {
        name: evaluate(
            getattr(spaces, name),
            images,
            gallery=getattr(theirs, name),
            gallery_labels=known,
            protocol=protocol,
            resamples=resamples,
        )
        for name in ("embedding", "features")
    }
    if spaces.n_bits:
        scores["code"] = evaluate_codes(
            spaces.code,
            spaces.n_bits,
            images,
            gallery=theirs.code,
            gallery_labels=known,
            protocol=protocol,
            resamples=resamples,
        )
    return scores


def validation_scores(
    model: NeuralEncoder, pixels: Pixels, label_names: tuple[str, ...]
) -> dict[str, float]:
    """Return the main scores of the searched space, and of the codes as ``code/...``."""
    scores = score_spaces(encode_pixels(model, pixels.pixels), annotate_pixels(pixels, label_names))
    searched = scores[model.config.retrieval].metrics
    shown = {name: searched[name] for name in _SHOWN}
    if "code" in scores:
        shown |= {f"code/{name}": scores["code"].metrics[name] for name in _SHOWN}
    # A part in which no query has a relevant image defines no score.
    return {name: value if math.isfinite(value) else 0.0 for name, value in shown.items()}
