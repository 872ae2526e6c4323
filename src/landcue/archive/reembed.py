"""Encode all records again with another model, while the old vectors stay in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from landcue.archive import storage
from landcue.archive.changes import open_for_change
from landcue.archive.ingest import IngestReport, Progress, ingest
from landcue.archive.layout import next_base, switch
from landcue.archive.manifest import MANIFEST, read_manifest
from landcue.archive.plan import read_stored, stored_records
from landcue.archive.table import TABLE_FOLDER, RecordTable
from landcue.data.scenes import SceneOptions
from landcue.errors import ArchiveError, UsageError
from landcue.types import Encoder


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """The result of a re-embedding.

    Attributes:
        records: Number of records afterwards.
        dropped: Ids of removed records that could not be encoded again.
        old: Fingerprint of the former model.
        new: Fingerprint of the new model.
        ingest: Report of the last run, without earlier interrupted ones.
    """

    records: int
    dropped: tuple[str, ...]
    old: str
    new: str
    ingest: IngestReport


def reembed(
    folder: Path,
    encoder: Encoder,
    *,
    model_folder: Path | None = None,
    model: Mapping[str, Any] | None = None,
    drop_missing: bool = False,
    keep_parts: bool = False,
    scenes: SceneOptions | None = None,
    batch_size: int = 64,
    commit_every: int = 512,
    workers: int | None = None,
    overlap: bool = False,
    progress: Progress | None = None,
) -> ReembedReport:
    """Compute new embeddings, codes and label scores from the images, then switch to them.

    Until the switch, which is one atomic change, searches use the old model. After a crash the same
    call resumes.

    Args:
        folder: The archive.
        encoder: The new model.
        model_folder: Checkpoint folder to copy into the archive.
        model: Facts about the model for the manifest.
        drop_missing: Drop records whose image cannot be read; otherwise the call fails.
        keep_parts: Whether the new model was trained on the same part of the same images; else
            the records no longer say which part they were in.
        scenes: How chips of scenes are read, if the archive holds any.
        batch_size: Images per encoder call.
        commit_every: Rows per commit.
        workers: Reading threads.
        overlap: Read while the encoder runs.
        progress: Called after each batch.

    Raises:
        UsageError: The archive was made by this model.
        ArchiveError: Its embeddings were imported, records cannot be encoded again, or it is
            locked, broken or cannot be written.
        DataError: No image can be read.
    """
    read_manifest(folder)
    with storage.locked(folder, "writing to"):
        manifest, table = open_for_change(folder)
        if manifest.imported:
            raise ArchiveError(
                f"{folder} holds imported embeddings and no images; index the images themselves "
                "into a new folder"
            )
        if manifest.fingerprint == encoder.fingerprint:
            raise UsageError(f"{folder} was made by this model: there is nothing to do")
        records = stored_records(read_stored(table), Path(manifest.source_root))
        if not keep_parts:
            records = [replace(record, part=None) for record in records]
        if scenes is None and any(record.window is not None for record in records):
            raise UsageError(
                f"{folder} holds chips of scenes: add the --bands, --scale and --nodata that they "
                "were indexed with"
            )
        stage = folder / next_base(manifest.base)
        _drop_other(stage, encoder)
        report = ingest(
            records,
            stage,
            encoder,
            source_root=Path(manifest.source_root),
            model_folder=model_folder,
            model=model,
            batch_size=batch_size,
            commit_every=commit_every,
            prune=True,
            progress=progress,
            workers=workers,
            overlap=overlap,
            scenes=scenes,
        )
        made = RecordTable.open(stage, pinned=False)
        present = set() if made is None else set(made.read(["id"])["id"].to_pylist())
        missing = tuple(sorted({record.id for record in records} - present))
        if missing and not drop_missing:
            reasons = [str(problem) for problem in report.skipped[:1]]
            raise ArchiveError(
                f"{len(missing)} of {len(records)} records cannot be encoded again (first: "
                f"{(*reasons, missing[0])[0]}), so {folder} still uses the old ones; restore their "
                "images, or add --drop-missing"
            )
        new = replace(read_manifest(stage), created=manifest.created)
        switch(folder, new, stage.name)
        return ReembedReport(
            len(present), missing, manifest.fingerprint, encoder.fingerprint, report
        )


def _drop_other(stage: Path, encoder: Encoder) -> None:
    """Remove the unfinished files of a run with another model, or of a repair."""
    present = storage.names(stage)
    if MANIFEST not in present:
        keep = TABLE_FOLDER not in present  # a copy of the model is completed
    else:
        keep = read_manifest(stage).fingerprint == encoder.fingerprint
    if not keep:
        storage.remove(stage)
