"""Searching, and results as files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from landcue.server import export
from landcue.server.routes.answers import REF, json_of
from landcue.server.routes.lean import LeanRoute
from landcue.server.schemas import SearchAnswer, SearchRequest
from landcue.server.service import Service
from landcue.server.settings import Limits
from landcue.server.uploads import PARTS, Body, parse_search, read_body

_FILES: dict[str, Any] = {
    export.MEDIA_TYPES[kind].partition(";")[0]: {"schema": {"type": shown, "format": written}}
    for kind, shown, written in (
        ("geojson", "object", "geojson"),
        ("csv", "string", "csv"),
        ("geoparquet", "string", "binary"),
    )
}
ResultFormat = Annotated[export.Format, Query(description="Of the answer.")]


def add(app: FastAPI, service: Service) -> None:
    """Add the paths."""

    async def search(request: Request, format: ResultFormat = "json") -> Response:
        """Search by record, by images, by several of them for and against, or by filters alone.

        Images come as a form, with the JSON in its part `request`.
        """
        body = await read_body(request, service.settings.limits)
        return await service.search(body, format)

    async def result(
        request: Annotated[str, Query(max_length=8_192, include_in_schema=False)],
        format: ResultFormat = "geojson",
    ) -> Response:
        """Return the result of a search as a file."""
        return await service.search(Body(parse_search(request), {}), format)

    answers = json_of(SearchAnswer)
    answers[200]["content"] = _FILES
    extra, methods = search_body(), ["POST"]
    lean = LeanRoute("/v1/search", search, methods=methods, responses=answers, openapi_extra=extra)
    app.router.routes.append(lean)
    app.get("/v1/export", responses=answers, openapi_extra=_search_query())(result)


def _search_query() -> dict[str, Any]:
    """Describe a search in the query of an address."""
    ref = {"$ref": REF.format(model=SearchRequest.__name__)}
    return {
        "parameters": [
            {
                "name": "request",
                "in": "query",
                "required": True,
                "description": "A search, as JSON.",
                "content": {"application/json": {"schema": ref}},
            }
        ]
    }


def search_body() -> dict[str, Any]:
    """Describe the body of a search, which is read by hand."""
    ref = {"$ref": REF.format(model=SearchRequest.__name__)}
    file = {"type": "string", "format": "binary"}
    form: dict[str, Any] = {"type": "object", "properties": {"request": ref}}
    files = {"type": "array", "items": file, "maxItems": Limits().images}
    form["properties"] |= {name: file if name == "image" else files for name in PARTS}
    form["additionalProperties"] = False
    content = {"application/json": {"schema": ref}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}
