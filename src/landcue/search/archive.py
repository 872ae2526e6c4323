"""The archive as users see it: opened by its address, searched, read, pushed and compared."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from landcue.archive.archive import ArchiveFolder, Columns
from landcue.archive.layout import has_text
from landcue.archive.manifest import Manifest, read_manifest
from landcue.archive.schema import footprint_of, window_of
from landcue.errors import DataError, LandcueError, UsageError, did_you_mean
from landcue.search.backend import Backend, Storage
from landcue.search.filters import Filter
from landcue.search.local import LocalBackend
from landcue.search.plan import SearchOptions
from landcue.search.planner import Planner
from landcue.search.query import Example, Query, Text
from landcue.search.records import Summary
from landcue.search.result import Picture, Result
from landcue.search.survey import WORLD, MapView, map_view
from landcue.types import Bounds, Encoder, FloatArray, Problem, Record

if TYPE_CHECKING:
    from landcue.data.marks import Given, Marks
    from landcue.milvus.push import DiffReport, PushReport
    from landcue.search.changes import Changes
    from landcue.search.dates import Moment, When
    from landcue.search.raster import ScoreMap
    from landcue.search.watch import Watches

Model = str | os.PathLike[str] | Encoder | Callable[[], Encoder]
_DEFAULT = SearchOptions()
_SIDES = ("west", "south", "east", "north")


class Archive:
    """Embedded images, opened for searching at one version. Several threads may use it.

    >>> len(archive), "a.png" in archive
    (4, True)

    Attributes:
        folder: Its path, or the address of a collection.
        manifest: Its model, dimensions and source.
    """

    def __init__(
        self, folder: Storage, model: Model | None = None, *, cache: bool | None = None
    ) -> None:
        """Search a storage that :func:`open_archive` opened.

        Args:
            folder: The storage.
            model: Encodes query images; by default the archive's own model, loaded when needed.
            cache: Keep derived files below ``indexes/`` in the archive; by default for 20,000
                records and more.
        """
        self._storage = folder
        self._model, self._cache = model, cache
        self._encoder: Encoder | None = None
        self._loading = threading.Lock()
        self.backend = _backend(folder, cache)
        self._planner = Planner(self.backend, self._load if self.encodes else None)

    # What it is

    @property
    def folder(self) -> Path:
        """Its path, or the address of a collection."""
        return self._storage.folder

    @property
    def url(self) -> str:
        """The address that :func:`landcue.open` takes."""
        return str(self.folder)

    @property
    def manifest(self) -> Manifest:
        """Its model, dimensions and source."""
        return self._storage.manifest

    @property
    def local(self) -> bool:
        """Whether it is a folder, and not a collection on a server."""
        return not is_collection(self.folder)

    def __len__(self) -> int:
        return self._storage.count

    def __contains__(self, id_: object) -> bool:
        return isinstance(id_, str) and self.backend.view().records.find(id_) is not None

    @property
    def version(self) -> int:
        """Version of the table: it grows with every commit; 0 when it is empty."""
        return self._storage.version

    @property
    def mark(self) -> str:
        """Identifier of the searched content; a cursor is valid for one mark."""
        return self.backend.mark

    @property
    def modes(self) -> tuple[str, ...]:
        """Search modes of this archive; ``ann`` and the fused ones only once built and measured.

        >>> archive.modes[:5]
        ('auto', 'embedding', 'code', 'cue', 'two-stage')
        """
        return self._planner.modes

    @property
    def model_folder(self) -> Path | None:
        """The copy of the model that made the archive, if there is one."""
        return self._storage.model_folder

    @property
    def encodes(self) -> bool:
        """Whether images can be queries: whether there is a model."""
        known = self._model is not None or self._storage.model_folder is not None
        return known and not self.manifest.imported

    @property
    def encodes_text(self) -> bool:
        """Whether texts can be queries: whether the model has a text tower."""
        folder = self._storage.model_folder
        if not self.encodes or folder is None:
            return self.encodes and bool(getattr(self._load(), "has_text", False))
        return has_text(folder)

    def encoder(self) -> Encoder:
        """Return the archive's encoder, loaded once.

        Raises:
            UsageError: The archive holds no model.
            ArchiveError: The model is not the one that made the archive.
        """
        return self._load()

    # Searching

    def search(
        self,
        query: Example | Query | None = None,
        *,
        k: int = 20,
        where: str | Filter | None = None,
        text: str | None = None,
        mode: str = "auto",
        options: SearchOptions = _DEFAULT,
    ) -> Result:
        """Return the k nearest records.

        >>> result = archive.search("a.png", k=2, where="water and not ships")
        >>> [(hit.id, round(hit.distance, 3)) for hit in result]
        [('b.png', 0.004)]

        Args:
            query: A record's id, an image file, its bytes, pixels, a vector, a hit, or a
                :class:`landcue.Query` of several of them, which lists the kinds. A string that is
                both an id and a file means the record. Records among the examples are not returned.
                ``None`` lists the records that match ``where``, sorted by distance from the
                center of its box or polygon, or else by id.
            k: Number of hits; fewer are returned when fewer records match.
            where: Restricts the records: a label expression such as
                ``"water and not ships"``, or a :class:`landcue.Filter`. It applies before ranking.
            text: A description in words, for models with a text tower; beside a query, one more
                positive example. Scores of texts are lower than those of images:
                ``landcue models show`` prints which score 1 % of the images exceed.
            mode: ``auto``, ``embedding``, ``code``, ``cue``, ``two-stage``, ``ann``,
                ``fused``, ``fused-code`` or ``regions``: see :class:`landcue.Result`.
            options: All other options.

        Raises:
            UsageError: A value is not valid; the message names it.
            ArchiveError: The archive is empty.
            DataError: An image cannot be read.
        """
        return self._planner.search(_asked(query, text), k, mode, _filter(where), options)

    def search_all(
        self,
        query: Example | Query | None = None,
        *,
        where: str | Filter | None = None,
        text: str | None = None,
        mode: str = "auto",
        options: SearchOptions = _DEFAULT,
    ) -> Result:
        """Return every record that matches ``where`` and reaches ``min_score``, ranked.

        Distances are exact: modes ``two-stage`` and ``ann`` are taken for ``embedding``. The hits
        are read when they are used.

        >>> archive.search_all("a.png", options=SearchOptions(min_score=0.9)).ids
        ('b.png', 'c.png')

        Args:
            query: As in :meth:`search`, likewise the following.
            where: Restricts the records.
            text: A description in words.
            mode: ``auto``, ``embedding``, ``code``, ``cue``, ``fused`` or ``fused-code``.
            options: All other options, without a cursor or re-ranking.

        Raises:
            UsageError: As :meth:`search`; or near duplicates of too many records are to be left
                out.
            ArchiveError: The archive is empty.
            DataError: An image cannot be read.
        """
        return self._planner.search_all(_asked(query, text), mode, _filter(where), options)

    def map_view(
        self,
        bbox: Bounds = WORLD,
        zoom: int = 0,
        *,
        found: Result | None = None,
        where: str | Filter | None = None,
        most: int = 400,
        label: str | None = None,
    ) -> MapView:
        """Return the records within a box for a map: by clusters, or single ones.

        >>> archive.map_view().matched
        4

        Args:
            bbox: In degrees; west > east crosses the antimeridian.
            zoom: Zoom level of the map, 0 to 24: a cluster's cell is a quarter of a tile wide.
            found: Of :meth:`search_all`; clusters then hold the best score.
            where: Restricts the records, without ``found``.
            most: Up to so many records are returned one by one.
            label: Count the records that carry this label in each cluster.

        Raises:
            UsageError: A value is not valid, or the archive is a collection on a server.
        """
        scored = found is not None and found.mode not in ("list", "place")
        found = self.search_all(where=where) if found is None else found
        records = self.backend.records
        return map_view(records, found, bbox, zoom, most=most, label=label, scored=scored)

    def search_many(
        self,
        queries: Iterable[Example | Query],
        *,
        k: int = 20,
        mode: str = "auto",
        options: SearchOptions = _DEFAULT,
    ) -> list[Result]:
        """Search for several queries, without filters; return a result for each.

        Modes ``code`` and ``cue`` scan the records once for all queries, which is much faster;
        the others search one after the other.

        >>> [result[0].id for result in archive.search_many(["a.png", "b.png"], k=1)]
        ['b.png', 'a.png']

        Raises:
            UsageError: As :meth:`search`, for the first query that is not valid.
            ArchiveError: Likewise.
            DataError: Likewise.
        """
        return self._planner.search_many([_query(one) for one in queries], k, mode, options)

    def change(
        self,
        *,
        before: When,
        after: When,
        where: str | Filter | None = None,
        labels_before: str | None = None,
        labels_after: str | None = None,
        gained: Sequence[str] = (),
        lost: Sequence[str] = (),
        unchanged: str | Iterable[tuple[str, str]] | None = None,
        other: Archive | None = None,
        scoring: str = "auto",
        alpha: float = 0.05,
        min_overlap: float = 0.5,
        k: int | None = None,
    ) -> Changes:
        """Return pairs of the same place at two dates, the most unusual difference first.

        >>> changes = archive.change(before="2013", after="2018", lost=["field"])  # doctest: +SKIP
        >>> changes.to_geopandas(), changes.write("changes.geojson")               # doctest: +SKIP

        Chips of one cell of a fixed grid pair (``landcue index --grid utm``), others by footprint
        (:func:`landcue.data.pairing.pair_places`). The distance of a pair is calibrated on pairs
        of its seasons, sensors and label, or with fewer than 50 of those, of its seasons and
        sensors, or else on all: see :func:`landcue.search.unusual.conformal`. A label is gained or
        lost where one record carries it and the other does not, and its predicted score differs by
        at least 0.2.

        Args:
            before: A year, month, day or time; the latest record of a place before its start is
                compared. An interval ``2012/2013`` restricts it to these years.
            after: Likewise; the earliest record of a place from its start on is compared.
            where: Restricts the records of both dates, and the pairs calibrated on, like
                :meth:`search`.
            labels_before: A label expression for the earlier record. This and the following three
                choose among the calibrated pairs.
            labels_after: A label expression for the later record.
            gained: Labels that the later record must have gained.
            lost: Labels that it must have lost.
            unchanged: Pairs that are taken as unchanged, to calibrate on: ids of an earlier and a
                later record each, or two dates such as ``2010/2012``, between which most places did
                not change. Then an unchanged pair is returned with a probability of at most
                ``alpha``. By default all pairs are calibrated on each other, which returns at most
                the share ``alpha`` of them.
            other: The archive of the later date, if it is not this one.
            scoring: ``trained``: by a model trained on synthetic pairs, which the built-in encoder
                has; ``measured``: by covariances of the compared pairs; ``both``: mostly by
                the first; ``auto``: both, if there is a trained model, or else measured (see
                :mod:`landcue.search.unusual`).
            alpha: Return pairs with a p-value of at most this false alarm rate; 1 for all pairs.
            min_overlap: Least intersection over union of footprints off the grid.
            k: Most pairs to return; by default all.

        Raises:
            UsageError: A value is not valid, dates are reversed, or this is a collection.
            DataError: A date has no record, no place was recorded at both, grids do not match, or
                chips of one sensor were made of different bands.
            ArchiveError: The archives were made by different models.
        """
        from landcue.search.change import find_changes
        from landcue.search.dates import Period

        later = self if other is None else other
        folders = [one.backend for one in (self, later) if isinstance(one.backend, LocalBackend)]
        if len(folders) < 2:
            raise UsageError("change needs all records at once: use the archive folder, not "
                             "a Milvus collection")  # fmt: skip
        return find_changes(
            folders[0],
            folders[1],
            (Period.before(before), Period.after(after)),
            where=_filter(where),
            labels_before=labels_before,
            labels_after=labels_after,
            gained=gained,
            lost=lost,
            unchanged=unchanged,
            scoring=scoring,
            alpha=alpha,
            min_overlap=min_overlap,
            k=k,
        )

    def timeline(self, id_: str, *, min_overlap: float = 0.5) -> tuple[Moment, ...]:
        """Return all records of the place of a record that have a time, the earliest first.

        >>> [moment.time.year for moment in archive.timeline("a.png")]         # doctest: +SKIP
        [2012, 2018]

        Records show one place by the same rule as in :meth:`change`.

        Args:
            id_: Of any record of the place.
            min_overlap: Least intersection over union of footprints off the grid.

        Raises:
            UsageError: No record has this id, or this is a collection.
            DataError: It has no footprint, or no record of the place has a time.
        """
        from landcue.search.dates import find_timeline

        if not isinstance(self.backend, LocalBackend):
            raise UsageError("timeline needs the archive folder, not a Milvus collection")
        return find_timeline(self.backend, id_, min_overlap)

    def map(
        self,
        query: Example | Query | None,
        out: str | os.PathLike[str],
        *,
        text: str | None = None,
        where: str | Filter | None = None,
        grid: str | None = None,
    ) -> ScoreMap:
        """Write the scores of all chips of a fixed grid as a GeoTIFF, a pixel for each cell.

        >>> archive.map("harbor.png", "similarity.tif")                        # doctest: +SKIP
        ScoreMap(path=PosixPath('similarity.tif'), grid='utm33N-640m', crs='EPSG:32633', ...)

        The file is a cloud-optimized GeoTIFF in the UTM zone of the grid, float32: the cosine of
        the query and the chip, the largest one where a cell holds chips of several dates, and
        -9999 (nodata) where there is no chip.

        Args:
            query: As :meth:`search` takes it.
            out: The file to write (.tif).
            text: A description in words, likewise.
            where: Restricts the chips, likewise.
            grid: Zone and size of the cells, such as ``utm33N-640m``; needed where the archive has
                chips of several.

        Raises:
            UsageError: A value is not valid, no or several grids match, or this is a collection.
            DataError: No chip lies on a fixed grid, or the raster would be too large.
            LandcueError: The file cannot be written.
        """
        from landcue.search.raster import write_map

        if not isinstance(self.backend, LocalBackend):
            raise UsageError("map needs all records at once: use the archive folder, not a Milvus "
                             "collection")  # fmt: skip
        asked = None if query is None else _query(query)
        if text is not None:
            asked = Query(Text(text)) if asked is None else asked.also(Text(text))
        if asked is None:
            raise UsageError("nothing to compare with: specify an image, a record's id or a text")
        records = self.backend.records
        mask = np.ones(len(records), np.bool_)
        restricted = _filter(where)
        if restricted is not None and not restricted.empty:
            mask = restricted.mask(records, self.backend.vectors)
            if not mask.any():
                raise DataError(restricted.why_empty(records, self.backend.vectors))
        name = query if isinstance(query, str) else text or ""
        tags = {"query": name, "model": self.manifest.fingerprint}
        return write_map(
            self.backend, self._planner.embed(asked), Path(out), mask=mask, grid=grid, tags=tags
        )

    def suggest(
        self,
        marks: Marks | Given | str | os.PathLike[str] | None = None,
        n: int = 20,
        *,
        collection: str | None = None,
        label: str | None = None,
        where: str | Filter | None = None,
        apart: float = 0.0,
        seed: int = 0,
    ) -> Result:
        """Return records to label next: uncertain by the marks so far, and unlike each other.

        >>> archive.suggest({"a.png": True}, 2).ids
        ('d.png', 'c.png')

        The hits are in the order in which they tell most; their score is the estimated relevance,
        0..1: see :mod:`landcue.search.suggest`. Marked records are not returned.

        Args:
            marks: Ids and whether they are relevant, or their labels; or a file that
                :func:`landcue.data.read_marks` reads: of collections, or a table. By default the
                annotated labels of the archive.
            n: Number of suggestions; fewer are returned where fewer records are left.
            collection: Name or id of a collection in a file of collections.
            label: The label to find more of: records labeled without it count as not relevant. By
                default good and bad marks count; or without any, all labels, in equal shares.
            where: Restricts the suggestions, like :meth:`search`, for example to a place.
            apart: Least distance of two suggestions, in kilometers.
            seed: Of the 200 unmarked records that stand for what is not relevant.

        Raises:
            UsageError: There is no mark, none is good, all records carry the same labels, no id is
                known, a value is not valid, or this is a collection on a server.
            DataError: No record is left, or a file cannot be read.
            ArchiveError: The archive is empty.
        """
        from landcue.data.marks import as_marks
        from landcue.search.suggest import suggest

        if not isinstance(self.backend, LocalBackend):
            raise UsageError("suggest needs all records at once: use the archive folder, not a "
                             "Milvus collection")  # fmt: skip
        given = None if marks is None else as_marks(marks, collection)
        if marks is None and collection is not None:
            raise UsageError("a collection needs the file that holds it")
        picture = Picture(None, None, self.thumbnails, self.labels_of)
        return suggest(
            self.backend, given, n,
            label=label, where=_filter(where), apart=apart, seed=seed, picture=picture,
        )  # fmt: skip

    def embed(self, query: Example | Query) -> FloatArray:
        """Return the embedding of a query, float32 ``[1, d]``, unit norm.

        >>> archive.embed("a.png").shape
        (1, 12)

        Raises:
            UsageError: It is not valid; see :meth:`search`.
            DataError: An image cannot be read.
        """
        return self._planner.embed(_query(query))

    @property
    def watches(self) -> Watches:
        """Saved searches, which report each new record that matches once.

        >>> archive.watches.add("harbors", archive.embed("a.png"))             # doctest: +SKIP
        >>> landcue.open("archives/photos").watches.run().hits                 # doctest: +SKIP

        Raises:
            UsageError: The archive is not in a local folder.
        """
        from landcue.search.watch import Watches

        return Watches(self)

    def build_ann(self) -> dict[str, object]:
        """Load or build the approximate index; return its measured recall.

        Raises:
            UsageError: FAISS is not installed, or the index of a collection was not chosen when
                it was pushed.
        """
        return self.backend.build_ann().to_json()

    def measure_fusion(self) -> dict[str, Any]:
        """Return the weight of label probabilities in mode ``fused``, measured on first use.

        Where it is more than 0, mode ``auto`` uses ``fused``.

        >>> archive.measure_fusion()["weight"]
        0.0

        Raises:
            UsageError: The model has no label head, or the weight of a collection was not measured
                when it was pushed.
        """
        return self.backend.measure_fusion().to_json()

    # Reading

    def record(self, id_: str) -> Record:
        """Return a record.

        >>> archive.record("a.png").labels
        ('water',)

        Raises:
            UsageError: No record has this id; the message names near matches.
        """
        row = self._storage.record(id_)
        labels, wkb = row["labels"], row["geometry"]
        bounds = None if row["west"] is None else Bounds(*(row[side] for side in _SIDES))
        return Record(
            id=row["id"],
            path=Path(row["path"]),
            labels=None if labels is None else tuple(labels),
            group=row["group"],
            bounds=bounds,
            time=row["time"],
            part=row["part"],
            window=window_of(row["pixel_bbox"]),
            sensor=row["sensor"],
            footprint=None if wkb is None else footprint_of(wkb),
            predicted=tuple(row["predicted_labels"] or ()),
            source=row["source"],
            reading=json.loads(row["reading"]) if row.get("reading") else None,
        )

    def file(self, id_: str) -> Path:
        """Return the path of a record's image at the time of indexing.

        Raises:
            UsageError: No record has this id.
        """
        return self._storage.file(id_)

    def thumbnails(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Return the JPEG thumbnails of the records among ``ids``; empty where none is stored."""
        return self._storage.thumbnails(ids)

    def thumbnail(self, id_: str) -> bytes:
        """Return the JPEG thumbnail of a record; empty where none is stored.

        Raises:
            UsageError: No record has this id.
        """
        return self._storage.thumbnail(id_)

    def labels_of(self, id_: str) -> tuple[str, ...] | None:
        """Return the annotated labels of a record; ``None`` if unknown or not annotated."""
        return self._planner.labels_of(id_)

    def predicted_of(self, id_: str) -> tuple[str, ...]:
        """Return the predicted labels of a record; empty if there is none."""
        records = self.backend.view().records
        row = records.find(id_)
        return () if row is None else records.predicted_of(row)

    def near_ids(self, id_: str) -> list[str]:
        """Return ids that sort near an unknown one, as suggestions."""
        return self.backend.view().records.near_ids(id_)

    def unknown_id(self, id_: str) -> UsageError:
        """Return the error for an id that no record has, naming near matches."""
        near = did_you_mean(id_, self.near_ids(id_), most=3)
        return UsageError(f"no record has the id {id_!r}{near}")

    def ids(self) -> list[str]:
        """Return all ids, ascending.

        Raises:
            UsageError: A collection is too large for this.
        """
        return self.backend.records.ids()

    def summary(self) -> Summary:
        """Return counts of values, the span of times, and all bounds: see :class:`Summary`."""
        return self.backend.summary()

    def label_counts(self) -> list[dict[str, Any]]:
        """Return each label with its counts: ``annotated``, ``predicted``, matching ``records``."""
        return self.backend.label_counts()

    def columns(self) -> Columns:
        """Read the columns that evaluation needs, sorted by id. Each call reads them again.

        Raises:
            ArchiveError: The table is broken.
        """
        return self._storage.columns()

    def label_scores(self) -> FloatArray:
        """Return predicted scores float32 ``[n, C]`` in 0..1, in the order of :meth:`columns`."""
        return self._storage.label_scores()

    def verify(self) -> tuple[Problem, ...]:
        """Compare every record with its checksums; of a collection, compare the counts.

        Raises:
            ArchiveError: It cannot be read at all.
        """
        return self._storage.verify()

    # Milvus

    def push(
        self,
        url: str,
        *,
        index: str | None = None,
        rows: int | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> PushReport:
        """Make a Milvus collection equal to the archive; call again to resume.

        Args:
            url: ``milvus://host:port/collection``.
            index: Index of a new collection: ``flat`` (the default) or ``ivf``.
            rows: Records per batch.
            progress: Called with the stage, the number of finished records and their total.

        Raises:
            ArchiveError: The archive is empty; the server cannot be used; the collection holds
                embeddings of another model, or its fields are too short for a value.
            UsageError: An unknown index, another than the collection has, or batches too large.
        """
        from landcue.milvus.link import Address
        from landcue.milvus.push import push
        from landcue.milvus.rows import ROWS

        report = progress or _ignore
        return push(
            self._files(), Address.parse(url), index=index, rows=rows or ROWS, progress=report
        )

    def diff(self, url: str, *, progress: Callable[[int, int], None] | None = None) -> DiffReport:
        """Compare every record with a Milvus collection.

        Args:
            url: ``milvus://host:port/collection``.
            progress: Called with the number of compared records and their total.

        Raises:
            ArchiveError: The server cannot be used, there is no collection, or it holds
                embeddings of another model.
        """
        from landcue.milvus.link import Address
        from landcue.milvus.push import diff

        return diff(self._files(), Address.parse(url), progress=progress or _ignore)

    def _files(self) -> ArchiveFolder:
        if not isinstance(self._storage, ArchiveFolder):
            raise UsageError(f"{self.url} is a Milvus collection: use the archive folder for this")
        return self._storage

    def stale(self) -> bool:
        """Return whether the folder was written to since it was opened; a collection is current."""
        if not self.local:
            return False
        try:
            return read_manifest(self.folder) != self.manifest
        except LandcueError:  # a folder that is being replaced
            return False

    def reopen(self) -> Archive:
        """Open the newest version; a loaded encoder is kept if the model is the same.

        Raises:
            ArchiveError: It is gone, or broken.
        """
        storage = open_storage(self.folder)
        same = storage.manifest.fingerprint == self.manifest.fingerprint
        return Archive(storage, (same and self._encoder) or self._model, cache=self._cache)

    def close(self) -> None:
        """Release the opened version, so that writers may remove it; disconnect from a server."""
        self._storage.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Archive({self.url!r}, {len(self)} records, version {self.version})"

    def _load(self) -> Encoder:
        with self._loading:
            if self._encoder is None:
                encoder = self._loaded()
                self.manifest.check_encoder(encoder, self.folder)
                self._encoder = encoder
            return self._encoder

    def _loaded(self) -> Encoder:
        model = self._model
        if isinstance(model, Encoder):
            return model
        if callable(model):
            return model()
        folder = self._storage.model_folder
        if folder is None:
            raise UsageError("the archive holds no model: only its own records can be queries")
        from landcue.models.load import load_model

        return load_model(folder)


def open_archive(
    url: str | os.PathLike[str], *, model: Model | None = None, cache: bool | None = None
) -> Archive:
    """Open an archive for searching: this is ``landcue.open``.

    >>> import landcue
    >>> landcue.open(folder).search("a.png", k=1).ids
    ('b.png',)

    Args:
        url: An archive folder, ``s3://bucket/prefix``, or ``milvus://host:port/collection``.
        model: For a collection: the folder of the model that made its embeddings. For any archive:
            an :class:`landcue.Encoder`, or a function that loads one.
        cache: Keep derived files in the archive; see :class:`landcue.Archive`.

    Raises:
        ArchiveError: There is none, it is broken, or its server cannot be used.
        UsageError: The address is not valid, or a model's path is specified for a folder.
    """
    path = Path(url)
    given = model if isinstance(model, str | os.PathLike) else None
    encoder = None if given is not None else cast("Encoder | Callable[[], Encoder] | None", model)
    return Archive(open_storage(path, None if given is None else Path(given)), encoder, cache=cache)


def open_storage(path: Path, model: Path | None = None) -> Storage:
    """Open an archive folder, or a collection ``milvus://host:port/collection``, without searching.

    Args:
        path: Folder or address.
        model: Folder of the model that made the embeddings of a collection.

    Raises:
        ArchiveError: There is none, or it is broken, or its server cannot be used.
        UsageError: The address is not valid, or a model is specified for a folder.
    """
    if is_collection(path):
        from landcue.milvus.backend import MilvusBackend
        from landcue.milvus.link import Address

        return MilvusBackend(Address.parse(path), model)
    if model is not None:
        raise UsageError(
            "--model is for milvus:// collections only: an archive folder holds its own model"
        )
    return ArchiveFolder.open(path)


def search(archive: Archive | str | os.PathLike[str], query: Any = None, **options: Any) -> Result:
    """Search an archive, or the one at an address, once: see :meth:`landcue.Archive.search`.

    >>> import landcue
    >>> landcue.search(folder, "a.png", k=1).ids
    ('b.png',)
    """
    if isinstance(archive, Archive):
        return archive.search(query, **options)
    with open_archive(archive) as opened:
        return opened.search(query, **options)


def _ignore(*_: Any) -> None:
    """Show no progress."""


def is_collection(path: str | Path) -> bool:
    """Return whether an archive's path is the address of a collection on a server."""
    return str(path).startswith(("milvus:/", "milvuss:/"))


def _query(query: Example | Query) -> Query:
    return query if isinstance(query, Query) else Query((query,))


def _asked(query: Example | Query | None, text: str | None) -> Query | None:
    asked = None if query is None else _query(query)
    if text is not None:
        asked = Query(Text(text)) if asked is None else asked.also(Text(text))
    return asked


def _filter(where: str | Filter | None) -> Filter | None:
    return Filter.parse(where) if isinstance(where, str) else where


def _backend(storage: Storage, cache: bool | None) -> Backend:
    if isinstance(storage, ArchiveFolder):
        return LocalBackend(storage, cache=cache)
    return cast("Backend", storage)  # a collection searches itself


open = open_archive

__all__ = ["Archive", "open", "open_archive", "search"]
