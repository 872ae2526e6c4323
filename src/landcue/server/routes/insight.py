"""What a model is, how good it is, what it sees, and why a record was found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import JSONResponse, Response

from landcue.server.insight import Insight
from landcue.server.insight_schemas import MapAnswer, ModelAnswer, OwnScoresAnswer, RegionsAnswer
from landcue.server.regions import similar_regions
from landcue.server.routes.answers import ArchiveName, json_of
from landcue.server.routes.search import search_body
from landcue.server.schemas import SearchRequest
from landcue.server.service import Service
from landcue.server.uploads import Body, read_body

QueryId = Annotated[str, Query(min_length=1, max_length=1_024, description="Of the query.")]


def add(app: FastAPI, service: Service) -> None:
    """Add the paths."""
    catalog = service.catalog
    insights = {served.name: Insight(served) for served in catalog}

    async def told(archive: str | None, what: Callable[[Insight], dict[str, Any]]) -> Response:
        insight = insights[catalog.get(archive).name]
        return JSONResponse(await service.insights.run(functools.partial(what, insight)))

    async def model(archive: ArchiveName = None) -> Response:
        """Return how an archive's model is built and was made, and its maker's scores."""
        return await told(archive, Insight.model)

    async def scores(archive: ArchiveName = None) -> Response:
        """Measure how well annotated records find each other; kept after the first time."""
        return await told(archive, Insight.scores)

    async def embedding_map(archive: ArchiveName = None) -> Response:
        """Return a sample of the records, laid out by two principal components."""
        return await told(archive, Insight.map)

    async def compared(id_: str, body: Body) -> Response:
        served = catalog.get(body.search.archive)
        work = functools.partial(similar_regions, served, id_, body, service.decoders)
        return JSONResponse(await service.encoders.run(work))

    async def regions(id: str, query: QueryId, archive: ArchiveName = None) -> Response:
        """Return where a record and another one, the query, are alike."""
        asked = SearchRequest.model_validate({"archive": archive, "id": query})
        return await compared(id, Body(asked, {}))

    async def regions_of_search(id: str, request: Request) -> Response:
        """Return where a record and the query of a search are alike; the body is the search's."""
        return await compared(id, await read_body(request, service.settings.limits))

    app.get("/v1/model", responses=json_of(ModelAnswer))(model)
    app.get("/v1/model/scores", responses=json_of(OwnScoresAnswer))(scores)
    app.get("/v1/model/map", responses=json_of(MapAnswer))(embedding_map)
    path, answers = "/v1/records/{id:path}/regions", json_of(RegionsAnswer)
    app.get(path, responses=answers)(regions)
    app.post(path, responses=answers, openapi_extra=search_body())(regions_of_search)
