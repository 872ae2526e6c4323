"""Build an archive's table again: repair it, or encode it with another model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from landcue.archive import storage
from landcue.archive.changes import open_for_change
from landcue.archive.checksums import (
    CHECKSUMS,
    INDEXES,
    MODEL_FOLDER,
    Checksums,
    forget_checksums,
    write_checksums,
)
from landcue.archive.encoding import EncodingOptions, encoding_here
from landcue.archive.ingest import IngestReport, Progress, ingest
from landcue.archive.layout import copy_model, next_base, switch
from landcue.archive.manifest import MANIFEST, Manifest, now, read_manifest, write_manifest
from landcue.archive.plan import (
    SourceImages,
    Stored,
    make_plan,
    read_stored,
    stored_records,
    stored_row,
)
from landcue.archive.reading import Known
from landcue.archive.sources import Source
from landcue.archive.space import keep_former_spaces
from landcue.archive.table import TABLE_FOLDER, RecordTable, version_files, version_number
from landcue.archive.verify import (
    Files,
    RowCheck,
    check_rows,
    read_small_files,
    sound_rows,
    verify_files,
)
from landcue.data.names import find_stored
from landcue.data.objects import is_object, shown
from landcue.data.scenes import SceneOptions
from landcue.errors import ArchiveError, DataError, ModelError, StoreError, UsageError
from landcue.types import Encoder, Problem, regions_of

_DEFAULTS = EncodingOptions()


@dataclass(frozen=True, slots=True)
class ReembedReport:
    """The result of a re-embedding.

    Attributes:
        records: Number of records afterwards.
        dropped: Ids of removed records that could not be encoded again.
        old: Fingerprint of the former model.
        new: Fingerprint of the new model.
        ingests: Reports of the last run, one per source, without earlier interrupted ones.
    """

    records: int
    dropped: tuple[str, ...]
    old: str
    new: str
    ingests: tuple[IngestReport, ...]


def reembed(
    folder: Path,
    encoder: Encoder,
    *,
    model_folder: Path | None = None,
    model: Mapping[str, Any] | None = None,
    drop_missing: bool = False,
    keep_parts: bool = False,
    scenes: Callable[[Source], SceneOptions | None] | None = None,
    options: EncodingOptions = _DEFAULTS,
    progress: Progress | None = None,
    reuse: Known | None = None,
) -> ReembedReport:
    """Compute new embeddings, codes and label scores from the images, then switch to them.

    Until the switch, which is one atomic change, searches use the old model. After a crash the same
    call resumes. Where only what was fitted changes, saved searches and images that collections
    keep are converted when they are used next.

    Args:
        model_folder: Checkpoint folder to copy into the archive.
        model: Facts about the model for the manifest.
        drop_missing: Drop records whose image cannot be read; otherwise the call fails.
        keep_parts: Whether the new model was trained on the same part of the same images; else
            the records no longer say which part they were in.
        scenes: Returns how chips of the scenes of a source are read.
        reuse: Images that were read and encoded already.

    Raises:
        UsageError: The archive was made by this model.
        ArchiveError: Its embeddings were imported, records cannot be encoded again, or it is
            locked, broken or cannot be written.
        DataError: No image can be read.
    """
    read_manifest(folder)
    with storage.locked(folder, "writing to"):
        manifest, table = open_for_change(folder)
        check_images(folder, manifest)
        same = manifest.fingerprint == encoder.fingerprint
        if same and manifest.regions == regions_of(encoder):
            raise UsageError(f"{folder} was made by this model: there is nothing to do")
        stored = read_stored(table)
        stage = folder / next_base(manifest.base)
        _drop_other(stage, encoder)
        reports: list[IngestReport] = []
        failed: list[DataError] = []
        for images in stored_parts(manifest, stored, scenes or (lambda _: None)):
            records = images.records
            if not records:
                continue
            if not keep_parts:
                records = [replace(record, part=None) for record in records]
            if images.scenes is None and any(record.window is not None for record in records):
                raise UsageError(
                    f"{folder} holds chips of scenes: add the --bands, --scale and --nodata that "
                    "they were indexed with"
                )
            try:
                reports.append(
                    ingest(
                        replace(images, records=records),
                        stage,
                        encoder,
                        options=options,
                        prune=True,
                        model_folder=model_folder,
                        model=model,
                        progress=progress,
                        reuse=reuse,
                    )
                )
            except DataError as error:  # no image of this source can be read
                if isinstance(error, StoreError):
                    raise
                failed.append(error)
        if not reports:
            raise failed[0] if failed else ArchiveError(f"{folder} holds no record")
        made = RecordTable.open(stage, pinned=False)
        present = set() if made is None else set(made.read(["id"])["id"].to_pylist())
        missing = tuple(sorted(stored.keys() - present))
        if missing and not drop_missing:
            problems = [problem for report in reports for problem in report.skipped]
            reasons = [str(reason) for reason in (*problems, *failed)[:1]]
            raise ArchiveError(
                f"{len(missing)} of {len(stored)} records cannot be encoded again (first: "
                f"{(*reasons, missing[0])[0]}), so {folder} still uses the old ones; restore their "
                "images, or add --drop-missing"
            )
        made_here = read_manifest(stage)
        sources = {**manifest.sources, **made_here.sources}
        new = replace(made_here, created=manifest.created, sources=sources, id=manifest.id)
        keep_former_spaces(folder / manifest.base / MODEL_FOLDER, stage / MODEL_FOLDER)
        switch(folder, new, stage.name)
        return ReembedReport(
            len(present), missing, manifest.fingerprint, encoder.fingerprint, tuple(reports)
        )


def reembed_parts(
    folder: Path, scenes: Callable[[Source], SceneOptions | None]
) -> tuple[list[SourceImages], Path | None]:
    """Return the records of each source of an archive, and the model of an interrupted call."""
    manifest = read_manifest(folder)
    check_images(folder, manifest)
    stored = read_stored(RecordTable.open(folder / manifest.base, pinned=True))
    parts = stored_parts(manifest, stored, scenes)
    return parts, storage.local_copy(folder / next_base(manifest.base) / MODEL_FOLDER)


def stored_parts(
    manifest: Manifest,
    stored: Mapping[str, Stored],
    scenes: Callable[[Source], SceneOptions | None],
) -> list[SourceImages]:
    """Return the records of each source of an archive."""
    parts: list[SourceImages] = []
    by_source: dict[str, dict[str, Stored]] = {name: {} for name in manifest.sources}
    for id_, row in stored.items():
        by_source.setdefault(row.metadata.source, {})[id_] = row
    for name, source in manifest.sources.items():
        rows = by_source[name]
        records = stored_records(rows, source.folder) if rows else []
        location = find_stored(Path(), source.location)
        parts.append(
            SourceImages(records, source.folder, scenes(source), name=name, location=location)
        )
    return parts


def check_images(folder: Path, manifest: Manifest) -> None:
    """Check that the records of an archive are images.

    Raises:
        ArchiveError: Its embeddings were imported.
    """
    if manifest.imported:
        raise ArchiveError(
            f"{shown(folder)} holds imported embeddings and no images; index the images themselves "
            "into a new folder"
        )


def _is_readable(stage: Path) -> bool:
    try:
        table = RecordTable.open(stage, pinned=True)
        return table is None or len(table.read(["id"])) == table.count()
    except ArchiveError:
        return False


def _drop_other(stage: Path, encoder: Encoder) -> None:
    """Remove the unfinished files of a run with another model, or of a repair."""
    present = storage.names(stage)
    if MANIFEST not in present:
        keep = TABLE_FOLDER not in present  # a copy of the model is completed
    else:
        made = read_manifest(stage)
        same = (made.fingerprint, made.regions) == (encoder.fingerprint, regions_of(encoder))
        keep = same and _is_readable(stage)
    if not keep:
        storage.remove(stage)


LoadEncoder = Callable[[], tuple[Encoder, Callable[[Source], SceneOptions | None]]]
"""Loads the archive's model, and returns the scene options of its chips, if it holds any."""


