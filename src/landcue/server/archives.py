"""The archives of a service: by name, each at one version, reopened when they change."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from landcue.archive.manifest import MANIFEST
from landcue.data.objects import is_object, shown
from landcue.data.places import area_of
from landcue.errors import ArchiveError, LandcueError, UsageError, did_you_mean
from landcue.files import read_json
from landcue.search import Archive, ById, Filter, Result
from landcue.search.archive import open_archive
from landcue.search.opened import is_collection
from landcue.search.place import to_geojson
from landcue.server.decoding import Decoders
from landcue.server.errors import ProblemError, without_paths
from landcue.server.model_views import ModelViews, chip_jpeg
from landcue.types import to_iso

CLOSE_SECONDS = 60.0
"""Time in seconds that an old version stays open for requests that still read it."""

_KEPT_RESULTS = 4
"""Results of all records that are kept for each archive: 24 bytes a record each."""

_COMPILED = ("code", "cue")
"""Modes whose scans are compiled."""

PREPARED_FROM = 20_000
"""Least number of records for which mode ``two-stage`` is prepared in the background."""

_log = logging.getLogger("landcue.server")


class Served:
    """One archive at one version: records, labels, card and scores, without paths.

    Attributes:
        name: Its name in requests.
        archive: The archive.
        explains: Whether its model can show similar regions.
        views: Answers about its model, computed once.
        preparing: Whether mode ``two-stage`` is not ready yet: :meth:`prepare` makes it so.
    """

    def __init__(self, name: str, archive: Archive) -> None:
        self.name = name
        self.archive = archive
        folder = archive.model_folder
        # Most exported models return only embeddings; others can compare regions.
        trained = folder is not None and (folder / "model.safetensors").is_file()
        self.explains = archive.encodes and (trained or _compares_regions(folder))
        self.views = ModelViews(self)
        self.preparing = archive.local and len(archive) >= PREPARED_FROM
        self._results: OrderedDict[bytes, Result] = OrderedDict()
        self._keeping = threading.Lock()

    def remember(self, key: bytes, find: Callable[[], Result]) -> Result:
        """Return a result of all records, found again only if it is not among the last few.

        A map that is moved, a slider and an export ask for the same one.
        """
        with self._keeping:
            known = self._results.get(key)
        if known is None:
            known = find()
        with self._keeping:
            self._results[key] = known
            self._results.move_to_end(key)
            while len(self._results) > _KEPT_RESULTS:
                self._results.popitem(last=False)
        return known

    def prepare(self) -> None:
        """Build the sketches of mode ``two-stage``: seconds for a million records, once."""
        try:
            if self.preparing:
                first = ById(next(iter(self.archive.summary().examples.values())))
                self.archive.search(first, k=1, mode="two-stage")
        except LandcueError as error:  # a search reports it
            facts = {"archive": self.name, "error": str(error)}
            _log.warning("two-stage search is not prepared", extra={"facts": facts})
        finally:
            self.preparing = False

    def check_id(self, id_: str) -> str:
        """Return an id that a record has.

        Raises:
            ProblemError: 404, with near matches.
        """
        if id_ not in self.archive:
            raise ProblemError(404, str(self.archive.unknown_id(id_)))
        return id_

    def record(self, id_: str) -> dict[str, Any]:
        """Return the values of a record, without its path.

        Raises:
            ProblemError: 404: no record has this id.
        """
        record = self.archive.record(self.check_id(id_))
        window, bounds, time = record.window, record.bbox, record.datetime
        return {
            "archive": self.name,
            "id": record.id,
            "labels": record.labels,
            "predicted_labels": record.predicted,
            "bbox": bounds and bounds.to_list(),
            "geometry": to_geojson(record.geometry or (bounds and area_of(bounds))),
            "window": window and window.to_list(),
            "datetime": time and to_iso(time),
            "sensor": record.sensor,
            "group": record.group,
            "part": record.part,
            "reading": record.reading,
        }

    def thumbnail(self, id_: str) -> bytes:
        """Return the JPEG thumbnail of a record.

        Raises:
            ProblemError: 404: no such record, or none was stored.
        """
        data = self.archive.thumbnail(self.check_id(id_))
        if not data:
            raise ProblemError(404, "the archive holds no thumbnail of this record")
        return data

    def chip(self, id_: str, decoders: Decoders, side: int) -> bytes:
        """Return a record's pixels as a JPEG whose longer side is at most ``side``.

        Raises:
            ProblemError: 404: no such record, or its file is not there any more.
            DataError: The file is broken or too large.
        """
        return chip_jpeg(decoders, self.archive, self.check_id(id_), side)

    @functools.cached_property
    def labels(self) -> list[dict[str, Any]]:
        """Labels with their numbers of annotated, predicted and matching records."""
        return self.archive.label_counts()

    @functools.cached_property
    def facets(self) -> dict[str, Any]:
        """Values to filter by, with their numbers of records, and some example ids."""
        summary = self.archive.summary()
        groups, sensors, parts, sources = (
            [{"name": name, "records": count} for name, count in summary.counts[column].items()]
            for column in ("group", "sensor", "part", "source")
        )
        return {
            "archive": self.name,
            "modes": self.archive.modes,
            "groups": groups,
            "sensors": sensors,
            "parts": parts,
            "sources": sources,
            "datetime": [f"{time[:19]}Z" for time in summary.times] or None,  # to the second
            "bbox": list(summary.bounds) or None,
            "examples": list(summary.examples.values()),
        }

    @property
    def deleted(self) -> bool:
        """Whether the folder was deleted since it was opened."""
        folder = self.archive.folder
        here = self.archive.local and not is_object(folder)
        return here and not (folder / MANIFEST).is_file()

    def about(self) -> dict[str, Any]:
        """Return the manifest, the model's card and its scores, without paths."""
        manifest = self.archive.manifest
        card, scores = self._card()
        name = manifest.model.get("name")
        return {
            "name": self.name,
            "records": len(self.archive),
            "version": self.archive.version,
            "created": manifest.created,
            "updated": manifest.updated,
            "stale": self.archive.stale(),
            "deleted": self.deleted,
            "landcue": manifest.landcue,
            "fingerprint": manifest.fingerprint,
            "dim": manifest.dim,
            "n_bits": manifest.n_bits,
            "label_names": list(manifest.label_names),
            "metric": "cosine",
            "model": None if name is None else Path(str(name)).name,
            "encodes_images": self.archive.encodes,
            "encodes_text": self.archive.encodes_text,
            "regions": self.explains,
            "card": card,
            "scores": scores,
        }

    def known_paths(self) -> tuple[str, ...]:
        """Return paths that must not appear in responses."""
        folder, sources = self.archive.folder, self.archive.manifest.sources.values()
        places = [place for source in sources for place in (source.location, source.root)]
        places += [shown(Path(place)) for place in places]
        return (str(folder), shown(folder), str(folder.resolve()), *places)

    def _card(self) -> tuple[str | None, dict[str, Any]]:
        folder = self.archive.model_folder
        if folder is None or not (folder / "config.json").is_file():
            return None, {}
        provenance = read_json(folder / "config.json", ArchiveError, "restore it").get("provenance")
        known = provenance if isinstance(provenance, dict) else {}
        scores = {key: known[key] for key in ("scores", "test") if isinstance(known.get(key), dict)}
        card = folder / "README.md"
        text = card.read_text(encoding="utf-8", errors="replace") if card.is_file() else None
        hide = self.known_paths()
        return None if text is None else without_paths(text, hide), _plain(scores, hide)


