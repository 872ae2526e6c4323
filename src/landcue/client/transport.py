"""The content of requests, and how they are sent."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
from pydantic import BaseModel, ValidationError

from landcue import __version__
from landcue.errors import ServiceError, UsageError, did_you_mean, refusal
from landcue.interval import Interval, interval_text
from landcue.server.schemas.searches import Mode, SearchRequest

File = bytes | PathLike[str]
"""An image: the bytes of its file, or its path."""


Example = Any
"""The id of a record, an image file (bytes or path), a Pillow image, pixels, a vector, or a hit."""


class SearchArguments(TypedDict, total=False):
    """Keywords of a search. All are optional; without a query, records are listed.

    Attributes:
        image: The query: an image file. A text is a path here.
        crop: Of ``image``: column, row, width, height in pixels.
        record: The query: the id of a record, which is not among its own hits.
        positives: More examples: ids, hits, Pillow images, pixels, or image files as bytes or
            :class:`pathlib.Path`.
        negatives: Examples to avoid, likewise.
        text: Description in words to search for; models with a text tower only.
        negative_text: Description to avoid.
        rule: How examples are combined.
        negative_weight: Of negatives, 0 or more.
        labels: Expression that hits must fit: ``water and not ship``.
        scores: Least score, 0..1, that the model must give a label.
        bbox: Hits must meet it: west, south, east, north in degrees; west > east crosses 180.
        polygon: Hits must meet it: GeoJSON, degrees.
        datetime: A time or an interval with both its ends, ``2024-06-01/..``; a date, or a pair
            of two; UTC where there is no zone.
        path: Prefix of the path relative to the source root.
        groups: Any of them.
        sensors: Any of them.
        parts: Any of ``train``, ``val``, ``test``.
        sources: Any of these sources of the archive.
        ids: Any of these records; up to 1,000.
        cql2: CQL2 filter, text or JSON: ``a_overlaps(labels, ('ship')) or "score:water" > 0.9``.
        vector: Embedding to search for, of the archive's dimensions.
        space: Of which space the vector is: ``archive``, ``encoder`` or a model's fingerprint;
            known of what :meth:`landcue.Archive.embed` returned.
        images_of: Id of a collection whose kept images are examples.
        mode: ``auto``, ``embedding``, ``code``, ``cue``, ``two-stage``, ``ann``, ``fused``,
            ``fused-code`` or ``regions``.
        k: Hits of a page, 1..1000.
        cursor: Of the page before.
        archive: By name; the service's first by default.
        min_score: Least score of a hit.
        min_percentile: Least percentile of a hit, 0..100; not in mode ``fused``.
        collapse: Cosine distance, 0..0.5, up to which near duplicates are left out.
        label_weight: Weight of a label bit against a hash bit in mode ``cue``.
        shortlist: Codes that mode ``two-stage`` ranks again.
        rerank: How the shortlist is ranked again: ``none``, ``alpha-qe`` or ``k-reciprocal``.
        fused_weight: Weight of the labels in mode ``fused``; measured by default.
        recall: Recall that mode ``ann`` aims at, 0..1.
        predicted: Add the labels that the model predicted to hits.
    """

    image: File | str | None
    crop: tuple[int, int, int, int] | None
    record: str | None
    positives: Sequence[Example]
    negatives: Sequence[Example]
    text: str | None
    negative_text: str | None
    rule: Literal["mean", "rocchio", "linear"]
    negative_weight: float
    labels: str | None
    scores: Mapping[str, float]
    bbox: tuple[float, float, float, float] | None
    polygon: Mapping[str, Any] | None
    datetime: Interval | None
    path: str | None
    groups: Sequence[str]
    sensors: Sequence[str]
    parts: Sequence[str]
    sources: Sequence[str]
    ids: Sequence[str]
    cql2: str | None
    vector: Sequence[float] | None
    space: str | None
    images_of: str | None
    mode: Mode
    k: int
    cursor: str | None
    archive: str | None
    min_score: float | None
    min_percentile: float | None
    collapse: float | None
    label_weight: int
    shortlist: int
    rerank: Literal["none", "alpha-qe", "k-reciprocal"]
    fused_weight: float | None
    recall: float
    predicted: bool


F = TypeVar("F", bound=Callable[..., Any])


def shows_search_arguments(method: F) -> F:
    """Show the keywords of a search in the signature of a method, for help and editors."""
    own = inspect.signature(method)
    named = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
    known = {one.name for one in named}
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in SearchArguments.__annotations__.items()
        if name not in known
    ]
    method.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
    return method


_FILTERS = (
    "labels", "scores", "bbox", "polygon", "datetime", "path", "groups", "sensors", "parts",
    "sources", "ids", "cql2",
)  # fmt: skip
_FILES = ("image", "positives", "negatives")


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a request: JSON, and image files by the names of their parts."""

    text: str
    files: tuple[tuple[str, bytes], ...] = ()