@dataclass(slots=True)
class RepairReport:
    """The result of a repair, or its plan.

    Attributes:
        problems: The problems.
        repaired: Parts that were restored or built again.
        encoded: Ids of damaged records that were encoded again from their images.
        dropped: Ids of damaged records that were removed: there is no model to encode them with,
            or their image is missing or cannot be read.
        lost: Number of removed records whose id could not be read; the next ``landcue index`` of
            the same source adds them again.
        left: Parts that could not be repaired, with the required action.
        records: Number of records afterwards.
    """

    problems: tuple[Problem, ...]
    repaired: list[str] = field(default_factory=lambda: list[str]())
    encoded: list[str] = field(default_factory=lambda: list[str]())
    dropped: list[str] = field(default_factory=lambda: list[str]())
    lost: int = 0
    left: list[str] = field(default_factory=lambda: list[str]())
    records: int = 0


def repair(
    folder: Path,
    *,
    apply: bool,
    model: tuple[Path, Encoder] | None = None,
    load_encoder: LoadEncoder | None = None,
) -> RepairReport:
    """Repair an archive.

    Valid records are copied into a new table, damaged ones are encoded again from their images,
    and the archive switches to the new table when it is complete: a crash leaves the damaged
    archive as it was, and readers keep the version that they opened.

    Args:
        apply: Whether to change anything; else only report.
        model: Folder of the archive's model and the model, to replace a damaged copy.
        load_encoder: Called if damaged records must be encoded again; without it they are
            dropped.

    Raises:
        ArchiveError: No version of the table can be read, the archive is locked, or it cannot be
            written.
    """
    read_small_files(folder)  # before a lock file is created in a folder that is not an archive
    with storage.locked(folder, "writing to") if apply else contextlib.nullcontext():
        files = verify_files(folder)
        if files.special is not None:
            raise ArchiveError(f"{folder / files.special.where}: {files.special.what}; remove it")
        if model is not None:
            files.manifest.check_encoder(model[1], folder)
        return _Repair(folder, files, apply).run(model, load_encoder)


