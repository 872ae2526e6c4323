"""Evaluate a finished run on a part of its own dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from landcue.data.splits import data_id
from landcue.errors import DataError, UsageError
from landcue.evaluation.evaluate import Scores
from landcue.evaluation.protocol import DEFAULT, Protocol
from landcue.models.checkpoint import load_checkpoint
from landcue.report.pictures import pictures_of
from landcue.report.subject import Subject, code_space, float_space
from landcue.training.config import read_config
from landcue.training.loop import Say, Tick, no_tick, read_split
from landcue.training.pixels import load_pixels
from landcue.training.validation import annotate_pixels, encode_pixels, score_spaces


@dataclass(frozen=True, slots=True)
class Assessment:
    """Scores of a run, with what they were measured on.

    Attributes:
        about: ``dataset``, ``split``, ``part``, ``model`` (fingerprint), ``searched`` (the space
            that the model is searched in, a key of ``spaces``) and ``skipped`` images.
        spaces: Scores of ``embedding``, ``features`` and, with a hash head, ``code``.
    """

    about: dict[str, Any]
    spaces: dict[str, Scores]


def assess_run(
    run: Path,
    *,
    part: str = "test",
    data_root: Path | None = None,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    say: Say = lambda _: None,
    tick: Tick = no_tick,
) -> Assessment:
    """Return the scores alone: see :func:`study_run`."""
    found = study_run(
        run,
        part=part,
        data_root=data_root,
        protocol=protocol,
        resamples=resamples,
        say=say,
        tick=tick,
    )
    return Assessment(found.about, found.scores)


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
    """Encode a part of the run's dataset and evaluate it leave-one-out.

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
        UsageError: An unknown part or protocol.
    """
    if part not in ("train", "val", "test"):
        raise UsageError(f"unknown part {part!r}; use test, val or train")
    checkpoint = load_checkpoint(run)
    if checkpoint.unfinished:
        say(f"warning: the training of {run} has not ended; this is its best epoch so far")
    config = read_config(run / "config.yaml")
    if data_root is not None:
        data = config.data.model_copy(update={"root": str(data_root)})
        config = config.model_copy(update={"data": data})
    images = read_split(config)
    if data_id(images) != checkpoint.provenance.get("data_id"):
        say(
            "warning: ids, labels or split differ from what this model was trained on; "
            "images it has seen may be among the queries"
        )
    records = images.part(part).records
    if not records:
        raise DataError(f"split {config.data.split} has no {part} part; use --part test or train")
    model = checkpoint.encoder
    pixels = load_pixels(
        records, model.config.image_size, lambda i, n: tick(f"decoding {part}", i, n)
    )
    for problem in pixels.problems:
        say(f"skipped {problem.what}")
    found = encode_pixels(model, pixels.pixels, lambda i, n: tick(f"encoding {part}", i, n))
    known = annotate_pixels(pixels, images.label_names)
    scores = score_spaces(found, known, protocol=protocol, resamples=resamples)
    spaces = {
        "embedding": float_space(scores["embedding"], found.embedding),
        "features": float_space(scores["features"], found.features),
    }
    if "code" in scores:
        spaces["code"] = code_space(scores["code"], found.code, found.n_bits)
    name = run.resolve().name
    about = {
        "run": name,
        "dataset": config.data.dataset,
        "split": config.data.split,
        "part": part,
        "model": model.fingerprint,
        "searched": model.config.retrieval,
        "skipped": len(pixels.problems),
    }
    return Subject(name, about, known, known, spaces, pictures_of(known.ids, pixels.pixels))
