"""What routes share: the objects of the service, and descriptions of requests and answers."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import IO, Annotated, Any, TypeVar
from weakref import WeakSet

from fastapi import Depends, Query, Request
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from landcue.server.archives import Catalog, Served
from landcue.server.collections import Collections
from landcue.server.decoding import Decoders
from landcue.server.errors import MEDIA_TYPE, ProblemError
from landcue.server.metrics import Metrics
from landcue.server.page import Page
from landcue.server.queries import PARTS, Body
from landcue.server.schemas.searches import SearchRequest
from landcue.server.settings import Limits, Settings

T = TypeVar("T")
REF = "#/components/schemas/{model}"


class BoundedExecutor:
    """Runs functions in threads; a client that leaves does not free its place early.

    Attributes:
        name: Name in metrics.
        jobs: Number of running and waiting jobs.
    """

    def __init__(self, name: str, workers: int, waiting: int, metrics: Metrics) -> None:
        self.name = name
        self.jobs = 0
        self._workers, self._most = workers, workers + waiting
        self._closed = False
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._jobs = metrics.pool_jobs.labels(pool=name)
        self._refused = metrics.pool_refused.labels(pool=name)
        metrics.pool_limit.labels(pool=name).set(self._most)

    async def run(self, work: Callable[[], T]) -> T:
        """Run ``work`` in a thread and return its result.

        Raises:
            ProblemError: 429 when all places are taken, 503 when the service is closing.
        """
        self.check()
        self._count(1)
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        future.add_done_callback(self._finished)
        return await asyncio.shield(future)

    def check(self) -> None:
        """Check that a place is free: for before a large body is read.

        Raises:
            ProblemError: As :meth:`run`.
        """
        if self._closed:
            raise ProblemError(503, "the service is closing", {"Retry-After": "5"})
        if self.jobs >= self._most:
            self._refused.inc()
            seconds = max(1, math.ceil(self.jobs / self._workers / 4))
            raise ProblemError(
                429,
                f"too many requests wait for {self.name}; try again in {seconds} s",
                {"Retry-After": str(seconds)},
            )

    def close(self) -> None:
        """Finish running jobs; drop waiting ones."""
        self._closed = True
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _finished(self, future: asyncio.Future[Any]) -> None:
        self._count(-1)
        if not future.cancelled():
            future.exception()  # the client may have disconnected

    def _count(self, by: int) -> None:
        self.jobs += by
        self._jobs.inc(by)


@dataclass(slots=True)
class Service:
    """The shared objects of the routes."""

    catalog: Catalog
    settings: Settings
    page: Page
    metrics: Metrics = field(default_factory=Metrics)
    ready: bool = False
    encoders: BoundedExecutor = field(init=False)
    searches: BoundedExecutor = field(init=False)
    surveys: BoundedExecutor = field(init=False)
    insights: BoundedExecutor = field(init=False)
    decoders: Decoders = field(init=False)
    files: WeakSet[IO[bytes]] = field(default_factory=WeakSet)
    collections: Collections = field(init=False)

    def __post_init__(self) -> None:
        limits, metrics = self.settings.limits, self.metrics
        waiting = limits.encoders_waiting
        self.encoders = BoundedExecutor("encoding", limits.encoders, waiting, metrics)
        waiting = limits.searches_waiting
        self.searches = BoundedExecutor("search", limits.searches, waiting, metrics)
        waiting = limits.surveys_waiting
        self.surveys = BoundedExecutor("survey", limits.surveys, waiting, metrics)
        self.insights = BoundedExecutor("insight", 1, limits.insights_waiting, metrics)
        self.decoders = Decoders(
            limits.decoders, limits.decode_seconds, limits.decode_bytes, limits.pixels
        )
        self.collections = Collections(self.settings.collections_file, limits.collections_bytes)
        for served in self.catalog:
            self.note_version(served)

    def check_files(self) -> None:
        """Check that a further file of results may be made while others are being sent.

        Raises:
            ProblemError: 429.
        """
        if sum(not file.closed for file in self.files) >= self.settings.limits.files:
            raise ProblemError(429, "too many files are being downloaded", {"Retry-After": "5"})

    def note_version(self, served: Served) -> None:
        """Update the version of an archive in the metrics."""
        self.metrics.records.labels(archive=served.name).set(len(served.archive))
        self.metrics.versions.labels(archive=served.name).set(served.archive.version)

    def with_kept(self, body: Body, served: Served) -> Body:
        """Return a search with the images that its collection keeps.

        Raises:
            CollectionError: 404: no such collection; 409: it is of another archive or model, or it
                keeps no image.
        """
        id_ = body.search.images_of
        if id_ is None:
            return body
        kept = self.collections.images(id_, served.name, served.archive.space)
        return replace(body, kept=tuple(kept))

    def close(self) -> None:
        """Finish running jobs and close everything."""
        self.ready = False
        self.metrics.ready.set(0)
        for executor in (self.encoders, self.searches, self.surveys, self.insights):
            executor.close()
        self.decoders.close()
        self.catalog.close()


# Dependencies are coroutines: FastAPI would run a function in a thread.
async def service_of(request: Request) -> Service:
    """Return the shared objects of an application's routes."""
    return request.app.state.service