class _Repair:
    def __init__(self, folder: Path, files: Files, apply: bool) -> None:
        self.folder, self.files, self.apply = folder, files, apply
        self.manifest: Manifest = files.manifest
        self.base = folder / files.manifest.base
        self.report = RepairReport(files.problems)
        self.names = [problem.where for problem in files.problems]

    def run(
        self, model: tuple[Path, Encoder] | None, load_encoder: LoadEncoder | None
    ) -> RepairReport:
        report = self.report
        if MANIFEST in self.names:
            report.repaired.append(f"{MANIFEST}: restored from its copy")
            if self.apply:
                write_manifest(self.folder, self.manifest)
        if any(name.startswith(f"{INDEXES}/") for name in self.names):
            report.repaired.append(f"{INDEXES}: removed; the next search builds it again")
            if self.apply:
                storage.remove(storage.cache_folder(self.folder) / INDEXES)
        model_broken = self._repair_model(model)
        restored = self._restore_version(self.files.checksums)
        broken = [n for n in self.names if n.startswith(self.files.table) and n != restored]
        if restored and not self.apply:  # until it is restored, nothing can be read
            report.records = self.manifest.records
            return report
        table, newest = self._open()
        if table is not None and (broken or not newest or not self._is_sound(table)):
            self._rebuild(table, load_encoder, model_broken, broken)
        if CHECKSUMS in self.names or self.files.checksums is None:
            report.repaired.append(f"{CHECKSUMS}: written again")
        if self.apply and not model_broken:
            write_checksums(self.folder, read_manifest(self.folder))
        return report

    def _repair_model(self, model: tuple[Path, Encoder] | None) -> bool:
        """Return whether the copy of the model stays damaged."""
        name = (Path(self.manifest.base) / MODEL_FOLDER).as_posix()
        broken = any(file.startswith(f"{name}/") for file in self.names)
        if model is None:
            if broken:
                self.report.left.append(f"{name}: add --model with the folder of the same model")
            return broken
        if broken or not storage.exists(self.folder / name):
            self.report.repaired.append(f"{name}: copied from {model[0]}")
            if self.apply:
                forget_checksums(self.folder, name)
                storage.remove(self.folder / name)
                copy_model(model[0], self.base, model[1])
        return False

    def _restore_version(self, checksums: Checksums | None) -> str:
        """Restore the description of the newest version; return its name if it was damaged."""
        if checksums is None or checksums.version not in self.names:
            return ""
        self.report.repaired.append(f"{checksums.version}: restored from its copy")
        if self.apply:
            file = self.folder / checksums.version
            storage.write(file, checksums.version_file, parents=True)
        return checksums.version

    def _open(self) -> tuple[RecordTable | None, bool]:
        """Open the newest version that can be read, and return whether it is the newest of all."""
        reasons: list[str] = []
        for file in sorted(version_files(self.base), key=version_number, reverse=True):
            try:
                table = RecordTable.open(self.base, pinned=True)
                if table is not None and table.schema.equals(self.manifest.schema):
                    return table, not reasons
                reasons.append("other columns or sizes")
            except ArchiveError as error:
                reasons.append(str(error))
            if not self.apply:
                self.report.repaired.append(f"{TABLE_FOLDER}: an older version, if one is readable")
                return None, False
            storage.remove(file)
        if not reasons and not self.manifest.records:
            return None, True
        why = f" ({reasons[0]})" if reasons else ""
        raise ArchiveError(
            f"no version of {shown(self.base / TABLE_FOLDER)} can be read{why}; restore it from a "
            "copy, or index the images again into a new folder"
        )

    def _is_sound(self, table: RecordTable) -> bool:
        check = check_rows(table, self.manifest)
        self.report.records = check.sound
        return not check.problems

    def _rebuild(
        self,
        table: RecordTable,
        load_encoder: LoadEncoder | None,
        model_broken: bool,
        broken: Sequence[str],
    ) -> None:
        report, manifest = self.report, self.manifest
        stage = self.folder / next_base(manifest.base)
        new = None
        if self.apply:
            storage.remove(stage)
            if not is_object(stage):
                stage.mkdir()
            new = RecordTable.create(stage, manifest.schema)
        check = RowCheck()
        for rows in sound_rows(table, manifest, check):
            if new is not None:
                new.add(rows)
        if any("/_deletions/" in name for name in broken):
            report.left.append(
                "a list of deleted records was damaged: some may reappear, others be missing; run "
                "'landcue index --prune' on the source to bring the archive up to date"
            )
        report.problems += tuple(check.problems)
        report.lost = check.lost
        self._encode_damaged(check, new, load_encoder)
        report.repaired.append(f"{TABLE_FOLDER}: written again")
        report.records = check.sound + len(report.encoded)
        if new is None:
            return
        new.compact()
        new.drop_older()
        if model_broken:
            report.left.append("the damaged copy of the model was left out")
        else:
            _copy_folder(self.base / MODEL_FOLDER, stage / MODEL_FOLDER)
        changed = replace(manifest, records=report.records, updated=now())
        self.manifest = switch(self.folder, changed, stage.name)

    def _encode_damaged(
        self, check: RowCheck, new: RecordTable | None, load_encoder: LoadEncoder | None
    ) -> None:
        """Encode damaged rows again from their images; report the encoded and the dropped ones."""
        report = self.report
        if not check.damaged:
            return
        encoded: list[str] = []
        if load_encoder is not None and check.metadata:
            try:
                encoder, scenes = load_encoder()
                self.manifest.check_encoder(encoder, self.folder)
                encoded = self._encode(check, new, encoder, scenes)
            except ModelError as error:
                report.left.append(f"damaged records were not encoded again: {error}")
        report.encoded = sorted(encoded)
        report.dropped = sorted(set(check.damaged) - set(encoded))

    def _encode(
        self,
        check: RowCheck,
        new: RecordTable | None,
        encoder: Encoder,
        scenes_of: Callable[[Source], SceneOptions | None],
    ) -> list[str]:
        """Encode records whose image exists into a new table; return their ids."""
        stored = {
            row["id"]: stored_row({**row, "content": ""})
            for rows in check.metadata
            for row in rows.drop_columns(["metadata_check"]).to_pylist()
        }
        ids: list[str] = []
        parts = stored_parts(self.manifest, stored, scenes_of)
        for source, images in zip(self.manifest.sources.values(), parts, strict=True):
            records = images.records
            if not source.scenes:  # chips cannot be read without their original options
                records = [record for record in records if record.window is None]
            plan = make_plan(replace(images, records=records))
            if new is None:
                ids += [task.record.id for task in plan.tasks]
                continue
            with encoding_here(plan.tasks, encoder, images.scenes, _DEFAULTS) as batches:
                for batch in batches:
                    for part in batch.rows.values():
                        new.add(part)
                        ids += part["id"].to_pylist()
        return ids


def _copy_folder(source: Path, target: Path) -> None:
    for name, path in storage.listed(source).items():
        storage.write(target / name, storage.read(path) or b"", parents=True)
