"""Evaluate an archive by its own annotated records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from landcue.archive.archive import ArchiveFolder
from landcue.archive.columns import Columns
from landcue.errors import ArchiveError, UsageError
from landcue.files import read_json
from landcue.metrics.annotations import Annotations
from landcue.metrics.evaluation import evaluate, evaluate_codes
from landcue.metrics.protocol import DEFAULT, Protocol, find_protocol
from landcue.report.subject import Subject, code_space, float_space

PARTS = ("test", "val", "train", "all")


def study_archive(
    folder: Path,
    *,
    part: str = "test",
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    say: Callable[[str], None] = lambda _: None,
    opening: Callable[[Path], ArchiveFolder] = ArchiveFolder.open,
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
        opening: Opens it.

    Returns:
        Images and scores in the spaces ``embedding`` and, where there are codes, ``code``.

    Raises:
        ArchiveError: No archive, or no annotated record in the part.
        UsageError: An unknown part or protocol, or a protocol for other images.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}; use {', '.join(PARTS)}")
    archive = opening(folder)
    columns = archive.columns()
    made = _trained_on(archive) if any(columns.part) else {}
    gallery = part
    if protocol.roles is not None:
        protocol.roles.check(
            protocol.name,
            dataset=str(made.get("dataset", "unknown")),
            split=str(made.get("split", "unknown")),
            target="labels",
            part=part,
        )
        gallery = protocol.roles.gallery
    if part != "all" and not any(columns.part):
        part = gallery = "all"
        say(
            "the archive does not hold the images its model was trained on, as far as it "
            "knows: all annotated records are taken"
        )
    rows = _rows(columns, part, folder)
    images = others = _annotations(columns, rows, folder)
    vectors, codes = columns.embedding[rows], columns.code[rows]
    their_vectors, their_codes = vectors, codes
    if gallery != part:
        rows = _rows(columns, gallery, folder)
        others = _annotations(columns, rows, folder)
        their_vectors, their_codes = columns.embedding[rows], columns.code[rows]
    rules: dict[str, Any] = {"protocol": protocol, "resamples": resamples, "gallery_labels": others}
    manifest, n_bits = archive.manifest, archive.manifest.n_bits
    scores = evaluate(vectors, images, gallery=their_vectors, **rules)
    spaces = {"embedding": float_space(scores, vectors, their_vectors)}
    if n_bits:
        scores = evaluate_codes(codes, n_bits, images, gallery=their_codes, **rules)
        spaces["code"] = code_space(scores, codes, n_bits, their_codes)
    about = {
        "archive": folder.resolve().name,
        **made,
        "part": part,
        "gallery": gallery,
        "model": manifest.fingerprint,
        "searched": "embedding",
    }
    return Subject(about["archive"], about, images, others, spaces, archive.thumbnails)


def _rows(columns: Columns, part: str, folder: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    chosen = columns.labels.known.copy()
    if part != "all":
        chosen &= np.array([p == part for p in columns.part], np.bool_)
    if not chosen.any():
        raise ArchiveError(
            f"{folder} has no annotated record in part {part!r}; index images with labels, "
            "or choose another --part"
        )
    return np.flatnonzero(chosen)


def _trained_on(archive: ArchiveFolder) -> dict[str, Any]:
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
