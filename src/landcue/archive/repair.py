"""Repair an archive: restore small files, rebuild what is derived, drop damaged records."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from landcue.archive.checksums import (
    CHECKSUMS,
    MODEL_FOLDER,
    Checksums,
    forget_checksums,
    write_checksums,
)
from landcue.archive.layout import copy_model, next_base, switch
from landcue.archive.manifest import MANIFEST, Manifest, now, read_manifest, write_manifest
from landcue.archive.salvage import Salvaged, salvage
from landcue.archive.table import (
    HINT,
    TABLE_FOLDER,
    RecordTable,
    version_files,
    version_number,
)
from landcue.archive.verify import Files, verify_files, verify_rows
from landcue.errors import ArchiveError
from landcue.files import exclusive
from landcue.types import Encoder, Problem

_INDEXES = "indexes"


@dataclass(slots=True)
class RepairReport:
    """What a repair did, or would do.

    Attributes:
        problems: What was wrong.
        repaired: What was restored or built again.
        dropped: Ids of removed records; the next ``landcue index`` encodes them again.
        lost: Removed records whose id could not be read either.
        left: What could not be repaired, and what to do.
        records: Records afterwards.
    """

    problems: tuple[Problem, ...]
    repaired: list[str] = field(default_factory=lambda: list[str]())
    dropped: list[str] = field(default_factory=lambda: list[str]())
    lost: int = 0
    left: list[str] = field(default_factory=lambda: list[str]())
    records: int = 0


def repair(
    folder: Path,
    *,
    apply: bool,
    model: tuple[Path, Encoder] | None = None,
    derived: Sequence[Problem] = (),
) -> RepairReport:
    """Repair an archive.

    Records are copied into a new table and the archive switches to it when all is written: a crash
    leaves the damaged archive as it was, and readers keep what they opened.

    Args:
        folder: The archive.
        apply: Whether to change anything; else only tell.
        model: Folder of the archive's model and the model, to replace a damaged copy.
        derived: What is wrong below ``indexes/``, which is then removed.

    Raises:
        ArchiveError: Nothing is left to mend, the archive is locked, or it cannot be written.
    """
    verify_files(folder)  # before a lock file is made in a folder that is no archive
    with exclusive(folder, ArchiveError, "writing to") if apply else contextlib.nullcontext():
        files = verify_files(folder)
        manifest = files.manifest
        if model is not None:
            manifest.check_encoder(model[1], folder)
        report = RepairReport((*files.problems, *derived))
        damaged = files.table_damaged
        if not damaged:
            found = verify_rows(folder, files)
            report.problems = (*found.problems, *derived)
            report.records = found.records
            damaged = len(found.problems) > len(files.problems)
        names = [problem.where for problem in files.problems]
        if MANIFEST in names:
            report.repaired.append(f"{MANIFEST}: restored from its copy")
            if apply:
                write_manifest(folder, manifest)
        if derived:
            report.repaired.append(f"{_INDEXES}: removed, the next search builds it again")
            if apply:
                shutil.rmtree(folder / _INDEXES, ignore_errors=True)
        model_broken = _mend_model(folder, manifest, names, model, report, apply=apply)
        if damaged:
            _rebuild(folder, files, report, model_broken=model_broken, apply=apply)
        else:
            _mend_small(folder, files, names, report, checksums=not model_broken, apply=apply)
    return report


def _mend_small(
    folder: Path,
    files: Files,
    names: Sequence[str],
    report: RepairReport,
    *,
    checksums: bool,
    apply: bool,
) -> None:
    for name in names:
        if name.endswith(HINT):
            report.repaired.append(f"{name}: removed, it is not needed")
            if apply:
                (folder / name).unlink(missing_ok=True)
    if CHECKSUMS in names or files.checksums is None:
        report.repaired.append(f"{CHECKSUMS}: written again")
    if apply and checksums:
        write_checksums(folder, read_manifest(folder))


def _mend_model(
    folder: Path,
    manifest: Manifest,
    files: Sequence[str],
    model: tuple[Path, Encoder] | None,
    report: RepairReport,
    *,
    apply: bool,
) -> bool:
    """Return whether the copy of the model stays broken."""
    name = (Path(manifest.base) / MODEL_FOLDER).as_posix()
    broken = any(file.startswith(f"{name}/") for file in files)
    if model is None:
        if broken:
            report.left.append(f"{name}: add --model with the folder of the same model")
        return broken
    if broken or not (folder / name).is_dir():
        report.repaired.append(f"{name}: copied from {model[0]}")
        if apply:
            forget_checksums(folder, name)
            shutil.rmtree(folder / name, ignore_errors=True)
            copy_model(model[0], folder / manifest.base, model[1])
    return False


def _rebuild(
    folder: Path,
    files: Files,
    report: RepairReport,
    *,
    model_broken: bool,
    apply: bool,
) -> None:
    manifest = files.manifest
    stage = folder / next_base(manifest.base)
    if apply:
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir()
    found, version = _first_readable(folder, manifest, files.checksums, stage if apply else None)
    report.repaired.append(f"{TABLE_FOLDER}: written again from version {version}")
    if any("/_deletions/" in problem.where for problem in report.problems):
        report.left.append(
            "a list of deleted records was damaged: some may be back, others gone; 'landcue index "
            "--prune' on the source settles it"
        )
    if files.table_damaged:  # else its rows were read before
        report.problems += tuple(found.problems)
    report.dropped += found.dropped
    report.lost += len(found.lost)
    report.records = found.kept
    if not apply:
        return
    table = RecordTable.open(stage, pinned=False)
    table = RecordTable.create(stage, manifest.schema) if table is None else table
    table.compact(drop_old=True)
    if model_broken:
        report.left.append("the damaged copy of the model was left out")
    elif (folder / manifest.base / MODEL_FOLDER).is_dir():
        _copy_folder(folder / manifest.base / MODEL_FOLDER, stage / MODEL_FOLDER)
    switch(folder, replace(manifest, records=found.kept, updated=now()), stage.name)


def _first_readable(
    folder: Path, manifest: Manifest, checksums: Checksums | None, out: Path | None
) -> tuple[Salvaged, int]:
    """Salvage the newest version that can be opened."""
    reasons: list[str] = []
    base = folder / manifest.base
    with tempfile.TemporaryDirectory(prefix="landcue-") as name:
        for i, (file, content) in enumerate(_versions(base, checksums)):
            view = Path(name) / str(i)
            try:
                _make_view(base / TABLE_FOLDER, view / TABLE_FOLDER, file, content)
                return salvage(view, manifest, out), version_number(Path(file))
            except (ArchiveError, OSError) as error:
                reasons.append(str(error))
    why = f" ({reasons[0]})" if reasons else ""
    raise ArchiveError(
        f"no version of {base / TABLE_FOLDER} can be read{why}; restore it from a copy, or index "
        "the images again into a new folder"
    )


def _versions(base: Path, checksums: Checksums | None) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of what describes each version, newest first."""
    found = {path.name: path.read_bytes() for path in version_files(base)}
    if checksums is not None and checksums.version:
        found[Path(checksums.version).name] = checksums.version_file
    for name in sorted(found, key=lambda name: version_number(Path(name)), reverse=True):
        yield name, found[name]


def _make_view(table: Path, view: Path, version: str, content: bytes) -> None:
    """Make a folder that shows one version of a table; its data stay where they are."""
    (view / "_versions").mkdir(parents=True)
    (view / "_versions" / version).write_bytes(content)
    for part in table.iterdir() if table.is_dir() else ():
        if part.is_dir() and part.name != "_versions":
            (view / part.name).symlink_to(part.resolve(), target_is_directory=True)


def _copy_folder(source: Path, target: Path) -> None:
    try:
        shutil.copytree(source, target)
    except (OSError, shutil.Error) as error:
        raise ArchiveError(f"cannot copy {source} to {target} ({error}); free space") from None