class Catalog:
    """Archives by name; the first is the default."""

    def __init__(self, served: Iterable[Served]) -> None:
        """Take archives."""
        self._served: dict[str, Served] = {}
        for one in served:
            if one.name in self._served:
                raise UsageError(
                    f"two archives have the name {one.name!r}: use folders with different names"
                )
            self._served[one.name] = one
        self._old: list[tuple[float, Served]] = []

    @classmethod
    def open(cls, archives: Sequence[Path | str], model: Path | str | None = None) -> Catalog:
        """Open archives; the name of each is that of its folder or collection.

        Args:
            archives: Folders, or addresses ``milvus://host:port/collection``.
            model: Model folder of all collections.

        Raises:
            ArchiveError: One is missing or broken.
            UsageError: Two have one name, or the model is of none of them.
        """
        folders = [Path(one) for one in archives]
        if model is not None and not any(map(is_collection, folders)):
            raise UsageError(
                "--model is for milvus:// collections only: an archive folder holds its own model"
            )
        return cls(
            Served(
                folder.resolve().name,
                open_archive(folder, model=model if is_collection(folder) else None),
            )
            for folder in folders
        )

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._served.values()))

    def get(self, name: str | None) -> Served:
        """Return an archive.

        Raises:
            ProblemError: 404: none has this name.
        """
        if name is None and self._served:
            return next(iter(self._served.values()))
        served = self._served.get(name or "")
        if served is None:
            near = did_you_mean(name or "", self.names)
            raise ProblemError(404, f"no archive is called {name!r}{near}")
        return served

    @property
    def names(self) -> list[str]:
        """Names, the default first."""
        return list(self._served)

    def missing(self) -> list[str]:
        """Return the names of archives whose folders were deleted."""
        return [one.name for one in self if one.deleted]

    def hidden_paths(self) -> list[str]:
        """Return paths that must not appear in responses."""
        return [path for served in self for path in served.known_paths()]

    def prepare(self) -> None:
        """Build the sketches of mode ``two-stage``, one archive after the other."""
        for served in self:
            served.prepare()

    def warm(self) -> list[LandcueError]:
        """Load models, codes and the vectors of a first search; return the errors."""
        return [problem for served in self for problem in _warm(served)]

    async def follow(self, seconds: float, changed: Callable[[Served], None]) -> None:
        """Reopen changed archives until cancelled.

        Args:
            seconds: Time between two checks; at least ten times the duration of opening.
            changed: Called with each reopened archive.
        """
        pause = seconds
        while True:
            await asyncio.sleep(pause)
            pause = seconds
            for served in self:
                if not await asyncio.to_thread(served.archive.stale):
                    continue
                started = time.monotonic()
                try:
                    newer = await asyncio.to_thread(_reopened, served)
                except LandcueError as error:  # it may be in the process of being replaced
                    facts = {"archive": served.name, "error": str(error)}
                    _log.warning("a changed archive was not opened", extra={"facts": facts})
                    continue
                self._served[served.name] = newer
                self._old.append((time.monotonic() + CLOSE_SECONDS, served))
                changed(newer)
                pause = max(pause, 10 * (time.monotonic() - started))
            self._close_old(time.monotonic())

    def _close_old(self, now: float) -> None:
        for due, served in list(self._old):
            if due <= now:
                self._old.remove((due, served))
                served.archive.close()

    def close(self) -> None:
        """Release the opened versions, so that writers may remove them."""
        self._close_old(float("inf"))
        for served in self:
            served.archive.close()


