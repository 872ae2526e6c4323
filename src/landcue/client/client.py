"""The client of a service."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self, Unpack
from urllib.parse import quote

from landcue.client.transport import (
    FORMATS,
    Content,
    Example,
    File,
    SearchArguments,
    Transport,
    export_format,
    json_content,
    search_content,
    shows_search_arguments,
    with_query,
)
from landcue.errors import ServiceError, UsageError
from landcue.files import write_atomic
from landcue.server.schemas.archives import (
    ArchiveAnswer,
    ArchivesAnswer,
    FacetsAnswer,
    LabelCount,
    LabelsAnswer,
    MapAnswer,
    ModelAnswer,
    OwnScoresAnswer,
    RecordAnswer,
    RegionsAnswer,
)
from landcue.server.schemas.changes import ChangeAnswer, ChangeRequest, Moment, TimelineAnswer
from landcue.server.schemas.collections import (
    CollectionAnswer,
    CollectionChange,
    CollectionRequest,
    CollectionsAnswer,
    CollectionSummary,
    ImportAnswer,
    SuggestRequest,
    read_collection,
)
from landcue.server.schemas.searches import PlacesAnswer, ScoresAnswer, SearchAnswer
from landcue.server.schemas.watches import (
    FeedAnswer,
    Watch,
    WatchesAnswer,
    WatchesImportAnswer,
    WatchHit,
    WatchHitsAnswer,
    WatchRequest,
    read_watches,
)


class Client:
    """Sends requests to one service. Threads may share it.

    Every method raises :class:`landcue.errors.ServiceError` when the service refuses a request or
    cannot be reached, with its status and request id, and :class:`landcue.UsageError` for an
    unknown keyword of a search or an image that cannot be read.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        timeout: float = 30.0,
        retries: int = 4,
        longest_wait: float = 30.0,
    ) -> None:
        """Take the address of a service; nothing is sent yet.

        Args:
            url: As ``landcue serve`` prints it.
            token: Where the service asks for one.
            timeout: Seconds without data until a request fails.
            retries: Number of retries of a busy service (429), after the seconds it names.
            longest_wait: Seconds; where the service names more, the error is raised at once.

        Raises:
            UsageError: The address or the token cannot be used.
        """
        self._http = Transport(url, token, timeout, retries, longest_wait)

    def __repr__(self) -> str:
        return f"Client({self._http.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the service."""
        self._http.close()

    @shows_search_arguments
    def search(
        self,
        query: Example | Sequence[Example] | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> SearchAnswer:
        """Return the first page of a search, or the one of its ``cursor``.

        >>> hits = client.search("harbor01.png", k=3)                     # doctest: +SKIP
        >>> [hit.id for hit in hits], hits.to_geopandas()                 # doctest: +SKIP

        Args:
            query: The id of a record; an image as :class:`pathlib.Path`, bytes, a Pillow image or
                uint8 pixels ``[h, w, 3]``; a vector; a hit; or a list of such examples.
            **arguments: See :class:`landcue.client.SearchArguments`.
        """
        content = search_content(with_query(query, arguments))
        page = self._http.post(SearchAnswer, "/v1/search", content)
        return page.with_pictures(lambda id_: self.thumbnail(id_, archive=page.archive))

    @shows_search_arguments
    def pages(
        self,
        query: Example | Sequence[Example] | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> Generator[SearchAnswer]:
        """Yield all pages of a search; each is requested when it is needed.

        Args:
            query: As :meth:`search` takes it.
            **arguments: See :class:`landcue.client.SearchArguments`.
        """
        while True:
            page = self.search(query, **arguments)
            yield page
            if page.cursor is None:
                return
            arguments["cursor"] = page.cursor

    def export(
        self,
        to: str | PathLike[str],
        *,
        format: str | None = None,
        all: bool = False,
        collection: str | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> Path:
        """Write a page of a search to a file, which is replaced only when all of it is there.

        Args:
            to: Where to.
            format: ``geojson``, ``csv``, ``geoparquet``, ``json``, ``arrow`` (with embeddings) or
                ``npy`` (embeddings alone); by default by its suffix.
            all: Write all records that pass, not only a page; see :meth:`score_counts`.
            collection: Id of a collection, whose marks and notes are added.
            **arguments: See :class:`landcue.client.SearchArguments`.

        Raises:
            UsageError: The format is not known.
            LandcueError: The file cannot be written.
        """
        path = Path(to)
        content = search_content(arguments)
        query = {
            "format": export_format(path, format),
            "all": str(all).lower(),
            "collection": collection,
        }
        write_atomic(path, self._http.send("POST", "/v1/export", query, content))
        return path

    def score_counts(self, *, bins: int = 50, **arguments: Unpack[SearchArguments]) -> ScoresAnswer:
        """Return how many records have which score, and how many reach ``min_score``.

        Args:
            bins: Number of ranges of scores.
            **arguments: See :class:`landcue.client.SearchArguments`.
        """
        return self._http.post(ScoresAnswer, "/v1/scores", search_content(arguments), bins=bins)

    def places(
        self,
        *,
        inside: tuple[float, float, float, float] = (-180, -90, 180, 90),
        zoom: int = 0,
        most: int = 400,
        label: str | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> PlacesAnswer:
        """Return the records of a search for a map: clusters with counts, or single footprints.

        Args:
            inside: West, south, east, north in degrees.
            zoom: Zoom level, 0..24.
            most: Up to so many records are returned one by one.
            label: Count the records that carry it in each cluster.
            **arguments: See :class:`landcue.client.SearchArguments`.
        """
        query = {"bbox": ",".join(map(str, inside)), "zoom": zoom, "most": most, "label": label}
        return self._http.post(PlacesAnswer, "/v1/map", search_content(arguments), **query)

    def record(self, id: str, *, archive: str | None = None) -> RecordAnswer:
        """Return what is known of a record."""
        return self._http.get(RecordAnswer, _record(id), archive=archive)

    def thumbnail(self, id: str, *, archive: str | None = None) -> bytes:
        """Return the thumbnail of a record, a JPEG."""
        return self._http.download(f"{_record(id)}/thumbnail", archive=archive)

    def chip(self, id: str, *, side: int = 512, archive: str | None = None) -> bytes:
        """Return the pixels of a record, a JPEG whose longer side is at most ``side``."""
        return self._http.download(f"{_record(id)}/chip", side=side, archive=archive)

    def picture(
        self,
        image: File | str,
        *,
        bands: tuple[int, int, int] | None = None,
        scale: str | None = None,
        side: int = 2048,
        archive: str | None = None,
    ) -> bytes:
        """Return an image as the model sees it, a PNG.

        Args:
            image: An image file.
            bands: Red, green and blue of a raster, from 1.
            scale: ``auto``, ``percentile:2,98`` or ``fixed:0,3000``.
            side: Most pixels of a side.
            archive: By name; the service's first by default.
        """
        query = {"bands": bands and ",".join(map(str, bands)), "scale": scale, "side": side}
        content = search_content({"image": image, "archive": archive})
        return self._http.send("POST", "/v1/picture", query, content)

    def regions(self, id: str, **arguments: Unpack[SearchArguments]) -> RegionsAnswer:
        """Return where a record and the query of a search are alike.

        Args:
            id: Of the record, which a hit has.
            **arguments: The search, see :class:`landcue.client.SearchArguments`; its query counts.
        """
        return self._http.post(RegionsAnswer, f"{_record(id)}/regions", search_content(arguments))

    def labels(self, *, archive: str | None = None) -> tuple[LabelCount, ...]:
        """Return the labels of an archive with their counts, by name."""
        return self._http.get(LabelsAnswer, "/v1/labels", archive=archive).labels

    def facets(self, *, archive: str | None = None) -> FacetsAnswer:
        """Return what the records of an archive can be filtered by, and its modes of search."""
        return self._http.get(FacetsAnswer, "/v1/facets", archive=archive)

    def archive(self, name: str | None = None) -> ArchiveAnswer:
        """Return what an archive is; the default one without a name."""
        return self._http.get(ArchiveAnswer, "/v1/archive", archive=name)

    def archives(self) -> tuple[str, ...]:
        """Return the names of the archives that the service shows, the default one first."""
        return tuple(one.name for one in self._http.get(ArchivesAnswer, "/v1").archives)

    def model(self, *, archive: str | None = None) -> ModelAnswer:
        """Return how an archive's model is built and was made, and its maker's scores."""
        return self._http.get(ModelAnswer, "/v1/model", archive=archive)

    def scores(self, *, archive: str | None = None) -> OwnScoresAnswer:
        """Return how well annotated records of an archive find each other.

        The service measures it at the first request: pass a large archive time (``timeout``).
        """
        return self._http.get(OwnScoresAnswer, "/v1/model/scores", archive=archive)

    def embedding_map(self, *, archive: str | None = None) -> MapAnswer:
        """Return a sample of an archive, laid out by two principal components."""
        return self._http.get(MapAnswer, "/v1/model/map", archive=archive)

    def collections(self, *, archive: str | None = None) -> tuple[CollectionSummary, ...]:
        """Return the collections of an archive, the last changed first."""
        return self._http.get(CollectionsAnswer, "/v1/collections", archive=archive).collections

    def collection(self, id_: str) -> CollectionAnswer:
        """Return a collection with its members."""
        return self._http.get(CollectionAnswer, _collection(id_))

    def create_collection(
        self,
        name: str,
        members: Sequence[Mapping[str, Any]] = (),
        *,
        query: SearchArguments | None = None,
        who: str | None = None,
        archive: str | None = None,
    ) -> CollectionAnswer:
        """Create a collection.

        Args:
            name: Its name.
            members: Each with ``id``, and ``mark`` (``good`` or ``bad``), ``note`` or ``labels``.
            query: The search that it belongs to. Its images are kept as embeddings: a search with
                ``images_of`` uses them again.
            who: Who marked them.
            archive: By name; the service's first by default.
        """
        asked = Content("null") if query is None else search_content(query)
        given = {"name": name, "members": list(members), "query": json.loads(asked.text)}
        content = json_content(CollectionRequest, {**given, "who": who, "archive": archive})
        content = replace(content, files=asked.files)
        return self._http.post(CollectionAnswer, "/v1/collections", content)

    def change_collection(
        self,
        id_: str,
        members: Sequence[Mapping[str, Any]] = (),
        *,
        name: str | None = None,
        old_name: str | None = None,
        merge: str | None = None,
        who: str | None = None,
    ) -> CollectionAnswer:
        """Rename a collection, mark members, remove those without any mark, or merge another one.

        Args:
            id_: The collection.
            members: As :meth:`create_collection` takes them. One with its ``revision``, as it was
                read, is not overwritten if it was changed since (status 409).
            name: New name.
            old_name: Name when it was read; one renamed since keeps its name (status 409).
            merge: Id of a collection whose members are added.
            who: Who marked them.
        """
        given = {"name": name, "old_name": old_name, "members": list(members)}
        content = json_content(CollectionChange, {**given, "merge": merge, "who": who})
        return self._http.post(CollectionAnswer, _collection(id_), content)

    def collection_image(self, id_: str, n: int = 0) -> bytes:
        """Return the thumbnail of image ``n`` that a collection keeps, a JPEG."""
        return self._http.download(f"{_collection(id_)}/images/{n}")

    def undo_collection(self, id_: str, *, revision: int | None = None) -> CollectionAnswer:
        """Undo the last change of a collection's members.

        With its ``revision`` as it was read, not if it was changed since (status 409).
        """
        path = f"{_collection(id_)}/undo"
        return self._http.post(CollectionAnswer, path, revision=revision)

    def delete_collection(self, id_: str) -> CollectionAnswer:
        """Delete a collection; return it as it was."""
        return self._http.fetch(CollectionAnswer, "DELETE", _collection(id_), {})

    def collection_labels(self, id_: str) -> bytes:
        """Return the labels of a collection as a CSV table for ``landcue index --labels``."""
        return self._http.download(f"{_collection(id_)}/labels")

    def export_collection(self, id_: str, to: str | PathLike[str]) -> Path:
        """Write a collection with its query's images and its saved searches to a JSON file."""
        write_atomic(Path(to), self._http.download(f"{_collection(id_)}/export"))
        return Path(to)

    def import_collection(
        self, path: str | PathLike[str], *, archive: str | None = None
    ) -> ImportAnswer:
        """Create a collection from an exported one; the answer names what was left out.

        Raises:
            DataError: The file cannot be read, or holds no collection.
        """
        content = Content(read_collection(path).model_dump_json(exclude_unset=True))
        return self._http.post(ImportAnswer, "/v1/collections/import", content, archive=archive)

    def export_watches(self, to: str | PathLike[str], *, archive: str | None = None) -> Path:
        """Write the saved searches of an archive with their queries to a JSON file."""
        write_atomic(Path(to), self._http.download("/v1/watches/export", archive=archive))
        return Path(to)

    def import_watches(
        self, path: str | PathLike[str], *, archive: str | None = None
    ) -> WatchesImportAnswer:
        """Save exported searches, also those of an exported collection.

        Raises:
            DataError: The file cannot be read, or holds no saved searches.
        """
        content = Content(read_watches(path).model_dump_json(exclude_unset=True))
        return self._http.post(WatchesImportAnswer, "/v1/watches/import", content, archive=archive)

    def change(self, **values: Any) -> ChangeAnswer:
        """Return pairs of one place at two dates, the most unusual difference first.

        ``values`` are ``before``, ``after`` and the other arguments of
        :meth:`landcue.Archive.change`.
        """
        return self._http.post(ChangeAnswer, "/v1/change", json_content(ChangeRequest, values))

    def export_change(self, to: str | PathLike[str], **values: Any) -> Path:
        """Write all pairs of :meth:`change` to a file: ``.geojson``, ``.csv`` or ``.parquet``."""
        path = Path(to)
        kind = FORMATS.get(path.suffix.lower())
        if kind not in ("geojson", "csv", "geoparquet"):
            raise UsageError(f"export {path}: use .geojson, .csv or .parquet")
        request = json_content(ChangeRequest, values).text
        write_atomic(path, self._http.download("/v1/change/export", request=request, format=kind))
        return path

    def watches(
        self, collection: str | None = None, *, archive: str | None = None
    ) -> tuple[Watch, ...]:
        """Return the saved searches of an archive, or of a collection by its id."""
        query = {"archive": archive, "collection": collection}
        return self._http.get(WatchesAnswer, "/v1/watches", **query).watches

    def save_watch(
        self,
        name: str,
        *,
        percentile: float | None = None,
        collection: str | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> tuple[Watch, ...]:
        """Save a search, which is run on new records; returns all of the archive.

        Args:
            name: Its name.
            percentile: See :meth:`landcue.search.watch.Watches.add`.
            collection: Id of a collection that it belongs to.
            **arguments: The search, see :class:`landcue.client.SearchArguments`; no images.
        """
        asked = search_content(arguments)
        if asked.files:
            raise UsageError(
                "a saved search takes no images: keep them with create_collection(query=...) and "
                "pass its id as images_of"
            )
        given = {"name": name, "search": json.loads(asked.text), "collection": collection}
        content = json_content(WatchRequest, {**given, "percentile": percentile})
        return self._http.post(WatchesAnswer, "/v1/watches", content).watches

    def remove_watch(self, name: str, *, archive: str | None = None) -> tuple[Watch, ...]:
        """Remove a saved search; returns the others."""
        path = f"/v1/watches/{quote(name, safe='')}"
        return self._http.fetch(WatchesAnswer, "DELETE", path, {"archive": archive}).watches

    def watch_feed(self, name: str, *, archive: str | None = None) -> str:
        """Return a new address of a saved search's Atom feed, which needs no token.

        The former address becomes invalid.
        """
        path = f"/v1/watches/{quote(name, safe='')}/feed"
        return f"{self._http.url}/{self._http.post(FeedAnswer, path, archive=archive).path}"

    def watch_hits(
        self, *, after: int = 0, most: int = 1_000, archive: str | None = None
    ) -> tuple[WatchHit, ...]:
        """Return hits of saved searches whose ``number`` is larger than ``after``."""
        query = {"after": after, "most": most, "archive": archive}
        return self._http.get(WatchHitsAnswer, "/v1/watches/hits", **query).hits

    def timeline(self, id: str, *, archive: str | None = None) -> tuple[Moment, ...]:
        """Return the records of a record's place, in the order of time."""
        return self._http.get(TimelineAnswer, f"{_record(id)}/timeline", archive=archive).moments

    def export_raster(
        self,
        to: str | PathLike[str],
        *,
        grid: str | None = None,
        **arguments: Unpack[SearchArguments],
    ) -> Path:
        """Write the scores of all chips of a fixed grid as a GeoTIFF: :meth:`landcue.Archive.map`.

        Args:
            to: The file (.tif).
            grid: Zone and size of the cells, where the archive has several.
            **arguments: See :class:`landcue.client.SearchArguments`.
        """
        content = search_content(arguments)
        path, query = Path(to), {"grid": grid}
        write_atomic(path, self._http.send("POST", "/v1/raster/export", query, content))
        return path

    def suggest(
        self,
        k: int = 20,
        *,
        collection: str | None = None,
        positives: Sequence[str] = (),
        negatives: Sequence[str] = (),
        label: str | None = None,
        filters: Mapping[str, Any] | None = None,
        apart: float = 0.0,
        seed: int = 0,
        archive: str | None = None,
    ) -> SearchAnswer:
        """Return records to mark next: uncertain by the marks so far, and unlike each other.

        Args:
            k: Number of suggestions.
            collection: Id of a collection, whose marks and labels count.
            positives: Ids marked as relevant, besides.
            negatives: Ids marked as not relevant, besides.
            label: Label to find more of.
            filters: Restrict the suggestions, as ``filters`` of a search.
            apart: Least distance of two suggestions in kilometers.
            seed: Random seed.
            archive: By name; the service's first by default.
        """
        given = {
            "k": k, "collection": collection, "positives": list(positives),
            "negatives": list(negatives), "label": label, "filters": dict(filters or {}),
            "apart": apart, "seed": seed, "archive": archive,
        }  # fmt: skip
        content = json_content(SuggestRequest, given)
        return self._http.post(SearchAnswer, "/v1/suggest", content)

    def health(self) -> Literal["ready", "starting"]:
        """Return whether models and vectors are loaded. It needs no token."""
        try:
            self._http.download("/readyz")
        except ServiceError as error:
            if error.status == 503:
                return "starting"
            raise
        return "ready"


def _collection(id_: str) -> str:
    if not id_:
        raise UsageError("a collection's id is empty: pass one, as collections have them")
    return "/v1/collections/" + quote(id_, safe="")


def _record(id_: str) -> str:
    if not id_:
        raise UsageError("a record's id is empty: pass one, as hits have them")
    steps = {".", ".."} & set(id_.split("/"))  # would be taken for folders on the way
    return "/v1/records/" + quote(id_, safe="" if steps else "/")
