"""Routes of saved searches, and the task that evaluates them after an archive changed."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from landcue.data.objects import is_object
from landcue.errors import LandcueError, UsageError
from landcue.search.feed import write_feed, write_json_lines
from landcue.search.watch import PERCENTILE, WatchReport
from landcue.server.archives import Served
from landcue.server.errors import ProblemError, capitalized
from landcue.server.queries import (
    Body,
    parse_json,
    read_json,
    read_query,
    read_text,
    to_filter,
    with_space,
)
from landcue.server.routes.base import (
    ArchiveName,
    Service,
    Shared,
    Shown,
    choose,
    download_as,
    file_of,
    json_body,
    json_of,
)
from landcue.server.schemas.watches import (
    MAX_WATCHES,
    FeedAnswer,
    WatchesAnswer,
    WatchesFile,
    WatchesImportAnswer,
    WatchHitsAnswer,
    WatchRequest,
)
from landcue.server.transfer import export_watches, import_watches

router = APIRouter(generate_unique_id_function=lambda route: route.name)

_MOST_ENTRIES = 1_000
"""Of a feed."""
_RETRY_SECONDS = 5.0
_ATOM = "application/atom+xml"
_FILES = file_of("application/x-ndjson", _ATOM)[200]["content"]
_log = logging.getLogger("landcue.server")


@router.get("/v1/watches", responses=json_of(WatchesAnswer))
async def list_watches(
    service: Shared,
    served: Shown,
    collection: Annotated[
        str | None, Query(max_length=200, description="Only those of the collection with this id.")
    ] = None,
) -> Response:
    """Return the saved searches of an archive."""
    return JSONResponse(await service.searches.run(lambda: _listed(served, collection)))


@router.post(
    "/v1/watches",
    status_code=201,
    responses=json_of(WatchesAnswer, 201),
    openapi_extra=json_body(WatchRequest),
)
async def save_watch(request: Request, service: Shared) -> Response:
    """Save a search: records that are added from now on and match it are reported once."""
    given = await read_json(request, WatchRequest)
    search = given.search
    served = choose(request, search.archive)
    if search.min_score is not None and given.percentile is not None:
        raise ProblemError(400, "send min_score or percentile, not both")
    if given.name in (".", ".."):  # clients leave them out of addresses
        raise ProblemError(400, f"a saved search cannot have the name {given.name!r}")
    if search.min_percentile is not None:
        raise ProblemError(400, "send percentile beside the search instead of its min_percentile")

    def work() -> dict[str, Any]:
        watches = served.archive.watches
        if len(watches.list()) >= MAX_WATCHES:
            raise ProblemError(413, f"an archive has at most {MAX_WATCHES:,} saved searches")
        query = read_query(served, service.with_kept(Body(search, {}), served), service.decoders)
        kept = search.images_of and service.collections.get(search.images_of)["name"]
        if given.collection:
            service.collections.of(given.collection, served.name)
        watches.add(
            given.name,
            None if query is None else served.archive.embed(query),
            query=search.text or ", ".join(filter(None, (kept, search.id, *search.positives))),
            where=to_filter(search.filters),
            percentile=given.percentile or PERCENTILE,
            min_score=search.min_score,
            collection=given.collection,
            search=with_space(
                served.archive,
                search.model_dump(
                    mode="json",
                    exclude_unset=True,
                    exclude_defaults=True,
                    exclude={"archive", "min_score", "cursor"},
                ),
            ),
        )
        return _listed(served)

    return JSONResponse(await service.encoders.run(work), 201)


@router.get("/v1/watches/export", responses=json_of(WatchesFile))
async def export_saved_searches(service: Shared, served: Shown) -> Response:
    """Download the saved searches of an archive with the embeddings of their queries."""
    made = await service.searches.run(lambda: export_watches(served.archive))
    return JSONResponse(made, headers=download_as("landcue-searches.json"))


@router.post(
    "/v1/watches/import",
    status_code=201,
    responses=json_of(WatchesImportAnswer, 201),
    openapi_extra=json_body(WatchesFile),
)
async def import_saved_searches(request: Request, service: Shared, served: Shown) -> Response:
    """Save exported searches, of an archive with the same model; taken names get a number."""
    text = await read_text(request)

    def work() -> dict[str, Any]:
        watches = parse_json(WatchesFile, text).watches
        problems = [capitalized(line) for line in import_watches(served.archive, watches)]
        imported = len(watches) - len(problems)
        return {"archive": served.name, "imported": imported, "problems": problems}

    return JSONResponse(await service.encoders.run(work), 201)


@router.get("/v1/watches/feed", responses=file_of(_ATOM), response_class=Response)
async def get_watch_feed(
    request: Request,
    service: Shared,
    key: Annotated[str, Query(max_length=100, description="As `create_watch_feed` returned it.")],
    archive: ArchiveName = None,
) -> Response:
    """Return the latest hits of a saved search as an Atom feed; no token is needed."""

    def work() -> Response:
        # Without the key, a client that has no token learns nothing of the archives.
        known = archive is None or archive in service.catalog.names
        served = service.catalog.get(archive) if known else None
        found = None if served is None else served.archive.watches.feed(key, _MOST_ENTRIES)
        if served is None or found is None:
            raise ProblemError(404, "no saved search has this feed: create its address again")
        request.state.version = served.archive.version
        name, hits = found
        feed = write_feed(hits, f"LandCue: {served.name}: {name}")
        return Response(feed, media_type=_ATOM)

    return await service.searches.run(work)


# A name may hold slashes.
@router.post("/v1/watches/{name:path}/feed", status_code=201, responses=json_of(FeedAnswer, 201))
async def create_watch_feed(name: str, service: Shared, served: Shown) -> Response:
    """Create an address at which a feed reader finds the hits of a saved search without a token.

    The former address becomes invalid, as it does when the saved search is removed.
    """

    def work() -> dict[str, Any]:
        watches = served.archive.watches
        if name not in {one.name for one in watches.list()}:
            raise ProblemError(404, f"there is no saved search {name!r}")
        query = urlencode({"archive": served.name, "key": watches.new_feed(name)})
        return {"archive": served.name, "name": name, "path": f"v1/watches/feed?{query}"}

    return JSONResponse(await service.searches.run(work), 201)


@router.delete("/v1/watches/{name:path}", responses=json_of(WatchesAnswer))
async def remove_watch(name: str, service: Shared, served: Shown) -> Response:
    """Remove a saved search and its hits; the answer holds those that are left."""

    def work() -> dict[str, Any]:
        watches = served.archive.watches
        if name not in {one.name for one in watches.list()}:
            raise ProblemError(404, f"there is no saved search {name!r}")
        watches.remove(name)
        return _listed(served)

    return JSONResponse(await service.searches.run(work))


@router.get("/v1/watches/hits", responses=json_of(WatchHitsAnswer, files=_FILES))
async def get_watch_hits(
    service: Shared,
    served: Shown,
    after: Annotated[
        int, Query(ge=0, le=1 << 53, description="Hits with a larger number only.")
    ] = 0,
    most: Annotated[int, Query(ge=1, le=10_000, description="Up to so many.")] = 1_000,
    format: Annotated[
        Literal["json", "jsonl", "atom"], Query(description="Format of the answer.")
    ] = "json",
) -> Response:
    """Return the hits of saved searches: as JSON, JSON lines, or as an Atom feed of the latest."""

    def work() -> Response:
        hits = served.archive.watches.hits(after, most, latest=format == "atom")
        if format == "atom":
            feed = write_feed(hits, f"LandCue: {served.name}")
            return Response(feed, media_type=_ATOM)
        if format == "jsonl":
            return Response(write_json_lines(hits), media_type="application/x-ndjson")
        return JSONResponse({"archive": served.name, "hits": [asdict(one) for one in hits]})

    return await service.searches.run(work)


def _listed(served: Served, collection: str | None = None) -> dict[str, Any]:
    values = [asdict(one) for one in served.archive.watches.list(collection)]
    for value in values:
        del value["model"]
    return {"archive": served.name, "watches": values}


async def evaluate_watches(service: Service, changed: asyncio.Queue[Served]) -> None:
    """Evaluate the saved searches of archives that changed, one after another, until cancelled.

    A run that fails is repeated. Of several processes, each hit is stored by one.
    """
    while True:
        served = await changed.get()
        try:
            report = await asyncio.to_thread(_evaluated, served)
        except UsageError as error:  # a later version was evaluated by another process
            _log.info("saved searches", extra={"facts": {"note": str(error)}})
        except LandcueError as error:
            facts = {"archive": served.name, "error": str(error)}
            _log.warning("saved searches were not evaluated", extra={"facts": facts})
            await asyncio.sleep(_RETRY_SECONDS)
            changed.put_nowait(service.catalog.get(served.name))
        else:
            for problem in report.problems:
                facts = {"archive": served.name, "error": str(problem)}
                _log.warning("a saved search was not evaluated", extra={"facts": facts})


def _evaluated(served: Served) -> WatchReport:
    archive = served.archive
    if not archive.local or is_object(archive.folder):
        return WatchReport((), ())
    return archive.watches.run()
