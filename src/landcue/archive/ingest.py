"""The counts and the report of an ingest."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from landcue.archive import storage
from landcue.archive.changes import finalize
from landcue.archive.checksums import MODEL_FOLDER, check_bound, forget_checksums
from landcue.archive.encoding import Encoded, EncodingOptions, Engine, encoding_here
from landcue.archive.layout import check_free, copy_model, create_table, has_model
from landcue.archive.manifest import MANIFEST, Manifest, read_manifest, write_manifest
from landcue.archive.plan import (
    Plan,
    SourceImages,
    check_unique,
    make_plan,
    read_stored,
    relative,
)
from landcue.archive.reading import EmptyChip, Known
from landcue.archive.schema import metadata_rows
from landcue.archive.sources import Source, choose_source, name_records
from landcue.archive.table import RecordTable, Writer
from landcue.data.objects import absolute, shown
from landcue.errors import ArchiveError, DataError, UsageError, counted
from landcue.types import Encoder, Problem


class Tally:
    """Counts while an ingest runs.

    Attributes:
        added: New records.
        updated: Records encoded again.
        refreshed: Records with new metadata only.
        empty: Chips with too little data.
        emptied: Ids of those for which the archive holds an older row.
        assumed: Files of which each rule was assumed.
        warnings: What GDAL reported, by file and text.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.added = self.updated = self.refreshed = self.empty = 0
        self.emptied: list[str] = []
        self._empties: Counter[str] = Counter()
        self.assumed: Counter[str] = Counter()
        self.warnings: dict[tuple[str, str], Problem] = {}
        self._problems: dict[str, tuple[Problem, int]] = {}
        self._last: dict[str, str] = {}
        self.note(problems)

    def read(self, rows: pa.Table) -> None:
        """Count what was assumed of rasters, once for each file."""
        texts = rows["reading"]
        if texts.null_count == len(texts):
            return
        for path, text in zip(rows["path"].to_pylist(), texts.to_pylist(), strict=True):
            reading: Any = {} if text is None else json.loads(text)
            for rule in reading.get("rules", ()):
                if self._last.get(rule) != path:  # the chips of a file come one after the other
                    self.assumed[rule] += 1
                self._last[rule] = path
            for line in reading.get("warnings", ()):
                self.warnings.setdefault((path, line), Problem(path, line))

    def note(self, items: Iterable[object]) -> None:
        """Count problems and empty chips among the results."""
        for item in items:
            if isinstance(item, Problem):
                first, count = self._problems.get(item.where, (item, 0))
                self._problems[item.where] = first, count + 1
            elif isinstance(item, EmptyChip):
                self.empty += 1
                self._empties[item.scene] += 1
                if item.stored:
                    self.emptied.append(item.id)

    def name_empty(self, chips: Mapping[str, int]) -> None:
        """Name the scenes whose chips are all without data."""
        for scene, count in self._empties.items():
            if count == chips.get(scene):
                what = (
                    f"its {count:,} chips all hold too little data; check its nodata value, or "
                    "raise --nodata"
                )
                self._problems[scene] = Problem(scene, what), 1

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The skipped images; many chips of one scene are one problem."""
        return tuple(
            problem
            if count == 1
            else Problem(problem.where, f"{problem.what} (and {count - 1} more of its chips)")
            for problem, count in self._problems.values()
        )

    def nothing(self, n: int) -> str:
        """Return the reason why an ingest of n records has nothing to write."""
        if self.empty:
            which = f"all {n}" if self.empty == n else f"{self.empty} of {n}"
            return (
                f"{which} chips hold too little data; raise --nodata, or check the nodata value "
                "of the files"
            )
        first = f" (first: {self.problems[0]})" if self._problems else ""
        return f"no readable image among {n} records{first}"


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of one ingest.

    Attributes:
        added: New records.
        updated: Records encoded again because their file changed.
        refreshed: Records whose labels or other metadata changed, but not their pixels.
        unchanged: Records that were up to date.
        vanished: Records of this source whose file no longer exists, or whose chip now has too
            little data, including pruned ones.
        pruned: Of these, how many were removed.
        empty: Chips left out because they have too little data.
        skipped: Images that could not be indexed, with the reasons.
        records: Records in the archive now.
        seconds: Time of reading and encoding.
        images_per_second: Encoded images over ``seconds``; 0 when none was encoded.
        source: Name of the source in the archive.
        renamed: Records whose id begins with the name of the source, because another source of
            the archive has the same id.
        moved_from: Where the source was before, if its location changed.
        assumed: What was assumed of rasters to show them, and of how many files; see
            :mod:`landcue.data.pictures`.
        warnings: What GDAL reported about files that it could read.
        ray: With Ray, the statistics of its workers and nodes.
        problems: Of the source: files, scenes and rows of tables left out before any image was
            read, and ignored columns.
        codes: Whether the archive's codes were fitted to its images or come with the encoder, and
            what was measured; empty where that is not known.
        outgrown: If records were added: that the archive has grown so much that it should be
            fitted again, and how; else empty.
    """

    added: int
    updated: int
    refreshed: int
    unchanged: int
    vanished: int
    pruned: int
    empty: int
    skipped: tuple[Problem, ...]
    records: int
    seconds: float
    images_per_second: float
    source: str = ""
    renamed: int = 0
    moved_from: str | None = None
    assumed: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    warnings: tuple[Problem, ...] = ()
    ray: Mapping[str, Any] | None = None
    problems: tuple[Problem, ...] = ()
    codes: str = ""
    outgrown: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain values; each problem becomes ``{"where":…, "what":…}``."""
        value = asdict(self)
        for name in ("skipped", "warnings", "problems"):
            value[name] = [asdict(problem) for problem in getattr(self, name)]
        if self.ray is None:
            del value["ray"]
        return value

    def summary(self) -> str:
        """Return a one-line summary; counts of zero are left out."""
        counts = {
            "added": self.added,
            "updated": self.updated,
            "refreshed": self.refreshed,
            "unchanged": self.unchanged,
            "vanished but kept": self.vanished - self.pruned,
            "pruned": self.pruned,
            "chips without data": self.empty,
            "skipped": len(self.skipped),
        }
        parts = [f"{n:,} {name}" for name, n in counts.items() if n]
        speed = f"; {self.images_per_second:.0f} images/s" if self.images_per_second else ""
        moved = f"; source {self.source} moved from {self.moved_from}" if self.moved_from else ""
        named = f"; {self.renamed:,} ids start with '{self.source}:'" if self.renamed else ""
        return f"{counted(self.records, 'record')} ({', '.join(parts)}){moved}{named}{speed}"


Progress = Callable[[int, int], object]
"""Called with (files done, files to read) after each batch."""

_DEFAULTS = EncodingOptions()


def ingest(
    images: SourceImages,
    folder: Path,
    encoder: Encoder,
    *,
    options: EncodingOptions = _DEFAULTS,
    prune: bool = False,
    model_folder: Path | None = None,
    model: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    engine: Engine | None = None,
    reuse: Known | None = None,
    spent: float = 0.0,
) -> IngestReport:
    """Create or update an archive; only new and changed images are encoded.

    Files are read and decoded by a few threads ahead of the encoder, which runs in the calling
    thread; a writer thread commits. Each commit is atomic: after a crash the same call adds what
    is missing.

    Args:
        folder: The archive; created if missing.
        encoder: The model; an existing archive must be its own.
        prune: Remove records of this source whose file no longer exists, instead of keeping them.
        model_folder: Checkpoint folder to copy into the archive, unless it has a model.
        model: Facts about the model for a new manifest.
        engine: Reads and encodes instead of this process, ignoring ``options`` but for commits.
        reuse: Images that were read and encoded already.
        spent: Seconds that took; they count in the report.

    Raises:
        UsageError: There are chips, but it is not said how scenes are read; or the name of the
            source is not valid.
        DataError: Two records share an id, or no image at all can be read.
        ArchiveError: The archive is locked, broken, another model's, or cannot be written.
        ModelError: The encoder's output does not have the shape it promises.
    """
    scenes, root = images.scenes, absolute(images.root)
    if scenes is None and any(record.window is not None for record in images.records):
        raise UsageError("records that are chips need scenes=SceneOptions(…)")
    check_unique(images.records)
    source = Source.at(absolute(images.location or root), root)
    with storage.locked(folder, "indexing into", create=True):
        manifest, table = _open(folder, encoder)
        stored = read_stored(table)
        known = {id_: row.metadata for id_, row in stored.items()}
        sources = dict(manifest.sources) if manifest is not None else {}
        name = choose_source(sources, source, images.name, known)
        former = sources.get(name)
        note = scenes.note if scenes else former.scenes if former else {}
        sources[name] = replace(source, scenes=note)
        if manifest is not None:
            manifest = _prepare(folder, manifest, sources, encoder, model_folder)
        own_ids = {record.id for record in images.records}
        records = name_records(images.records, name, sources, known)
        plan = make_plan(replace(images, records=records), stored, name)
        del stored, known

        def create() -> RecordTable:
            nonlocal manifest, table
            manifest, table = create_table(folder, encoder, sources, model_folder, model or {})
            return table

        tally = Tally(plan.problems)
        encoding = (
            engine(plan.tasks, scenes)
            if engine is not None and plan.tasks
            else encoding_here(plan.tasks, encoder, scenes, options, reuse=reuse)
        )
        with encoding as encoded:
            started = time.perf_counter()  # an engine may take long to start
            _fill(plan, encoded, table, create, options.commit_every, tally, progress)
            seconds = spent + time.perf_counter() - started

        chips = Counter(record.path for record in records if record.window is not None)
        tally.name_empty({relative(path, root): count for path, count in chips.items()})
        if manifest is None or table is None:
            raise DataError(tally.nothing(len(records)))
        lost = sorted({*plan.vanished, *tally.emptied})
        pruned = len(lost) if prune else 0
        if pruned:
            table.delete(lost)
        changed = tally.added + tally.updated + tally.refreshed + pruned > 0
        count = finalize(folder, manifest, table, changed=changed)
        encoded = tally.added + tally.updated
        return IngestReport(
            added=tally.added,
            updated=tally.updated,
            refreshed=tally.refreshed,
            unchanged=plan.unchanged,
            vanished=len(lost),
            pruned=pruned,
            empty=tally.empty,
            skipped=tally.problems,
            records=count,
            seconds=seconds,
            images_per_second=encoded / seconds if encoded else 0.0,
            assumed=dict(tally.assumed.most_common()),
            warnings=tuple(tally.warnings.values()),
            source=name,
            renamed=sum(record.id not in own_ids for record in records),
            moved_from=(former.shown if former and former.location != source.location else None),
        )


def _open(folder: Path, encoder: Encoder) -> tuple[Manifest | None, RecordTable | None]:
    """Return the result of an earlier ingest; check that the archive is the model's."""
    if not storage.exists(folder / MANIFEST):
        check_free(folder)
        return None, None
    manifest = read_manifest(folder)
    manifest.check_encoder(encoder, folder)
    manifest.check_regions(encoder, folder)
    check_bound(folder, manifest)
    table = RecordTable.open(folder / manifest.base, pinned=False)
    if table is None and manifest.records:
        raise ArchiveError(
            f"{shown(folder)} has no table; restore it from a copy, or index again into a new "
            "folder"
        )
    # Without a table, an earlier run was killed while it created the archive: create it again.
    return (manifest, table) if table is not None else (None, None)


