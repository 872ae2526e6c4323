"""Evaluate an archive, a training run, or arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from landcue.archive.archive import Columns
from landcue.errors import ArchiveError, UsageError, did_you_mean
from landcue.files import read_json
from landcue.metrics.annotations import Annotations
from landcue.metrics.evaluation import Labels, evaluate_codes
from landcue.metrics.evaluation import evaluate as evaluate_vectors
from landcue.metrics.protocol import DEFAULT, Protocol, find_protocol
from landcue.metrics.report import Report
from landcue.report.evaluation import Evaluation, code_space, float_space, measure_times
from landcue.types import FloatArray

if TYPE_CHECKING:
    from landcue.search.backend import Storage

_ARCHIVE_FILE = "manifest.json"
_RUN_FILE = "config.yaml"
PARTS = ("test", "val", "train", "all")
Message = Callable[[str], object]
"""Called with a warning or with what was skipped."""
Progress = Callable[[str, int, int], object]
"""Called with (stage, done, total)."""


@overload
def evaluate(
    source: str | Path,
    labels: None = None,
    *,
    part: str = ...,
    protocol: Protocol | str = ...,
    resamples: int = ...,
    data_root: str | Path | None = ...,
    message: Message = ...,
    progress: Progress = ...,
) -> Evaluation: ...


@overload
def evaluate(source: FloatArray, labels: Labels, **options: Any) -> Report: ...


def evaluate(
    source: str | Path | FloatArray, labels: Labels | None = None, **options: Any
) -> Evaluation | Report:
    """Measure how well an archive, a trained model or embeddings retrieve.

    Each annotated image of a part queries all others of that part. A protocol with roles names the
    part that is searched instead, and the dataset and split it asks for.

    Args:
        source: An archive (a folder, or ``milvus://host:port/collection``), the folder of a
            training run, or unit vectors ``[n, d]``.
        labels: Of vectors: see :func:`landcue.metrics.evaluate`, which then gets all options.
        **options: ``part`` (``test``, ``val``, ``train``, or ``all`` records of an archive),
            ``protocol`` (a name or a value), ``resamples`` (bootstrap resamples for the 95 %
            intervals, 1000), ``data_root`` (images of a run, if they moved), ``message`` (called
            with warnings), ``progress`` (called with stage, done and total).

    Returns:
        Of vectors a :class:`landcue.metrics.Report`; else an
        :class:`landcue.report.evaluation.Evaluation` with a report per space.

    Raises:
        UsageError: The source is neither; an unknown part or protocol, or a protocol for others.
        ArchiveError: The archive is broken, or has no annotated record in the part.
        ModelError: The run is broken.
        DataError: The images of the run are missing, or its part is empty.

    >>> import numpy as np
    >>> evaluate(np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], [0, 0, 1, 1], ks=(1,)).metrics["mAP"]
    1.0
    """
    if isinstance(source, np.ndarray):
        if labels is None:
            raise UsageError(
                "embeddings are evaluated by their labels: evaluate(embeddings, labels)"
            )
        return evaluate_vectors(source, labels, **options)
    if is_archive(source):
        options.pop("data_root", None)
        return _evaluate_archive(str(source), **options)
    run = Path(source)
    if (run / _RUN_FILE).is_file():
        from landcue.training.evaluation import study_run

        if options.get("data_root") is not None:
            options["data_root"] = Path(options["data_root"])
        return study_run(run, **options)
    raise UsageError(f"{source} is neither a run ({_RUN_FILE}) nor an archive ({_ARCHIVE_FILE})")


def is_archive(source: str | Path) -> bool:
    """Return whether a path or an address is that of an archive."""
    from landcue.search.opened import is_collection

    return is_collection(Path(source)) or (Path(source) / _ARCHIVE_FILE).is_file()


def _evaluate_archive(
    source: str,
    *,
    part: str = "test",
    protocol: Protocol | str = DEFAULT,
    resamples: int = 1000,
    message: Message = lambda _: None,
    progress: Progress | None = None,
) -> Evaluation:
    """Let each annotated record of a part query the others of that part.

    An archive made of the images its model was trained on knows the part of every record. Without
    that all annotated records are taken.
    """
    from landcue.search.opened import open_storage

    folder = Path(source)
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    if part not in PARTS:
        raise UsageError(f"unknown part {part!r}{did_you_mean(part, PARTS)}")
    archive = open_storage(folder)
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
        message(
            "no record of the archive is known to belong to its model's data set: all annotated "
            "records are evaluated"
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
    scores = evaluate_vectors(vectors, images, gallery=their_vectors, **rules)
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
    spaces = measure_times(spaces)
    return Evaluation(about["archive"], about, images, others, spaces, archive.thumbnails)


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


def _trained_on(archive: Storage) -> dict[str, Any]:
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
