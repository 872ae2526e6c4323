"""From the keywords of a search to the body of a request."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict

from landcue.errors import UsageError, did_you_mean

File = bytes | PathLike[str]
"""An image: the bytes of its file, or its path."""


class Asked(TypedDict, total=False):
    """What a search asks. Everything may be left out; without a query, records are listed.

    Attributes:
        image: The query: an image file. A text is a path here.
        crop: Of ``image``: column, row, width, height in pixels.
        record: The query: the id of a record, which does not find itself.
        positives: More examples: ids, or image files as bytes or :class:`pathlib.Path`.
        negatives: Examples to avoid, likewise.
        rule: How examples are joined.
        negative_weight: Of negatives, 0 or more.
        labels: Expression that hits must fit: ``water and not ship``.
        scores: Least score, 0..1, that the model must give a label.
        bbox: Hits must meet it: west, south, east, north in degrees; west > east crosses 180.
        polygon: Hits must meet it: GeoJSON, degrees.
        after: This time or later; UTC where there is no zone.
        before: Earlier.
        path: How the path relative to the source root starts.
        groups: Any of them.
        sensors: Any of them.
        parts: Any of ``train``, ``val``, ``test``.
        mode: ``auto``, ``embedding``, ``code``, ``cue``, ``two-stage`` or ``ann``.
        k: Hits of a page, 1..1000.
        cursor: Of the page before.
        archive: By name; the service's first by default.
        min_score: Least score of a hit.
        collapse: Cosine distance, 0..0.5, up to which near duplicates are left out.
        label_weight: Of labels against hash bits in mode ``cue``.
        shortlist: Codes that mode ``two-stage`` ranks again.
        recall: That mode ``ann`` aims at, 0..1.
        predicted: Whether hits tell the labels that the model gave them, too.
    """

    image: File | str | None
    crop: tuple[int, int, int, int] | None
    record: str | None
    positives: Sequence[str | File]
    negatives: Sequence[str | File]
    rule: Literal["mean", "rocchio", "linear"]
    negative_weight: float
    labels: str | None
    scores: Mapping[str, float]
    bbox: tuple[float, float, float, float] | None
    polygon: Mapping[str, Any] | None
    after: date | str | None
    before: date | str | None
    path: str | None
    groups: Sequence[str]
    sensors: Sequence[str]
    parts: Sequence[str]
    mode: str
    k: int
    cursor: str | None
    archive: str | None
    min_score: float | None
    collapse: float | None
    label_weight: int
    shortlist: int
    recall: float
    predicted: bool


_FILTERS = (
    "labels", "scores", "bbox", "polygon", "after", "before", "path", "groups", "sensors", "parts",
)  # fmt: skip
_FILES = ("image", "positives", "negatives")


@dataclass(frozen=True, slots=True)
class Content:
    """The body of a request and its media type."""

    data: bytes
    media_type: str


def json_content(value: Mapping[str, Any]) -> Content:
    """Return plain values as a body.

    Raises:
        UsageError: One is no JSON.
    """
    try:
        text = json.dumps(value, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from None
    return Content(text.encode(), "application/json")


def search_content(asked: Mapping[str, Any]) -> Content:
    """Return a search as a body: JSON, or a form where images are asked with.

    Raises:
        UsageError: An unknown keyword, or a file that cannot be read.
    """
    for name in asked:
        if name not in Asked.__annotations__:
            near = did_you_mean(name, Asked.__annotations__)
            raise UsageError(f"a search has no keyword {name!r}{near}")
    request = {
        name: value
        for name, value in asked.items()
        if value is not None and name not in (*_FILTERS, *_FILES, "record")
    }
    files: list[tuple[str, bytes]] = []
    image = asked.get("image")
    if image is not None:
        files.append(("image", _bytes_of(Path(image) if isinstance(image, str) else image)))
    for name, part in (("positives", "positive"), ("negatives", "negative")):
        examples: Sequence[str | File] = asked.get(name, ())
        if isinstance(examples, str | bytes):
            raise UsageError(f"{name}: give a list of ids or images")
        request[name] = [one for one in examples if isinstance(one, str)]
        files += [(part, _bytes_of(one)) for one in examples if not isinstance(one, str)]
    if asked.get("record") is not None:
        request["id"] = asked["record"]
    filters = {name: asked[name] for name in _FILTERS if asked.get(name) is not None}
    content = json_content({**request, "filters": filters})
    return _form(content.data, files) if files else content


def _form(request: bytes, files: Sequence[tuple[str, bytes]]) -> Content:
    boundary = secrets.token_hex(16)
    parts = [b'Content-Disposition: form-data; name="request"\r\n\r\n' + request]
    for name, data in files:
        head = f'Content-Disposition: form-data; name="{name}"; filename="image"\r\n'
        parts.append(f"{head}Content-Type: application/octet-stream\r\n\r\n".encode() + data)
    start = f"--{boundary}\r\n".encode()
    body = b"".join(start + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
    return Content(body, f"multipart/form-data; boundary={boundary}")


def _bytes_of(file: File) -> bytes:
    if isinstance(file, bytes):
        return file
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"image {Path(file)} cannot be read: {error.strerror}") from None


def _plain(value: object) -> object:
    if isinstance(value, date):  # a datetime is one, too
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no number, text, list or mapping")