ArchiveName = Annotated[
    str | None,
    Query(max_length=200, description="Name of the archive; the first one by default."),
]


async def archive_of(request: Request, archive: ArchiveName = None) -> Served:
    """Return the archive of a request; its version is named by the answer's headers."""
    return choose(request, archive)


def choose(request: Request, name: str | None) -> Served:
    """Return an archive by name, and name its version in the answer's headers."""
    served = request.app.state.service.catalog.get(name)
    request.state.version = served.archive.version
    return served


Shared = Annotated[Service, Depends(service_of)]
Shown = Annotated[Served, Depends(archive_of)]

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}}

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be answered.", "content": _PROBLEM},
    "5XX": {"description": "The service cannot answer now.", "content": _PROBLEM},
}


IMAGE_HEADERS = {"Cache-Control": "private, max-age=300"}


def json_of(
    model: Any, status: int = 200, files: Mapping[str, Any] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of one model, or in another format a file; or a problem."""
    content = {} if files is None else {"content": dict(files)}
    return {status: {"model": model, **content}, **PROBLEMS}


def file_of(*kinds: str, **schema: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is a file of one of some media types, or a problem."""
    one = {"schema": {"type": "string", **schema}}
    return {200: {"content": dict.fromkeys(kinds, one)}, **PROBLEMS}


JPEG = file_of("image/jpeg", format="binary")


def json_query(model: type[BaseModel], about: str) -> dict[str, Any]:
    """Describe the parameter ``request``, which holds JSON."""
    content = {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}
    one = {"name": "request", "in": "query", "required": True, "description": about}
    return {"parameters": [{**one, "content": content}]}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """Describe a body of JSON."""
    content = {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}
    return {"requestBody": {"required": True, "content": content}}


def search_body(model: type[BaseModel] = SearchRequest) -> dict[str, Any]:
    """Describe a body that is JSON, or a form of it and images."""
    ref = {"$ref": REF.format(model=model.__name__)}
    file = {"type": "string", "format": "binary"}
    form: dict[str, Any] = {"type": "object", "properties": {"request": ref}}
    files = {"type": "array", "items": file, "maxItems": Limits().images}
    form["properties"] |= {name: file if name == "image" else files for name in PARTS}
    form["additionalProperties"] = False
    if any(field.is_required() for field in model.model_fields.values()):
        form["required"] = ["request"]
    content = {"application/json": {"schema": ref}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}


def download_as(name: str) -> dict[str, str]:
    """Return the headers of a download."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def send_file(
    service: Service,
    file: IO[bytes],
    name: str,
    media_type: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a file as a download, which :meth:`Service.check_files` counts until it was sent."""
    service.files.add(file)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    said = {**download_as(name), "Content-Length": str(size)}
    closing = BackgroundTask(file.close)
    return StreamingResponse(_chunks(file), 200, {**(headers or {}), **said}, media_type, closing)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a file, which is closed at its end."""
    with file:
        while data := file.read(1 << 18):
            yield data
