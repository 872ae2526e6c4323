"""Retrieval scores of a model on images: during training, and of a finished run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from landcue.codes.packing import pack_bits
from landcue.data.datasets.bands import RGB
from landcue.data.imageset import ImageSet
from landcue.data.splits import data_id
from landcue.errors import DataError, UsageError
from landcue.files import core_count
from landcue.metrics.annotations import Annotations
from landcue.metrics.evaluation import evaluate, evaluate_codes
from landcue.metrics.protocol import DEFAULT, Protocol, find_protocol
from landcue.metrics.report import Report
from landcue.models.checkpoint import load_checkpoint
from landcue.models.encoder import NeuralEncoder, Outputs
from landcue.report.evaluation import (
    Evaluation,
    code_space,
    float_space,
    measure_times,
    thumbnail,
)
from landcue.training.averages import calibration_errors, fit_label_temperatures
from landcue.training.config import read_config
from landcue.training.images import ImageDataset, Message, Progress, ignore, read_split
from landcue.types import ByteArray, FloatArray

_BATCH = 64
VALIDATION_METRICS = ("nDCG@100", "mAP", "WAP@100", "mAP@20")
"""What is measured on the validation part after each epoch."""


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


def outputs_of(
    model: NeuralEncoder,
    images: ImageDataset,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Outputs]:
    """Yield what a model says about images of its size, a batch in memory at a time."""
    with ThreadPoolExecutor(max(2, core_count())) as pool:
        for first in range(0, len(images), _BATCH):
            rows = range(first, min(first + _BATCH, len(images)))
            yield model.outputs(images.batch(rows, pool))
            if progress:
                progress(rows.stop, len(images))


def encode_images(
    model: NeuralEncoder,
    images: ImageDataset,
    progress: Callable[[int, int], None] | None = None,
) -> Spaces:
    """Encode images of the model's size."""
    parts: list[tuple[FloatArray, FloatArray, ByteArray, FloatArray]] = []
    for out in outputs_of(model, images, progress):
        features = out.features.cpu().numpy()
        features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        bits = out.hash.cpu().numpy() > 0
        scores = model.label_scores(out.logits).cpu().numpy()
        parts.append((out.embedding.cpu().numpy(), features, pack_bits(bits), scores))
    embedding, features, code, scores = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Spaces(embedding, features, code, model.n_bits, scores)


def annotate(images: ImageDataset) -> Annotations:
    """Return ids, labels and groups of images."""
    ids, groups = zip(*((record.id, record.group) for record in images.records), strict=True)
    return Annotations(ids, images.labels, images.label_names, groups)


def count_labels(images: ImageSet) -> dict[str, int] | None:
    """Return the images of the train part by label; ``None`` without such a part."""
    records = images.part("train").records
    if not records:
        return None
    counts = Counter(name for record in records for name in record.labels or ())
    return {name: counts[name] for name in images.label_names}


def score_spaces(
    spaces: Spaces,
    images: Annotations,
    gallery: tuple[Annotations, Spaces] | None = None,
    *,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 0,
    label_counts: Mapping[str, int] | None = None,
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
            label_counts=label_counts,
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
            label_counts=label_counts,
        )
    return scores


def validation_scores(model: NeuralEncoder, images: ImageDataset) -> dict[str, float]:
    """Return the main scores of the searched space, and of the codes as ``code/...``."""
    scores = score_spaces(encode_images(model, images), annotate(images))
    searched = scores[model.config.retrieval].metrics
    shown = {name: searched[name] for name in VALIDATION_METRICS}
    if "code" in scores:
        shown |= {f"code/{name}": scores["code"].metrics[name] for name in VALIDATION_METRICS}
    # A part in which no query has a relevant image defines no score.
    return {name: value if math.isfinite(value) else 0.0 for name, value in shown.items()}


def calibrate_labels(model: NeuralEncoder, images: ImageDataset) -> dict[str, Any]:
    """Set a model's label temperatures by images that it was not trained on, in place.

    Returns:
        ``images``, and ``before`` and ``after`` with the ``cross_entropy`` of the probabilities
        and their mean ``gap`` to the frequencies (on the same images).
    """
    logits = [out.logits.float().cpu().numpy() for out in outputs_of(model, images)]
    found, exclusive = np.concatenate(logits), model.config.exclusive_labels

    def errors() -> dict[str, float]:
        scores = model.label_scores(torch.from_numpy(found)).numpy()
        return dict(zip(("cross_entropy", "gap"), calibration_errors(scores, labels), strict=True))

    labels = images.labels
    before = errors()
    temperatures = fit_label_temperatures(found, labels, exclusive=exclusive)
    model.config = replace(model.config, label_temperatures=temperatures)
    return {"images": len(images), "before": before, "after": errors()}


