"""Views of a model and of its records: training, scores, a 2-D map, similar regions, chips."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.archive import Source
from landcue.data.images import is_image_path
from landcue.data.objects import is_object
from landcue.errors import ArchiveError, UsageError
from landcue.files import read_json
from landcue.search import Archive, ById, Query
from landcue.search.overview import LabelErrors, flat_map, own_scores
from landcue.server.decoding import Decoders
from landcue.server.errors import ProblemError, without_paths
from landcue.server.queries import Body, read_query, square_side
from landcue.types import ByteArray, FloatArray, Record

if TYPE_CHECKING:
    from landcue.server.archives import Served

_SETTINGS = (
    *("backbone", "pooling", "retrieval", "projection", "dim", "n_bits"),
    *("image_size", "in_chans", "channel_order", "exclusive_labels", "precision"),
)
_TRAINING = ("dataset", "split", "seed", "loss", "made_by", "initial_weights")
_DIGITS = 4
_EPOCHS = ("epochs", "best_epoch", "n_train")


class ModelViews:
    """Answers about the model of one version of an archive, each computed once."""

    def __init__(self, served: Served) -> None:
        self._served = served

    @functools.cached_property
    def model(self) -> dict[str, Any]:
        """The architecture and the training of the model."""
        served = self._served
        config = self._config()
        settings, made = _mapping(config.get("model")), _mapping(config.get("provenance"))
        statistics = _mapping(made.get("label_statistics"))
        images = statistics.get("n_images")
        return {
            "archive": served.name,
            "fingerprint": served.archive.manifest.fingerprint,
            "settings": self._plain(settings, _SETTINGS),
            "training": self._plain(made, _TRAINING)
            | self._plain(_mapping(made.get("training")), _EPOCHS),
            "training_images": images if isinstance(images, int) else None,
            "training_labels": _diagonal(settings.get("label_names"), statistics.get("counts")),
            "validation": _numbers(made.get("scores")),
            "test": self._test(_mapping(made.get("test"))),
            "regions": served.explains,
        }

    def _config(self) -> dict[str, Any]:
        """Return the metadata of the model's file."""
        folder = self._served.archive.model_folder
        if folder is None:
            return {}
        if (folder / "config.json").is_file():
            return read_json(folder / "config.json", ArchiveError, "restore it")
        card: Any = getattr(self._served.archive.encoder(), "card", None)  # of an exported file
        if card is None:
            return {}
        settings = {**card.model, "precision": card.precision}
        return {"model": settings, "provenance": card.provenance}

    def _test(self, test: Mapping[str, Any]) -> dict[str, Any] | None:
        spaces = {str(name): _numbers(one) for name, one in _mapping(test.get("spaces")).items()}
        if not any(spaces.values()):
            return None
        about = without_paths(str(test.get("about", "")), self._served.known_paths())
        return {"about": about, "spaces": spaces}

    @functools.cached_property
    def scores(self) -> dict[str, Any]:
        """Retrieval scores of the annotated records.

        Raises:
            UsageError: Too few records are annotated.
        """
        found = own_scores(self._served.archive)
        taken = next(iter(found.spaces.values())).counts["n_query"]
        which = (
            "of the part test, which the model was not trained on"
            if found.part == "test"
            else "of this archive, which may include images that the model was trained on"
        )
        return {
            "archive": self._served.name,
            "part": found.part,
            "annotated": found.annotated,
            "taken": taken,
            "about": f"{taken:,} of {found.annotated:,} annotated records {which}; "
            "each is a query for all others",
            "spaces": {name: scores.to_json() for name, scores in found.spaces.items()},
            "worst": {
                name: [{"id": id_, "score": round(score, 4)} for id_, score in queries]
                for name, queries in found.worst.items()
            },
            "label_errors": None if found.errors is None else _errors(found.errors),
        }

    @functools.cached_property
    def map(self) -> dict[str, Any]:
        """A 2-D map of a sample of the records.

        Raises:
            UsageError: There are too few records.
        """
        archive = self._served.archive
        found = flat_map(archive)
        counts = Counter(found.kinds)
        kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
        place = {kind: i for i, kind in enumerate(kinds)}
        return {
            "archive": self._served.name,
            "records": len(archive),
            "shares": [round(share, 4) for share in found.shares],
            "colored_by": found.colored_by,
            "kinds": kinds,
            "ids": list(found.ids),
            "x": found.points[:, 0].round(4).tolist(),
            "y": found.points[:, 1].round(4).tolist(),
            "kind": [place[kind] for kind in found.kinds],
        }

    def _plain(self, values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        hide = self._served.known_paths()
        return {
            name: without_paths(value, hide) if isinstance(value, str) else value
            for name in names
            if isinstance(value := values.get(name), str | int | float | bool)
        }


def _errors(found: LabelErrors) -> dict[str, Any]:
    return {
        "labels": found.labels,
        "annotated": found.annotated.tolist(),
        "predicted": found.predicted.tolist(),
        "both": found.both.tolist(),
        "instead": found.instead.tolist(),
    }


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): one for key, one in value.items()} if isinstance(value, dict) else {}