def _prepare(
    folder: Path,
    manifest: Manifest,
    sources: Mapping[str, Source],
    encoder: Encoder,
    model_folder: Path | None,
) -> Manifest:
    if model_folder is not None:
        if not has_model(folder / manifest.base, encoder):
            forget_checksums(folder, (Path(manifest.base) / MODEL_FOLDER).as_posix())
        copy_model(model_folder, folder / manifest.base, encoder)
    new = replace(manifest, sources=sources)
    if new != manifest:
        write_manifest(folder, new)
    return new


def _fill(
    plan: Plan,
    encoded: Iterable[Encoded],
    table: RecordTable | None,
    create: Callable[[], RecordTable],
    commit_every: int,
    tally: Tally,
    progress: Progress | None,
) -> None:
    """Write the plan; the archive is created with its first row."""
    done = 0
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(Writer(table, commit_every)) if table else None
        if writer is not None:
            for first in range(0, len(plan.refreshes), commit_every):
                writer.put("refresh", metadata_rows(plan.refreshes[first : first + commit_every]))
            tally.refreshed += len(plan.refreshes)
        for batch in encoded:
            tally.note(batch.left_out)
            if writer is None and batch.rows:
                writer = stack.enter_context(Writer(create(), commit_every))
            if writer is not None:
                for kind, part in batch.rows.items():
                    tally.read(part)
                    writer.put(kind, part)
                writer.put("refresh", metadata_rows(batch.same))
            tally.added += len(batch.rows.get("add", ()))
            tally.updated += len(batch.rows.get("replace", ()))
            tally.refreshed += len(batch.same)
            done += batch.n
            if progress is not None:
                progress(done, len(plan.tasks))