def json_content(model: type[BaseModel], values: Mapping[str, Any]) -> Content:
    """Return values as JSON that fits a model of the service."""
    filters = values.get("filters")
    if isinstance(filters, Mapping) and filters.get("datetime") is not None:
        values = {**values, "filters": {**filters, "datetime": interval_text(filters["datetime"])}}
    try:
        text = json.dumps(values, allow_nan=False, default=_plain)
        model.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(str(step) for step in first["loc"])
        what = refusal(first["msg"])
        raise UsageError(f"{at}: {what}" if at else what) from None
    except (TypeError, ValueError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from None
    return Content(text)


def search_content(arguments: Mapping[str, Any]) -> Content:
    """Return a search as the content of a request."""
    for name in arguments:
        if name in ("after", "before"):
            raise UsageError(f"a search has no keyword {name!r}: write datetime='2024-06-01/..'")
        if name not in SearchArguments.__annotations__:
            near = did_you_mean(name, SearchArguments.__annotations__)
            raise UsageError(f"a search has no keyword {name!r}{near}")
    request = {
        name: value
        for name, value in arguments.items()
        if value is not None and name not in (*_FILTERS, *_FILES, "record")
    }
    files: list[tuple[str, bytes]] = []
    image = arguments.get("image")
    if image is not None:
        image = Path(image) if isinstance(image, str) else image
        files.append(("image", _bytes_of(_plain_example("image", image))))
    for name, part in (("positives", "positive"), ("negatives", "negative")):
        given = arguments.get(name) or ()
        if not isinstance(given, list | tuple):
            raise UsageError(f"{name}: pass a list of ids or images")
        examples = [_plain_example(name, one) for one in given]
        request[name] = [one for one in examples if isinstance(one, str)]
        files += [(part, _bytes_of(one)) for one in examples if not isinstance(one, str)]
    if arguments.get("record") is not None:
        request["id"] = arguments["record"]
    filters = {name: arguments[name] for name in _FILTERS if arguments.get(name) is not None}
    content = json_content(SearchRequest, {**request, "filters": filters})
    return Content(content.text, tuple(files))


def with_query(query: Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the keywords of a search, and of its query."""
    if query is None:
        return arguments
    known = dict(arguments)
    others = ("record", "image", "vector")
    if any(known.get(name) is not None for name in others):
        raise UsageError("pass the query once: as query, record, image or vector")
    if isinstance(query, list | tuple) and not _is_vector(query):
        return {**known, "positives": [*query, *(known.get("positives") or ())]}
    if _is_vector(query):
        values: Any = query if isinstance(query, list | tuple) else query.ravel().tolist()
        known = {**known, "vector": [float(value) for value in values]}
        space = getattr(getattr(query, "space", None), "fingerprint", None)
        return known if space is None else {"space": space, **known}
    example = _plain_example("query", query)
    return {**known, "record" if isinstance(example, str) else "image": example}


def _is_vector(value: Any) -> bool:
    """Whether a value is a list of numbers, or a float array of one vector."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(one, int | float) for one in value)
    shape = getattr(value, "shape", ())
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    return kind == "f" and (len(shape) == 1 or (len(shape) == 2 and shape[0] == 1))


def _plain_example(name: str, value: Any) -> str | File:
    """Return an example as the id of a record, or as an image file."""
    if isinstance(value, str | bytes | PathLike):
        return value
    if isinstance(getattr(value, "id", None), str):  # a hit, or a record
        return value.id
    if getattr(getattr(value, "dtype", None), "kind", "") == "u" and len(value.shape) in (2, 3):
        from PIL import Image

        value = Image.fromarray(value)
    if hasattr(value, "save") and hasattr(value, "mode"):
        out = io.BytesIO()
        value.save(out, "PNG")
        return out.getvalue()
    raise UsageError(
        f"{name}: {type(value).__name__} is no id, image file, Pillow image, uint8 pixels or hit"
    )


def _bytes_of(file: File | str) -> bytes:
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


FORMATS = {
    ".geojson": "geojson", ".csv": "csv", ".parquet": "geoparquet", ".json": "json",
    ".arrow": "arrow", ".npy": "npy",
}  # fmt: skip
"""Formats of results by the suffix of a file."""


def export_format(path: Path, format: str | None) -> str:
    """Return the format of an export, by default that of the file's suffix."""
    kind = format or FORMATS.get(path.suffix.lower())
    if kind is None or kind not in FORMATS.values():
        near = did_you_mean(kind or path.suffix, [*FORMATS.values()] if kind else [*FORMATS])
        raise UsageError(f"export {path}: no such format{near}")
    return kind


M = TypeVar("M", bound=BaseModel)

_BUSY = 429


class Transport:
    """Sends requests to one service; threads may share it."""

    def __init__(
        self, url: str, token: str | None, timeout: float, retries: int, longest_wait: float
    ) -> None:
        self.url = _check_url(url)
        if token is not None and not (token.isascii() and token.isprintable() and token.strip()):
            raise UsageError("the token must be printable ASCII: check where it was copied from")
        self._timeout, self._retries, self._longest = timeout, retries, longest_wait
        headers = {"Accept": "*/*", "User-Agent": f"landcue/{__version__}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        # A redirect would carry the token to wherever it leads; the service sends none.
        self._http = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def send(
        self, method: str, path: str, query: Mapping[str, Any], content: Content | None = None
    ) -> bytes:
        """Return the body of an answer; while the service is busy (429), retry."""
        given = {name: value for name, value in query.items() if value is not None}
        address = f"{self.url}{path}" + (f"?{urlencode(given)}" if given else "")
        tried = 0
        while True:
            try:
                answer = self._http.request(method, address, **_body(content))
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise self._unreachable(error) from None
            if answer.is_success:
                return answer.content
            wait = _seconds(answer.headers.get("Retry-After"), 2.0**tried)
            if answer.status_code != _BUSY or tried >= self._retries or wait > self._longest:
                raise self._problem(answer)
            time.sleep(wait)
            tried += 1

    def fetch(
        self,
        model: type[M],
        method: str,
        path: str,
        query: Mapping[str, Any],
        content: Content | None = None,
    ) -> M:
        """Return an answer as a value."""
        data = self.send(method, path, query, content)
        try:
            return model.model_validate_json(data)
        except ValidationError:
            detail = "the answer is not LandCue's: check the address, and that both versions fit"
            raise ServiceError(f"{self.url}: {detail}", detail=detail) from None

    def get(self, model: type[M], path: str, **query: Any) -> M:
        """Return the answer to a GET request as a value."""
        return self.fetch(model, "GET", path, query)

    def post(self, model: type[M], path: str, content: Content | None = None, **query: Any) -> M:
        """Return the answer to a POST request as a value."""
        return self.fetch(model, "POST", path, query, content)

    def download(self, path: str, **query: Any) -> bytes:
        """Return the body of the answer to a GET request."""
        return self.send("GET", path, query)

    def _unreachable(self, error: Exception) -> ServiceError:
        late = isinstance(error, httpx.TimeoutException)
        what = f"no answer within {self._timeout:g} s" if late else str(error) or repr(error)
        detail = f"the service cannot be reached ({what}): is it running there?"
        return ServiceError(f"{self.url}: {detail}", detail=detail)

    def _problem(self, answer: httpx.Response) -> ServiceError:
        try:
            value = json.loads(answer.content)
        except ValueError:
            value = None
        known: dict[str, Any] = value if isinstance(value, dict) else {}
        detail = str(known.get("detail") or known.get("title") or answer.reason_phrase)
        id_ = answer.headers.get("X-Request-ID")
        named = f" (request {id_})" if id_ else ""
        errors: list[Any] = known.get("errors") or []
        return ServiceError(
            f"{self.url}: {answer.status_code}: {detail}{named}",
            detail=detail,
            status=answer.status_code,
            request_id=id_,
            errors=[one for one in errors if isinstance(one, dict)],
        )


def _body(content: Content | None) -> dict[str, Any]:
    if content is None:
        return {}
    if content.files:
        files = [(name, ("image", data)) for name, data in content.files]
        return {"data": {"request": content.text}, "files": files}
    return {"content": content.text, "headers": {"Content-Type": "application/json"}}


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    good = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    if not good or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is no address of a service: write http://127.0.0.1:8000")
    return url.rstrip("/")


def _seconds(text: str | None, default: float) -> float:
    """Return the seconds of a Retry-After header, which are a number or a date."""
    if text is None:
        return default
    with contextlib.suppress(ValueError):
        return max(0.0, float(int(text)))
    try:
        then = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return default
    then = then if then.tzinfo else then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())
