"""From a request to a result: examples, a crop, and a cursor that nobody made up."""

from __future__ import annotations

from landcue.errors import UsageError
from landcue.search.pages import Cursor
from landcue.search.queries import ById, ByPixels, Example, Mix, Query
from landcue.search.result import SearchResult
from landcue.server.decoding import Decoders
from landcue.server.problems import ProblemError
from landcue.server.schemas import MAX_DEPTH, SearchRequest
from landcue.server.served import Served
from landcue.server.uploads import Body
from landcue.types import ByteArray

_MAX_SHORTLIST = 10_000
_MAX_LISTS = 1 << 16
_MAX_COLLAPSED = 2_000
"""Hits that pages reach down to when near duplicates are left out, which compares all pairs."""


def run_search(served: Served, body: Body, decoders: Decoders) -> SearchResult:
    """Answer a request. This computes: call it in a thread.

    Raises:
        ProblemError: 404: an unknown record; 409: images where there is no model, an approximate
            search where no index was built, or a cursor of another version; 400: a crop outside
            the image, or a cursor too deep.
        LandcueError: Whatever the search refuses.
    """
    asked = body.search
    # A search would build the index: minutes of work and new files, for whoever asks.
    if asked.mode == "ann" and "ann" not in served.searcher.modes:
        raise ProblemError(
            409,
            f"archive {served.name!r} has no approximate index: its operator makes one with "
            "'landcue search ARCHIVE --mode ann'",
        )
    if body.any and not served.encodes:
        raise ProblemError(
            409, f"archive {served.name!r} holds no model for new images: ask with a record's id"
        )
    if asked.cursor is not None:
        _check_cursor(served, asked)
    where = asked.filters.to_filter()
    return served.searcher.search(
        read_query(served, body, decoders),
        k=asked.k,
        mode=asked.mode,
        where=where,
        cursor=asked.cursor,
        min_score=asked.min_score,
        collapse=asked.collapse,
        label_weight=asked.label_weight,
        shortlist=asked.shortlist,
        recall=asked.recall,
    )


def read_query(served: Served, body: Body, decoders: Decoders) -> Query | None:
    """Return what a request asks with; ``None`` where it only filters.

    Raises:
        ProblemError: 404: an unknown record; 400: a crop outside the image, or of none.
        DataError: An image cannot be read.
    """
    asked = body.search
    ids = [served.check_id(id_) for id_ in (*asked.positives, *asked.negatives)]
    positive_ids, negative_ids = ids[: len(asked.positives)], ids[len(asked.positives) :]
    if asked.id is not None:
        positive_ids = [served.check_id(asked.id), *positive_ids]
    first = body.images.get("image", ())
    if asked.crop is not None and not first:
        raise ProblemError(400, "crop belongs to an uploaded part 'image'")
    positives: list[Example] = [
        ByPixels(_cropped(decoders.image(data), asked.crop)) for data in first
    ]
    positives += [ById(id_) for id_ in positive_ids]
    positives += [ByPixels(decoders.image(data)) for data in body.images.get("positive", ())]
    negatives: list[Example] = [ById(id_) for id_ in negative_ids]
    negatives += [ByPixels(decoders.image(data)) for data in body.images.get("negative", ())]
    if not positives and not negatives:
        return None
    if len(positives) == 1 and not negatives:
        return positives[0]
    return Mix(tuple(positives), tuple(negatives), asked.rule, asked.negative_weight)


def _cropped(pixels: ByteArray, crop: tuple[int, int, int, int] | None) -> ByteArray:
    if crop is None:
        return pixels
    col, row, width, height = crop
    if col + width > pixels.shape[1] or row + height > pixels.shape[0]:
        size = f"{pixels.shape[1]} x {pixels.shape[0]}"
        raise ProblemError(400, f"crop {list(crop)} leaves the image of {size} pixels")
    return pixels[row : row + height, col : col + width]


def _check_cursor(served: Served, asked: SearchRequest) -> None:
    """Refuse cursors that would cost more than any page that was handed out."""
    cursor = Cursor.decode(asked.cursor or "")
    if cursor.mark != served.searcher.mark:
        raise ProblemError(
            409, "the cursor belongs to another archive or version: search from the first page"
        )
    deepest = MAX_DEPTH if asked.collapse is None else _MAX_COLLAPSED
    if cursor.seen > min(deepest, len(served.searcher.records)):
        raise ProblemError(400, f"pages reach down to hit {deepest:,}: narrow the search instead")
    if cursor.shortlist > max(_MAX_SHORTLIST, asked.k) or (cursor.lists or 0) > _MAX_LISTS:
        raise UsageError("the cursor cannot be read: give the one of the last page unchanged")
