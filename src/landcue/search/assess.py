"""Evaluate an archive by its own annotated records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landcue.archive.archive import Archive
from landcue.archive.columns import Columns
from landcue.errors import ArchiveError, UsageError
from landcue.evaluation.annotations import Annotations
from landcue.evaluation.evaluate import Scores, evaluate_codes, evaluate_embeddings
from landcue.evaluation.protocol import DEFAULT, Protocol
from landcue.files import read_json
from landcue.report.subject import Subject, code_space, float_space

PARTS = ("test", "val", "train", "all")


def assess_archive(
    folder: Path,
    *,
    part: str = "test",
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Scores]]:
    """Return provenance and scores by space: see :func:`study_archive`."""
    subject = study_archive(folder, part=part, protocol=protocol, resamples=resamples, say=say)
    return subject.about, subject.scores


def study_archive(
    folder: Path,
    *,
    part: str = "test",
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> Subject:
    """Let each annotated record of a part query the others of that part.

    An archive made of the images its model was trained on knows the part of every record. Without
    such a note all annotated records are taken.

    Args:
        folder: The archive.
        part: ``test``, ``val``, ``train``, or ``all``.
        protocol: What is measured.
        resamples: Bootstrap resamples for the intervals.
        say: Told when the parts are unknown.

    Returns:
        Images and scores in the spaces ``embedding`` and, where there are codes, ``code``.

    Raises:
        ArchiveError: No archive, or no annotated record in the part.
        UsageError: An unknown part or protocol.
    """
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}; use {', '.join(PARTS)}")
    archive = Archive.open(folder)
    columns = archive.columns()
    chosen = columns.labels.known.copy()
    if part != "all":
        if any(columns.part):
            chosen &= np.array([p == part for p in columns.part], np.bool_)
        else:
            part = "all"
            say(
                "the archive does not hold the images its model was trained on, as far as it "
                "knows: all annotated records are taken"
            )
    if not chosen.any():
        raise ArchiveError(
            f"{folder} has no annotated record in part {part!r}; index images with labels, "
            "or choose another --part"
        )
    rows = np.flatnonzero(chosen)
    images = _annotations(columns, rows, folder)
    manifest = archive.manifest
    vectors = columns.embedding[rows]
    scores = evaluate_embeddings(images, vectors, protocol=protocol, resamples=resamples)
    spaces = {"embedding": float_space(scores, vectors)}
    if manifest.n_bits:
        codes, n_bits = columns.code[rows], manifest.n_bits
        scores = evaluate_codes(images, codes, n_bits, protocol=protocol, resamples=resamples)
        spaces["code"] = code_space(scores, codes, n_bits)
    about = {
        "archive": folder.resolve().name,
        **(_trained_on(archive) if any(columns.part) else {}),
        "part": part,
        "model": manifest.fingerprint,
        "searched": "embedding",
    }
    return Subject(about["archive"], about, images, images, spaces, archive.thumbnails)


def _trained_on(archive: Archive) -> dict[str, Any]:
    """Return dataset and split of the model, which are the archive's where it knows parts."""
    if archive.model_folder is None:
        return {}
    file = archive.model_folder / "config.json"
    known = read_json(file, ArchiveError, "restore it from a copy of the model")
    provenance = known.get("provenance") or {}
    return {key: provenance[key] for key in ("dataset", "split") if key in provenance}


def _annotations(
    columns: Columns, rows: np.ndarray[Any, np.dtype[np.int64]], folder: Path
) -> Annotations:
    if not columns.labels.names:
        raise ArchiveError(f"no record of {folder} carries a label; index images with labels")
    labels = np.stack([columns.labels.having(name)[rows] for name in columns.labels.names], axis=1)
    return Annotations(
        ids=tuple(columns.ids[row] for row in rows),
        labels=labels.astype(np.uint8),
        label_names=columns.labels.names,
        groups=tuple(columns.group[row] for row in rows),
    )
