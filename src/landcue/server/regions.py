"""Where a record and a query are alike, location by location."""

from __future__ import annotations

from typing import Any

import numpy as np

from landcue.archive.schema import window_of
from landcue.errors import UsageError
from landcue.search.queries import ById, ByPixels, Query
from landcue.server.chips import chip_pixels
from landcue.server.decoding import Decoders
from landcue.server.problems import ProblemError
from landcue.server.searching import read_query
from landcue.server.served import Served
from landcue.server.uploads import Body
from landcue.types import ByteArray, FloatArray

_DIGITS = 4


def similar_regions(served: Served, id_: str, body: Body, decoders: Decoders) -> dict[str, Any]:
    """Compare the locations of a record's image with a query, and the other way around.

    The pixels are read from the source, as for a chip, and go through the model again. How the
    values come about: :mod:`landcue.models.regions`. This computes: call it in a thread.

    Raises:
        ProblemError: 404: no such record, or its image is gone; 409: the model has no feature map
            that can be looked into; 400: nothing to compare with.
        LandcueError: An image or a query cannot be used.
    """
    served.check_id(id_)
    if not served.encodes:
        raise ProblemError(409, f"archive {served.name!r} holds no model to look into")
    query = read_query(served, body, decoders)
    if query is None:
        raise ProblemError(400, "give the query to compare with: id, image, positives or negatives")
    target = served.searcher.embed(query)
    found, similarity = _grid(served, _pixels(served, id_, decoders), target)
    theirs = served.searcher.embed(ById(id_))
    asked = _query_pixels(served, query, decoders)
    return {
        "archive": served.name,
        "id": id_,
        "similarity": round(similarity, _DIGITS),
        "record": found,
        "query": None if asked is None else _grid(served, asked, theirs)[0],
    }


def _grid(served: Served, pixels: ByteArray, query: FloatArray) -> tuple[dict[str, Any], float]:
    from landcue.models.encoder import NeuralEncoder
    from landcue.models.regions import similar_regions as compare

    encoder = served.encoder()
    if not isinstance(encoder, NeuralEncoder):
        raise ProblemError(
            409,
            "similar regions need the model as it was trained; this archive holds an exported one",
        )
    bands = encoder.config.in_chans
    if pixels.shape[2] != bands:
        raise ProblemError(409, f"the image has {pixels.shape[2]} bands, the model takes {bands}")
    try:
        found = compare(encoder, encoder.prepare(pixels), query)
    except UsageError as error:
        raise ProblemError(409, str(error)) from None
    grids = {"parts": _rounded(found.parts), "cosines": _rounded(found.cosines)}
    return grids, found.similarity


def _pixels(served: Served, id_: str, decoders: Decoders) -> ByteArray:
    row = served.archive.record(id_)
    window = window_of(row["pixel_bbox"])
    return chip_pixels(decoders, served.archive.manifest, row["path"], window)


def _query_pixels(served: Served, query: Query, decoders: Decoders) -> ByteArray | None:
    """Return the query's image; ``None`` where there are several, or it is not at hand any more."""
    if isinstance(query, ByPixels):
        return query.pixels
    if isinstance(query, ById):
        try:
            return _pixels(served, query.id, decoders)
        except ProblemError:
            return None
    return None


def _rounded(values: FloatArray) -> list[list[float]]:
    return np.round(values.astype(np.float64), _DIGITS).tolist()