def _reopened(served: Served) -> Served:
    newer = Served(served.name, served.archive.reopen())
    _warm(newer)
    newer.prepare()
    return newer


def _warm(served: Served) -> list[LandcueError]:
    """Load the data of a first search; scans compile for seconds if numba's cache is empty."""
    try:
        if served.archive.encodes:
            # The filter that resizes is compiled for large images, and after a few small ones.
            encoder = served.archive.encoder()
            encoder.prepare(np.zeros((1401, 1403, getattr(encoder, "in_chans", 3)), np.uint8))
        if len(served.archive):
            ids = tuple(served.archive.summary().examples.values())
            for mode in ("auto", *(mode for mode in _COMPILED if mode in served.archive.modes)):
                for where in (None, Filter(ids=ids)):
                    served.archive.search(ById(ids[0]), k=1, mode=mode, where=where).to_json()
    except LandcueError as error:
        return [error]
    return []


def _compares_regions(folder: Path | None) -> bool:
    """Return whether an exported model can compare regions."""
    from landcue.models.load import EXPORTED, load_model

    if folder is None or not (folder / EXPORTED).is_file():
        return False
    try:
        return bool(getattr(load_model(folder, runtime="onnx"), "has_locations", False))
    except LandcueError:
        return False


def _plain(value: Any, hide: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one, hide) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, hide) for one in value]
    return without_paths(value, hide) if isinstance(value, str) else value
