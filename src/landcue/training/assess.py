"""Evaluate a finished run on a part of its own dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from landcue.data.datasets.bands import RGB
from landcue.data.imageset import ImageSet
from landcue.data.splits import data_id
from landcue.errors import DataError, UsageError
from landcue.metrics.annotations import Annotations
from landcue.metrics.protocol import DEFAULT, Protocol, find_protocol
from landcue.models.checkpoint import load_checkpoint
from landcue.models.encoder import NeuralEncoder
from landcue.report.pictures import pictures_of
from landcue.report.subject import Subject, code_space, float_space
from landcue.training.config import read_config
from landcue.training.loop import Say, Tick, no_tick, read_split
from landcue.training.pixels import load_pixels
from landcue.training.validation import Spaces, annotate_pixels, encode_pixels, score_spaces
from landcue.types import ByteArray


def study_run(
    run: Path,
    *,
    part: str = "test",
    data_root: Path | None = None,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    say: Say = lambda _: None,
    tick: Tick = no_tick,
) -> Subject:
    """Encode a part of the run's dataset and let each image query all others of it.

    A protocol with roles names the part that is searched instead, and the dataset and split that
    the run must have.

    Args:
        run: A folder that :func:`landcue.training.loop.train` finished.
        part: ``test``, ``val`` or ``train``.
        data_root: Where the images are now, if they moved.
        protocol: What is measured.
        resamples: Bootstrap resamples for the intervals.
        say: Told what was skipped.
        tick: Told how far it is.

    Raises:
        ModelError: No finished run in the folder.
        DataError: The images are missing, or the part is empty.
        UsageError: An unknown part or protocol, or a protocol for another dataset, split or part.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    if part not in ("train", "val", "test"):
        raise UsageError(f"unknown part {part!r}; use test, val or train")
    checkpoint = load_checkpoint(run)
    if checkpoint.unfinished:
        say(f"warning: the training of {run} has not ended; this is its best epoch so far")
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
        say(
            "warning: ids, labels or split differ from what this model was trained on; "
            "images it has seen may be among the queries"
        )
    model = checkpoint.encoder
    bands = config.data.bands
    query = _encode(model, images, part, bands, say, tick)
    theirs = query if gallery == part else _encode(model, images, gallery, bands, say, tick)
    scores = score_spaces(
        query.spaces,
        query.known,
        (theirs.known, theirs.spaces),
        protocol=protocol,
        resamples=resamples,
    )
    ours, found = query.spaces, theirs.spaces
    spaces = {
        "embedding": float_space(scores["embedding"], ours.embedding, found.embedding),
        "features": float_space(scores["features"], ours.features, found.features),
    }
    if "code" in scores:
        spaces["code"] = code_space(scores["code"], ours.code, ours.n_bits, found.code)
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
        "skipped": sum(encoded.skipped for encoded in parts),
    }
    pictures = pictures_of(
        [name for encoded in parts for name in encoded.known.ids],
        query.pixels if theirs is query else np.concatenate([query.pixels, theirs.pixels]),
    )
    return Subject(name, about, query.known, theirs.known, spaces, pictures)


@dataclass(frozen=True, slots=True)
class _Encoded:
    known: Annotations
    spaces: Spaces
    pixels: ByteArray
    skipped: int


def _encode(
    model: NeuralEncoder, images: ImageSet, part: str, bands: Sequence[str], say: Say, tick: Tick
) -> _Encoded:
    records = images.part(part).records
    if not records:
        raise DataError(f"the run's split has no {part} part; use --part test or train")
    pixels = load_pixels(
        records, model.config.image_size, lambda i, n: tick(f"decoding {part}", i, n), bands
    )
    for problem in pixels.problems:
        say(f"skipped {problem.what}")
    spaces = encode_pixels(model, pixels.pixels, lambda i, n: tick(f"encoding {part}", i, n))
    known = annotate_pixels(pixels, images.label_names)
    return _Encoded(known, spaces, _as_rgb(pixels.pixels, bands), len(pixels.problems))


def _as_rgb(pixels: ByteArray, bands: Sequence[str]) -> ByteArray:
    """Return three bands ``[n, s, s, 3]`` for pictures: the colors where they are known."""
    if not bands:
        return pixels
    of_colors = all(band in bands for band in RGB)
    shown = [bands.index(band) for band in RGB] if of_colors else [0, len(bands) // 2, -1]
    return pixels[..., shown]
