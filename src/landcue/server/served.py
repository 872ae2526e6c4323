"""One archive as requests see it: records, labels, card and scores, without paths."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from landcue.archive.archive import ArchiveFolder
from landcue.archive.manifest import read_manifest
from landcue.archive.schema import window_of
from landcue.data.objects import shown
from landcue.errors import ArchiveError, LandcueError, UsageError, did_you_mean
from landcue.files import read_json
from landcue.milvus.address import is_address
from landcue.milvus.opening import open_searcher
from landcue.server.chips import chip_jpeg
from landcue.server.decoding import Decoders
from landcue.server.problems import ProblemError, without_paths
from landcue.types import Encoder


class Served:
    """One archive, as it was when it was opened.

    Attributes:
        name: That requests call it by.
        archive: The archive.
        local: Whether it is a folder, and no collection on a server.
        searcher: Searches it.
        encodes: Whether it can be asked with images.
        explains: Whether its model may tell similar regions.
    """

    def __init__(
        self, name: str, archive: ArchiveFolder, load: Callable[[], Encoder] | None = None
    ) -> None:
        """Take what loads the archive's encoder; without it, its own model is loaded."""
        self.name = name
        self.archive = archive
        self.local = not is_address(archive.folder)
        self._load_lock = threading.Lock()
        self._encoder: Encoder | None = None
        self._load = load or functools.partial(_own_encoder, archive.model_folder)
        manifest = archive.manifest
        self.encodes = not manifest.imported and (load or archive.model_folder) is not None
        folder = archive.model_folder
        # An exported model gives embeddings alone; as it was trained, it can be looked into.
        trained = folder is not None and (folder / "model.safetensors").is_file()
        self.explains = self.encodes and trained
        self.searcher = open_searcher(archive, self.encoder if self.encodes else None)

    def encoder(self) -> Encoder:
        """Return the archive's encoder, loaded once."""
        with self._load_lock:
            if self._encoder is None:
                self._encoder = self._load()
            return self._encoder

    def check_id(self, id_: str) -> str:
        """Return an id that a record has.

        Raises:
            ProblemError: 404, with near matches.
        """
        records = self.searcher.records
        if records.find(id_) is None:
            near = did_you_mean(id_, records.near_ids(id_), most=3)
            raise ProblemError(404, f"no record has the id {id_!r}{near}")
        return id_

    def record(self, id_: str) -> dict[str, Any]:
        """Return what is known of a record, without its path.

        Raises:
            ProblemError: 404: no record has this id.
        """
        row = self.archive.record(self.check_id(id_))
        window = window_of(row["pixel_bbox"])
        bounds = [row[side] for side in ("west", "south", "east", "north")]
        time = row["time"]
        return {
            "archive": self.name,
            "id": row["id"],
            "labels": row["labels"],
            "predicted_labels": row["predicted_labels"],
            "bounds": None if bounds[0] is None else bounds,
            "window": window and [window.col, window.row, window.width, window.height],
            "time": None if time is None else time.isoformat().replace("+00:00", "Z"),
            "sensor": row["sensor"],
            "group": row["group"],
            "part": row["part"],
        }

    def predicted(self, id_: str) -> list[str]:
        """Return the labels that the model predicted for a record."""
        row = self.searcher.records.find(id_)
        return [] if row is None else list(self.searcher.records.predicted_of(row))

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
        row = self.archive.record(self.check_id(id_))
        window = window_of(row["pixel_bbox"])
        return chip_jpeg(decoders, self.archive.manifest, row["path"], window, side)

    @functools.cached_property
    def labels(self) -> list[dict[str, Any]]:
        """Each label with the records that carry it: annotated, predicted, and found by it."""
        return self.searcher.records.label_counts()

    @functools.cached_property
    def facets(self) -> dict[str, Any]:
        """Return what records can be told apart by; see :mod:`landcue.server.facets`."""
        from landcue.server.facets import facets

        return facets(self)

    def about(self) -> dict[str, Any]:
        """Return the manifest, the model's card and its scores, without paths."""
        manifest = self.archive.manifest
        card, scores = self._card()
        name = manifest.model.get("name")
        return {
            "name": self.name,
            "records": self.archive.count,
            "version": self.archive.version,
            "created": manifest.created,
            "updated": manifest.updated,
            "stale": self.stale(),
            "landcue": manifest.landcue,
            "fingerprint": manifest.fingerprint,
            "dim": manifest.dim,
            "n_bits": manifest.n_bits,
            "label_names": list(manifest.label_names),
            "metric": "cosine",
            "model": None if name is None else Path(str(name)).name,
            "encodes_images": self.encodes,
            "regions": self.explains,
            "card": card,
            "scores": scores,
        }

    def stale(self) -> bool:
        """Tell whether the archive's folder was written to after it was opened."""
        shown = self.archive.manifest
        try:
            found = read_manifest(self.archive.folder)
        except LandcueError:  # a collection, or a folder that is being replaced
            return False
        return (found.updated, found.records) != (shown.updated, shown.records)

    def known_paths(self) -> tuple[str, ...]:
        """Return paths that answers must not show."""
        folder, root = self.archive.folder, self.archive.manifest.source_root
        return (str(folder), str(folder.resolve()), root, shown(Path(root)))

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


def _own_encoder(folder: Path | None) -> Encoder:
    if folder is None:
        raise UsageError("the archive holds no model: ask with a record's id")
    from landcue.models.load import load_model

    return load_model(folder).encoder


def _plain(value: Any, hide: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one, hide) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, hide) for one in value]
    return without_paths(value, hide) if isinstance(value, str) else value
