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

PARTS = ("test", "val", "train", "all")


def assess_archive(
    folder: Path,
    *,
    part: str = "test",
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Any], dict[str, Scores]]:
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
        Facts (``archive``, ``part``, ``model``, ``searched``) and the scores of ``embedding``
        and, where there are codes, ``code``.

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
    images = _annotations(columns, rows)
    manifest = archive.manifest
    scores = {
        "embedding": evaluate_embeddings(
            images, columns.embedding[rows], protocol=protocol, resamples=resamples
        )
    }
    if manifest.n_bits:
        scores["code"] = evaluate_codes(
            images, columns.code[rows], manifest.n_bits, protocol=protocol, resamples=resamples
        )
    about = {
        "archive": folder.name,
        "part": part,
        "model": manifest.fingerprint,
        "searched": "embedding",
    }
    return about, scores


def _annotations(columns: Columns, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Annotations:
    labels = np.stack([columns.labels.having(name)[rows] for name in columns.labels.names], axis=1)
    return Annotations(
        ids=tuple(columns.ids[row] for row in rows),
        labels=labels.astype(np.uint8),
        label_names=columns.labels.names,
        groups=tuple(columns.group[row] for row in rows),
    )
