"""The client of a service."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack
from urllib.parse import quote

from landcue.client.asking import Asked, json_content, search_content
from landcue.client.model import ModelInfo, OwnScores
from landcue.client.results import ArchiveInfo, FoundRecord, LabelCount, SearchPage
from landcue.client.transport import Transport
from landcue.client.views import EmbeddingMap, Facets, Regions
from landcue.errors import ServiceError, UsageError, did_you_mean
from landcue.files import write_atomic

T = TypeVar("T")

FORMATS = {".geojson": "geojson", ".csv": "csv", ".parquet": "geoparquet", ".json": "json"}
"""Formats of results by the suffix of a file."""


class Client:
    """Asks one service. Threads may share it.

    Every method raises :class:`landcue.errors.ServiceError` when the service refuses a request or
    cannot be reached, with its status and request id.
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
            timeout: Seconds without a byte until a request is given up.
            retries: How often a busy service (429) is asked again, after the seconds it names.
            longest_wait: Seconds; where the service names more, the error is raised at once.

        Raises:
            UsageError: The address or the token cannot be used.
        """
        self._transport = Transport(url, token, timeout, retries, longest_wait)

    def __repr__(self) -> str:
        return f"Client({self._transport.url!r})"

    def search(self, **asked: Unpack[Asked]) -> SearchPage:
        """Return the first page of a search, or the one of its ``cursor``.

        Args:
            **asked: See :class:`landcue.client.asking.Asked`.

        Raises:
            UsageError: An unknown keyword, or an image that cannot be read.
        """
        content = search_content(asked)
        return self._as(SearchPage.read, self._transport.json("POST", "/v1/search", {}, content))

    def pages(self, **asked: Unpack[Asked]) -> Generator[SearchPage]:
        """Give all pages of a search, each asked for when it is needed.

        Args:
            **asked: See :class:`landcue.client.asking.Asked`.
        """
        while True:
            page = self.search(**asked)
            yield page
            if page.cursor is None:
                return
            asked["cursor"] = page.cursor

    def export(
        self, to: str | PathLike[str], *, format: str | None = None, **asked: Unpack[Asked]
    ) -> Path:
        """Write a page of a search to a file, which is replaced only when all of it is there.

        Args:
            to: Where to.
            format: ``geojson``, ``csv``, ``geoparquet`` or ``json``; by default by its suffix.
            **asked: See :class:`landcue.client.asking.Asked`.

        Raises:
            UsageError: Neither tells the format.
            LandcueError: The file cannot be written.
        """
        path = Path(to)
        kind = format or FORMATS.get(path.suffix.lower())
        if kind not in FORMATS.values():
            near = did_you_mean(kind or path.suffix, [*FORMATS.values()] if kind else [*FORMATS])
            raise UsageError(f"export {path}: no such format{near}")
        content = search_content(asked)
        write_atomic(path, self._transport.send("POST", "/v1/search", {"format": kind}, content))
        return path

    def record(self, id: str, *, archive: str | None = None) -> FoundRecord:
        """Return what is known of a record."""
        value = self._transport.json("GET", _record(id), {"archive": archive})
        return self._as(FoundRecord.read, value)

    def thumbnail(self, id: str, *, archive: str | None = None) -> bytes:
        """Return the thumbnail of a record, a JPEG."""
        return self._transport.send("GET", f"{_record(id)}/thumbnail", {"archive": archive})

    def chip(self, id: str, *, side: int = 512, archive: str | None = None) -> bytes:
        """Return the pixels of a record, a JPEG whose longer side is at most ``side``."""
        query = {"side": side, "archive": archive}
        return self._transport.send("GET", f"{_record(id)}/chip", query)

    def regions(self, id: str, **asked: Unpack[Asked]) -> Regions:
        """Return where a record and the query of a search are alike.

        Args:
            id: Of the record, which a hit has.
            **asked: The search, see :class:`landcue.client.asking.Asked`; its query counts.

        Raises:
            UsageError: An unknown keyword, or an image that cannot be read.
        """
        content = search_content(asked)
        value = self._transport.json("POST", f"{_record(id)}/regions", {}, content)
        return self._as(Regions.read, value)

    def labels(self, *, archive: str | None = None) -> tuple[LabelCount, ...]:
        """Return the labels of an archive with their counts, by name."""
        value = self._transport.json("GET", "/v1/labels", {"archive": archive})
        return self._as(lambda found: tuple(map(LabelCount.read, found["labels"])), value)

    def facets(self, *, archive: str | None = None) -> Facets:
        """Return what the records of an archive can be filtered by, and its modes of search."""
        return self._as(
            Facets.read, self._transport.json("GET", "/v1/facets", {"archive": archive})
        )

    def archive(self, name: str | None = None) -> ArchiveInfo:
        """Return what an archive is; the default one without a name."""
        return self._as(
            ArchiveInfo.read, self._transport.json("GET", "/v1/archive", {"archive": name})
        )

    def archives(self) -> tuple[str, ...]:
        """Return the names of the archives that the service shows, the default one first."""
        return self.archive().archives

    def model(self, *, archive: str | None = None) -> ModelInfo:
        """Return how an archive's model is built and was made, and its maker's scores."""
        value = self._transport.json("GET", "/v1/model", {"archive": archive})
        return self._as(ModelInfo.read, value)

    def scores(self, *, archive: str | None = None) -> OwnScores:
        """Return how well annotated records of an archive find each other.

        The service measures it when it is first asked: give a large archive time (``timeout``).
        """
        value = self._transport.json("GET", "/v1/model/scores", {"archive": archive})
        return self._as(OwnScores.read, value)

    def embedding_map(self, *, archive: str | None = None) -> EmbeddingMap:
        """Return a sample of an archive, laid out by two principal components."""
        value = self._transport.json("GET", "/v1/model/map", {"archive": archive})
        return self._as(EmbeddingMap.read, value)

    def feedback(
        self,
        *,
        positives: Sequence[str] = (),
        negatives: Sequence[str] = (),
        query: str | None = None,
        mode: str | None = None,
        note: str | None = None,
        archive: str | None = None,
    ) -> None:
        """Tell which hits are good and which are not, by id; the service keeps it.

        Args:
            positives: Good ones.
            negatives: Others.
            query: The record asked with, if it was one.
            mode: Of the search.
            note: Free text.
            archive: By name; the service's first by default.
        """
        given: dict[str, Any] = {"positives": list(positives), "negatives": list(negatives)}
        given |= {"query": query, "mode": mode, "note": note, "archive": archive}
        self._transport.json("POST", "/v1/feedback", {}, json_content(given))

    def health(self) -> Literal["ready", "starting"]:
        """Tell whether models and vectors are loaded. It needs no token."""
        try:
            self._transport.send("GET", "/readyz", {})
        except ServiceError as error:
            if error.status == 503:
                return "starting"
            raise
        return "ready"

    def _as(self, read: Callable[[Mapping[str, Any]], T], value: Mapping[str, Any]) -> T:
        try:
            return read(value)
        except (AttributeError, LookupError, TypeError, ValueError):
            raise self._transport.strange() from None


def _record(id_: str) -> str:
    if not id_:
        raise UsageError("a record's id is empty: give one, as hits have them")
    # Steps such as `..` would be taken for folders on the way.
    steps = {".", ".."} & set(id_.split("/"))
    return "/v1/records/" + quote(id_, safe="" if steps else "/")