def _numbers(value: object) -> dict[str, float]:
    return {
        name: float(one)
        for name, one in _mapping(value).items()
        if isinstance(one, int | float) and one == one
    }


def _diagonal(names: object, counts: object) -> dict[str, int]:
    """Return how many images carry each label, of a table of how many carry each two."""
    if not isinstance(names, list) or not isinstance(counts, list) or len(names) != len(counts):
        return {}
    found = [
        row[i] if isinstance(row, list) and i < len(row) else None for i, row in enumerate(counts)
    ]
    return {
        str(name): count for name, count in zip(names, found, strict=True) if isinstance(count, int)
    }


def similar_regions(served: Served, id_: str, body: Body, decoders: Decoders) -> dict[str, Any]:
    """Compare the locations of a record's image with a query, and the other way around.

    The pixels are read from the source, as for a chip, and go through the model again. How the
    values come about: :mod:`landcue.models.locations`. This computes: call it in a thread.

    Raises:
        ProblemError: 404: no such record, or its image is gone; 409: the model has no feature map
            that can be looked into; 400: nothing to compare with.
        LandcueError: An image or a query cannot be used.
    """
    served.check_id(id_)
    if not served.archive.encodes:
        raise ProblemError(409, f"archive {served.name!r} holds no model to look into")
    query = read_query(served, body, decoders)
    if query is None:
        raise ProblemError(
            400, "specify a query to compare with: id, image, positives or negatives"
        )
    target = served.archive.embed(query)
    found, similarity = _grid(served, chip_pixels(decoders, served.archive, id_), target)
    theirs = served.archive.embed(ById(id_))
    asked = _query_pixels(served, query, decoders)
    return {
        "archive": served.name,
        "id": id_,
        "similarity": round(similarity, _DIGITS),
        "record": found,
        "query": None if asked is None else _grid(served, asked, theirs)[0],
    }


def _grid(served: Served, pixels: ByteArray, query: FloatArray) -> tuple[dict[str, Any], float]:
    from landcue.models.locations import similar_regions as compare

    encoder: Any = served.archive.encoder()
    if not hasattr(encoder, "in_chans"):
        raise ProblemError(409, "similar regions need the model as it was trained")
    bands = encoder.in_chans
    if pixels.shape[2] != bands:
        raise ProblemError(409, f"the image has {pixels.shape[2]} bands, the model takes {bands}")
    try:
        found = compare(encoder, encoder.prepare(pixels), query)
    except UsageError as error:
        raise ProblemError(409, str(error)) from None
    grids = {"parts": _rounded(found.parts), "cosines": _rounded(found.cosines)}
    return grids, found.similarity


def _query_pixels(served: Served, query: Query, decoders: Decoders) -> ByteArray | None:
    """Return the query's image; ``None`` where there are several, or it is not at hand any more."""
    if len(query.positives) != 1 or query.negatives:
        return None
    example = query.positives[0]
    if isinstance(example, ById):
        try:
            return chip_pixels(decoders, served.archive, example.id)
        except ProblemError:
            return None
    return example if isinstance(example, np.ndarray) else None


def _rounded(values: FloatArray) -> list[list[float]]:
    return np.round(values.astype(np.float64), _DIGITS).tolist()


LARGEST_FILE = 256 << 20
"""Bytes of an image file that a chip is made from; scenes are read window by window instead."""


def chip_jpeg(decoders: Decoders, archive: Archive, id_: str, side: int) -> bytes:
    """Return a record's image, or its chip, at most ``side`` pixels on its longer side.

    Raises:
        ProblemError: 404: the file is not there, too large, or not below the source root.
        DataError: It is broken, or costs too much to decode.
    """
    record = archive.record(id_)
    source = archive.manifest.sources[record.source]
    path = _file(source, record)
    return decoders.jpeg(path, record.window, source.scenes, side)


def chip_pixels(decoders: Decoders, archive: Archive, id_: str) -> ByteArray:
    """Return a record's image or chip as uint8 ``[h, w, C]``; large ones in the model's size.

    Raises:
        ProblemError: As :func:`chip_jpeg`.
        DataError: Likewise.
    """
    record = archive.record(id_)
    source = archive.manifest.sources[record.source]
    path = _file(source, record)
    side = square_side(archive)
    if record.window is None:
        return decoders.image(path, None, side, source.scenes)
    return decoders.chip(path, record.window, source.scenes, side)


def _file(source: Source, record: Record) -> Path:
    """Return the file of a record: below the source root, with symbolic links resolved."""
    gone = ProblemError(404, "the image of this record is not available here")
    if is_object(source.file(record.path.as_posix())):
        # Decoders hold no credentials, and clients must not cause requests to the store.
        raise ProblemError(
            404, "the image of this record is in an object store, which the service does not "
            "read; use its thumbnail"
        )  # fmt: skip
    try:
        root = source.folder.resolve(strict=True)
        path = (root / record.path).resolve(strict=True)
        size = path.stat().st_size
    except (OSError, RuntimeError, ValueError):
        raise gone from None
    if not path.is_relative_to(root) or not path.is_file() or not is_image_path(path):
        raise gone
    if record.window is None and size > LARGEST_FILE:
        raise ProblemError(404, "the image of this record is too large to be shown")
    return path
