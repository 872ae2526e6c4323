"""The archive as users see it: opened by its address, and searched."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy.typing as npt

from landcue.archive.space import ARCHIVE, ENCODER, Embeddings
from landcue.errors import UsageError
from landcue.search.filters import Filter
from landcue.search.local import LocalBackend
from landcue.search.opened import Model, OpenedArchive, open_storage
from landcue.search.plan import SearchOptions
from landcue.search.query import Example, Query, Text, as_query
from landcue.search.result import Picture, Result
from landcue.search.survey import WORLD, MapView, map_view
from landcue.types import Bounds, Encoder

if TYPE_CHECKING:
    from landcue.data.marks import Given, Marks
    from landcue.interval import When
    from landcue.search.changes import Changes
    from landcue.search.dates import Moment
    from landcue.search.raster import ScoreMap
    from landcue.search.watch import Watches

_DEFAULT = SearchOptions()


class Archive(OpenedArchive):
    """Embedded images, opened for searching at one version. Several threads may use it.

    >>> len(archive), "a.png" in archive
    (4, True)

    Attributes:
        folder: Its path, or the address of a collection.
        manifest: Its model, dimensions and source.
    """

    def search(
        self,
        query: Example | Query | None = None,
        *,
        k: int = 20,
        where: str | Filter | None = None,
        text: str | None = None,
        mode: str = "auto",
        space: str | None = None,
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
            space: Of which space a vector is that does not know it: see :class:`landcue.Query`.
            options: All other options.

        Raises:
            UsageError: A value is not valid; the message names it.
            ArchiveError: The archive is empty.
            DataError: An image cannot be read.
        """
        return self._planner.search(_asked(query, text, space), k, mode, _filter(where), options)

    def search_all(
        self,
        query: Example | Query | None = None,
        *,
        where: str | Filter | None = None,
        text: str | None = None,
        mode: str = "auto",
        space: str | None = None,
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
            space: Of which space a vector is.
            options: All other options, without a cursor or re-ranking.

        Raises:
            UsageError: As :meth:`search`; or near duplicates of too many records are to be left
                out.
            ArchiveError: The archive is empty.
            DataError: An image cannot be read.
        """
        return self._planner.search_all(_asked(query, text, space), mode, _filter(where), options)

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
        return self._planner.search_many([as_query(one) for one in queries], k, mode, options)

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
        by: str | None = None,
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
        sensors, or else on all: see :func:`landcue.search.unusual.conformal`. Without ``unchanged``
        other dates of a place count: :mod:`landcue.search.history`. A label is gained or
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
            by: Rank pairs by how much the predicted score of this label rose or fell, joined with
                how unusual their difference is (:func:`landcue.search.unusual.join_scores`).
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
        return find_changes(
            self._folder_for("change"),
            later._folder_for("change"),
            (Period.before(before), Period.after(after)),
            where=_filter(where),
            labels_before=labels_before,
            labels_after=labels_after,
            gained=gained,
            lost=lost,
            by=by,
            unchanged=unchanged,
            scoring=scoring,
            alpha=alpha,
            min_overlap=min_overlap,
            k=k,
        )

    def timeline(self, id_: str, *, min_overlap: float = 0.5) -> tuple[Moment, ...]:
        """Return all records of the place of a record that have a time, the earliest first.

        >>> [moment.datetime.year for moment in archive.timeline("a.png")]         # doctest: +SKIP
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

        return find_timeline(self._folder_for("timeline"), id_, min_overlap)

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
        from landcue.search.dates import allowed
        from landcue.search.raster import write_map

        backend = self._folder_for("map")
        asked = _asked(query, text)
        if asked is None:
            raise UsageError("nothing to compare with: specify an image, a record's id or a text")
        mask = allowed(backend, _filter(where))
        name = query if isinstance(query, str) else text or ""
        tags = {"query": name, "model": self.manifest.fingerprint}
        return write_map(
            backend, self._planner.embed(asked), Path(out), mask=mask, grid=grid, tags=tags
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

        backend = self._folder_for("suggest")
        given = None if marks is None else as_marks(marks, collection)
        if marks is None and collection is not None:
            raise UsageError("a collection needs the file that holds it")
        picture = Picture(None, None, self.thumbnails, self.labels_of)
        return suggest(
            backend, given, n,
            label=label, where=_filter(where), apart=apart, seed=seed, picture=picture,
        )  # fmt: skip

    def embed(self, query: Example | Query, *, space: str | None = None) -> Embeddings:
        """Return the embedding of a query, float32 ``[1, d]``, unit norm.

        >>> archive.embed("a.png").shape
        (1, 12)

        It is an array that knows its space, as those of :meth:`columns` and :meth:`convert`, so
        that a search of another archive converts or refuses it. What is computed from it, joined or
        saved to a file is a plain array.

        Args:
            query: As in :meth:`search`.
            space: Of which space a vector is that does not know it: see :class:`landcue.Query`.

        Raises:
            UsageError: It is not valid; see :meth:`search`.
            DataError: An image cannot be read.
        """
        return self.space.tag(self._planner.embed(as_query(query, space)))

    def convert(
        self, embedding: npt.NDArray[Any], source: Archive | str | None = None
    ) -> Embeddings:
        """Convert embeddings of another archive of the same encoder for searches of this one.

        Embeddings that ``landcue index`` fits to an archive have its own space. Searches convert
        those that know it, as :meth:`embed` returns them; a plain array does not say where it is
        from.

        >>> other.search(other.convert(np.load("embeddings.npy"), archive))    # doctest: +SKIP

        Args:
            embedding: Floats ``[n, d]`` or ``[d]``; scaled to length 1.
            source: The archive that they are of, or as ``space`` of :class:`landcue.Query`;
                ``None``: they know it, or else are the encoder's own.

        Returns:
            float32 ``[n, d]``, unit norm.

        Raises:
            UsageError: The archives have different encoders, or cannot be converted; vectors of
                another length, all 0 or not finite.
        """
        own = self.space
        if isinstance(source, Archive):
            embedding = source.space.tag(source.space.accept(embedding, ARCHIVE))
            return own.tag(own.accept(embedding))
        if source is None and getattr(embedding, "space", None) is None:
            source = ENCODER
        return own.tag(own.accept(embedding, source))

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

    def _folder_for(self, method: str) -> LocalBackend:
        if not isinstance(self.backend, LocalBackend):
            raise UsageError(f"{method} needs all records at once: use the archive folder, not a "
                             "Milvus collection")  # fmt: skip
        return self.backend


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


def _asked(
    query: Example | Query | None, text: str | None, space: str | None = None
) -> Query | None:
    asked = None if query is None else as_query(query, space)
    if text is not None:
        asked = Query(Text(text)) if asked is None else asked.also(Text(text))
    return asked


def _filter(where: str | Filter | None) -> Filter | None:
    return Filter.parse(where) if isinstance(where, str) else where


open = open_archive

__all__ = ["Archive", "open", "open_archive", "search"]