def study_run(
    run: str | Path,
    *,
    part: str = "test",
    data_root: str | Path | None = None,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    message: Message = ignore,
    progress: Progress = ignore,
) -> Evaluation:
    """Encode a part of the run's dataset and let each image query all others of it.

    A protocol with roles names the part that is searched instead, and the dataset and split that
    the run must have.

    Args:
        run: A folder that :func:`landcue.training.loop.train` finished.
        part: ``test``, ``val`` or ``train``.
        data_root: Where the images are now, if they moved.
        protocol: What is measured.
        resamples: Bootstrap resamples for the intervals.
        message: Called with warnings and what was skipped.
        progress: Called with a stage's name, what is done and the total.

    Raises:
        ModelError: No finished run in the folder.
        DataError: The images are missing, or the part is empty.
        UsageError: An unknown part or protocol, or a protocol for another dataset, split or part.

    >>> study_run("runs/marc").metrics["mAP"]                            # doctest: +SKIP
    """
    run = Path(run)
    data_root = None if data_root is None else Path(data_root)
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    if part not in ("train", "val", "test"):
        raise UsageError(f"unknown part {part!r}; use test, val or train")
    checkpoint = load_checkpoint(run)
    if checkpoint.unfinished:
        message(f"warning: the training of {run} has not ended; this is its best epoch so far")
    config = read_config(run / "config.yaml")
    gallery = part
    if protocol.roles is not None:
        data = config.data
        protocol.roles.check(
            protocol.name, dataset=data.dataset, split=data.split, target=data.target, part=part
        )
        gallery = protocol.roles.gallery
    if data_root is not None:
        data = config.data.model_copy(update={"root": str(data_root)})
        config = config.model_copy(update={"data": data})
    images = read_split(config)
    if data_id(images) != checkpoint.provenance.get("data_id"):
        message(
            "warning: ids, labels or split differ from what this model was trained on; "
            "images it has seen may be among the queries"
        )
    model = checkpoint.encoder
    bands = config.data.bands
    query = _encode(model, images, part, bands, message, progress)
    theirs = query if gallery == part else _encode(model, images, gallery, bands, message, progress)
    scores = score_spaces(
        query.spaces,
        query.known,
        (theirs.known, theirs.spaces),
        protocol=protocol,
        resamples=resamples,
        label_counts=count_labels(images),
    )
    ours, others = query.spaces, theirs.spaces
    spaces = {
        "embedding": float_space(scores["embedding"], ours.embedding, others.embedding),
        "features": float_space(scores["features"], ours.features, others.features),
    }
    if "code" in scores:
        spaces["code"] = code_space(scores["code"], ours.code, ours.n_bits, others.code)
    parts = [query] if theirs is query else [query, theirs]
    name = run.resolve().name
    about = {
        "run": name,
        "dataset": config.data.dataset,
        "split": config.data.split,
        "part": part,
        "gallery": gallery,
        "model": model.fingerprint,
        "searched": model.config.retrieval,
        "skipped": sum(len(encoded.images.problems) for encoded in parts),
    }
    shown = {
        record.id: (encoded.images, row)
        for encoded in parts
        for row, record in enumerate(encoded.images.records)
    }

    def pictures(wanted: Iterable[str]) -> dict[str, bytes]:
        found = {name: shown[name] for name in wanted if name in shown}
        return {n: thumbnail(_as_rgb(i.pixels(row), bands)) for n, (i, row) in found.items()}

    spaces = measure_times(spaces)
    return Evaluation(name, about, query.known, theirs.known, spaces, pictures)


@dataclass(frozen=True, slots=True)
class _Encoded:
    images: ImageDataset
    known: Annotations
    spaces: Spaces


def _encode(
    model: NeuralEncoder,
    images: ImageSet,
    part: str,
    bands: Sequence[str],
    message: Message,
    progress: Progress,
) -> _Encoded:
    records = images.part(part).records
    if not records:
        raise DataError(f"the run's split has no {part} part; use --part test or train")
    found = ImageDataset(records, images.label_names, model.config.image_size, bands)
    found.drop_unreadable(lambda i, n: progress(f"decoding {part}", i, n))
    for problem in found.problems:
        message(f"skipped {problem.what}")
    spaces = encode_images(model, found, lambda i, n: progress(f"encoding {part}", i, n))
    return _Encoded(found, annotate(found), spaces)


def _as_rgb(pixels: ByteArray, bands: Sequence[str]) -> ByteArray:
    """Return three bands ``[s, s, 3]`` for a picture: the colors where they are known."""
    if not bands:
        return pixels
    of_colors = all(band in bands for band in RGB)
    shown = [bands.index(band) for band in RGB] if of_colors else [0, len(bands) // 2, -1]
    return pixels[..., shown]
