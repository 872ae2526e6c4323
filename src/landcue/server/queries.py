"""Answer a search request: parse the body, images, filters, crop and cursor, and search."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from shapely.geometry.base import BaseGeometry
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from landcue.errors import UsageError
from landcue.search.archive import Archive
from landcue.search.filters import Filter
from landcue.search.pages import Cursor
from landcue.search.place import most_at_one_latitude, read_polygon
from landcue.search.plan import FUSED, SearchOptions
from landcue.search.query import ById, Example, Query, Text, common_scenes
from landcue.search.result import Result
from landcue.server.decoding import Decoders
from landcue.server.errors import InvalidError, ProblemError
from landcue.server.kept_images import KeptImage
from landcue.server.schemas.searches import (
    MAX_AT_ONE_LATITUDE,
    MAX_DEPTH,
    Filters,
    SearchRequest,
)
from landcue.server.settings import Limits
from landcue.types import Bounds, ByteArray

if TYPE_CHECKING:
    from landcue.server.archives import Served

M = TypeVar("M", bound=BaseModel)

_MAX_SHORTLIST = 10_000
_MAX_LISTS = 1 << 16
_SHORT_JSON = 16 << 10
_MAX_COLLAPSED = 2_000
"""Rank of the last hit of pages without near duplicates, which compare all pairs."""


PARTS = ("image", "positive", "negative")


@dataclass(frozen=True, slots=True)
class Body:
    """A search, and the files that came with it.

    Attributes:
        search: The JSON.
        images: Bytes by part name, in the order they came.
        kept: Images of an earlier search that its collection keeps.
    """

    search: SearchRequest
    images: dict[str, tuple[bytes, ...]]
    kept: tuple[KeptImage, ...] = ()

    @property
    def any(self) -> bool:
        """Whether there is any image."""
        return any(self.images.values())


def parse_json(model: type[M], text: bytes | str) -> M:
    """Read a model from JSON."""
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        raise InvalidError(error, model) from None


async def read_body(request: Request, limits: Limits) -> Body:
    """Read a search request: see :func:`read_parts`."""
    return Body(*await read_parts(request, limits, SearchRequest))


async def read_json(request: Request, model: type[M]) -> M:
    """Read a body of JSON.

    Raises:
        ProblemError: 415: another kind of content.
        InvalidError: It does not fit the schema.
    """
    return await _parse(model, await read_text(request))


async def read_text(request: Request) -> bytes:
    """Return a body of JSON as it came.

    Raises:
        ProblemError: 415: another kind of content.
    """
    if _kind(request) != "application/json":
        raise ProblemError(415, "send application/json")
    return await request.body()


def _kind(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_parts(
    request: Request, limits: Limits, model: type[M]
) -> tuple[M, dict[str, tuple[bytes, ...]]]:
    """Read a body of JSON, or a form of it and images.

    Raises:
        ProblemError: 400: a broken form or an unknown part; 413: too many or too large parts;
            415: another kind of content.
        InvalidError: The JSON does not fit the schema.
    """
    kind = _kind(request)
    if kind == "application/json":
        return await _parse(model, await request.body()), {}
    if kind != "multipart/form-data":
        raise ProblemError(415, "send application/json, or multipart/form-data with images")
    form = await _read_form(request, limits)
    try:
        images: dict[str, list[bytes]] = {}
        text = "{}"
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and name in PARTS:
                images.setdefault(name, []).append(await value.read())
            elif isinstance(value, str) and name == "request":
                text = value
            else:
                known = ", ".join(PARTS)
                raise ProblemError(
                    400, f"a part is called {name[:40]!r}: send 'request' (JSON), files {known}"
                )
    finally:
        await form.close()
    if len(images.get("image", ())) > 1:
        raise ProblemError(400, "send one part 'image'; further ones as 'positive' or 'negative'")
    return await _parse(model, text), {name: tuple(data) for name, data in images.items()}


async def _parse(model: type[M], text: bytes | str) -> M:
    """Parse JSON; a long text in a thread, so that other requests do not wait."""
    if len(text) <= _SHORT_JSON:
        return parse_json(model, text)
    return await asyncio.to_thread(parse_json, model, text)


class _Form(MultiPartParser):
    """Notes whether the closing boundary arrived: without it a part may be missing."""

    ended = False

    def on_end(self) -> None:
        """Note the end."""
        self.ended = True


async def _read_form(request: Request, limits: Limits) -> FormData:
    charset = parse_options_header(request.headers["content-type"])[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8"):
        raise ProblemError(415, "send the form in UTF-8")
    async with contextlib.aclosing(request.stream()) as stream:
        parser = _Form(
            request.headers,
            stream,
            max_files=limits.images,
            max_fields=1,
            max_part_size=limits.json_bytes,
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise ProblemError(400, f"the form cannot be read: {error.message}") from None
    if not parser.ended:
        await form.close()
        raise ProblemError(400, "the form is cut off: its closing boundary is missing")
    return form


def check_effort(shape: BaseGeometry, name: str) -> BaseGeometry:
    """Refuse a geometry whose comparison with a million footprints would take long.

    Raises:
        UsageError: It would.
    """
    if most_at_one_latitude(shape) > MAX_AT_ONE_LATITUDE:
        raise UsageError(
            f"{name}: more than {MAX_AT_ONE_LATITUDE} edges at one latitude: simplify it"
        )
    return shape


def to_filter(filters: Filters) -> Filter:
    """Return conditions as search takes them."""
    polygon = None
    if filters.polygon is not None:
        polygon = check_effort(read_polygon(json.dumps(filters.polygon)), "polygon")
    return Filter(
        expression=filters.labels if filters.labels and filters.labels.strip(" ,") else None,
        scores=tuple(filters.scores.items()),
        bbox=None if filters.bbox is None else Bounds(*filters.bbox),
        polygon=polygon,
        datetime=filters.datetime,
        path=filters.path or None,
        groups=tuple(filters.groups),
        sensors=tuple(filters.sensors),
        parts=tuple(filters.parts),
        sources=tuple(filters.sources),
        ids=tuple(filters.ids),
        cql2=filters.cql2,
    )


def check_encodes(served: Served, body: Body) -> None:
    """Refuse new images and texts where there is no model.

    Raises:
        ProblemError: 409.
    """
    new = body.any or body.search.text or body.search.negative_text
    if new and not served.archive.encodes:
        raise ProblemError(
            409,
            f"archive {served.name!r} holds no model for new images or texts: search with a "
            "record's id",
        )


def run_search(served: Served, body: Body, decoders: Decoders, *, every: bool = False) -> Result:
    """Answer a request. This computes: call it in a thread.

    Args:
        served: The archive.
        body: The request.
        decoders: Decode its images.
        every: Return all records that pass, not only a page; the last few results are kept.

    Raises:
        ProblemError: 404: an unknown record; 409: images where there is no model, an approximate
            search where no index was built, or a cursor of another version; 400: a crop outside
            the image, or a cursor too deep; 503: mode two-stage is being prepared.
        LandcueError: Whatever the search refuses.
    """
    search = body.search
    cursor = None if search.cursor is None else _read_cursor(served, search)
    mode = search.mode if cursor is None else cursor.mode  # which a search goes on with
    # A search would build the index: minutes of work and new files, for any client.
    if mode == "ann" and "ann" not in served.archive.modes:
        raise ProblemError(
            409,
            f"archive {served.name!r} has no approximate index: its operator can build one with "
            "'landcue search ARCHIVE --mode ann'",
        )
    if mode in FUSED and mode not in served.archive.modes:
        raise ProblemError(
            409,
            f"archive {served.name!r} has no measured weight of labels: its operator can measure "
            "one with 'landcue search ARCHIVE --mode fused'",
        )
    check_encodes(served, body)
    if mode == "two-stage" and served.preparing and not every:
        raise ProblemError(
            503,
            f"archive {served.name!r} is being prepared for mode two-stage: try again in a few "
            "seconds, or search with another mode",
            {"Retry-After": "3"},
        )
    where = to_filter(search.filters)
    options = SearchOptions(
        search.min_score,
        search.collapse,
        search.label_weight,
        search.shortlist,
        search.recall,
        search.cursor,
        rerank=search.rerank,
        fused_weight=search.fused_weight,
        min_percentile=search.min_percentile,
    )
    if not every:
        query = read_query(served, body, decoders)
        return served.archive.search(
            query, k=search.k, mode=search.mode, where=where, options=options
        )

    def find() -> Result:
        query = read_query(served, body, decoders)
        return served.archive.search_all(query, mode=search.mode, where=where, options=options)

    said = hashlib.sha256(search.model_dump_json(exclude={"k", "predicted"}).encode())
    for name in PARTS:
        for image in body.images.get(name, ()):
            said.update(name.encode() + hashlib.sha256(image).digest())
    return served.remember(said.digest(), find)


def read_query(served: Served, body: Body, decoders: Decoders) -> Query | None:
    """Return the query of a request; ``None`` where it only filters.

    Raises:
        ProblemError: 404: an unknown record; 400: a crop outside the image, or of none.
        DataError: An image cannot be read.
    """
    search = body.search
    ids = [served.check_id(id_) for id_ in (*search.positives, *search.negatives)]
    positive_ids, negative_ids = ids[: len(search.positives)], ids[len(search.positives) :]
    own: list[Example] = [] if search.id is None else [ById(served.check_id(search.id))]
    first = body.images.get("image", ())
    if search.crop is not None and not first:
        raise ProblemError(400, "crop: only an uploaded part 'image' can be cropped")
    images: dict[str, list[Example]] = {name: [] for name in PARTS}
    for one in body.kept:
        images[one.part].append(one.encoding)
    for part, pixels, _ in _decoded(served, body.images, search.crop, decoders):
        images[part].append(pixels)
    own = [*images["image"], *own]
    if search.vector is not None:
        own.insert(0, np.array(search.vector, np.float64))
    if search.text is not None:
        own.append(Text(search.text))
    marks = [*map(ById, positive_ids), *images["positive"]]
    negatives = [*map(ById, negative_ids), *images["negative"]]
    if search.negative_text is not None:
        negatives.append(Text(search.negative_text))
    if not own and not marks and not negatives:
        return None
    positives = [*own, *marks]
    return Query(
        positives, negatives, search.rule, search.negative_weight,
        marks=len(marks), space=search.space,
    )  # fmt: skip


def with_space(archive: Archive, search: dict[str, Any]) -> dict[str, Any]:
    """Return a search to keep, which says by a fingerprint of which space its vector is.

    Raises:
        UsageError: It does not say it at all, or the vector cannot be searched for.
    """
    if search.get("vector"):
        space = archive.space.name(search.get("space"))
        archive.space.accept(np.array(search["vector"], np.float64), space)
        return {**search, "space": space}
    return search


def encode_images(
    served: Served,
    images: Mapping[str, Sequence[bytes]],
    crop: tuple[int, int, int, int] | None,
    decoders: Decoders,
) -> list[KeptImage]:
    """Encode the images of a query for its collection. This computes: call it in a thread.

    Raises:
        ProblemError: 409: the archive holds no model; 400: a crop of no image.
        DataError: An image cannot be read.
    """
    if any(images.values()) and not served.archive.encodes:
        raise ProblemError(409, f"archive {served.name!r} holds no model for new images")
    if crop is not None and not images.get("image"):
        raise ProblemError(400, "crop: only an uploaded part 'image' can be cropped")
    fingerprint = served.archive.manifest.fingerprint
    kept: list[KeptImage] = []
    for part, pixels, small in _decoded(served, images, crop, decoders):
        encoder = served.archive.encoder()
        encoding = encoder.encode(encoder.prepare(pixels)[None])
        kept.append(KeptImage(part, fingerprint, encoding, small()))
    return kept


def _decoded(
    served: Served,
    images: Mapping[str, Sequence[bytes]],
    crop: tuple[int, int, int, int] | None,
    decoders: Decoders,
) -> Iterator[tuple[str, ByteArray, Callable[[], bytes]]]:
    """Yield the part, the pixels and what makes the thumbnail of each image."""
    if not any(images.values()):
        return
    side, scenes = square_side(served.archive), scenes_of(served.archive)
    for part in PARTS:
        cut = crop if part == "image" else None
        for data in images.get(part, ()):
            small = functools.partial(decoders.thumbnail, data, cut, scenes)
            yield part, decoders.image(data, cut, side, scenes), small


def scenes_of(archive: Archive) -> dict[str, Any]:
    """Return how uploaded rasters are read: as those of the archive were."""
    channels = getattr(archive.encoder(), "in_chans", 3)
    return {**common_scenes(archive.manifest.sources), "channels": channels}


def square_side(archive: Archive) -> int | None:
    """Return the side of the square that an archive's encoder resizes images to.

    ``None``: it prepares images in another way, and needs all of their pixels.
    """
    from landcue.models.resize import resize_square

    encoder = archive.encoder()
    side = getattr(encoder, "image_size", None)
    if not isinstance(side, int):
        return None
    bands = getattr(encoder, "in_chans", 3)
    sample = np.random.default_rng(0).integers(0, 256, (301, 203, bands), np.uint8)
    return side if np.array_equal(encoder.prepare(sample), resize_square(sample, side)) else None


def _read_cursor(served: Served, search: SearchRequest) -> Cursor:
    """Read a cursor, and refuse one that would cost more than any page of this service."""
    cursor = Cursor.decode(search.cursor or "")
    if cursor.mark != served.archive.mark:
        raise ProblemError(
            409, "the cursor is for another archive or version: search from the first page"
        )
    deepest = MAX_DEPTH if search.collapse is None else _MAX_COLLAPSED
    if cursor.seen > min(deepest, len(served.archive)):
        raise ProblemError(400, f"pages reach down to hit {deepest:,}: narrow the search instead")
    if cursor.shortlist > max(_MAX_SHORTLIST, search.k) or (cursor.lists or 0) > _MAX_LISTS:
        raise UsageError("the cursor cannot be read: use the cursor of the last page unchanged")
    return cursor
