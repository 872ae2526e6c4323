"""Searching, and results as files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from starlette.responses import Response

from landcue.serve import export
from landcue.serve.routes.answers import PROBLEMS, REF, json_of
from landcue.serve.schemas import SearchAnswer, SearchRequest
from landcue.serve.service import Service
from landcue.serve.uploads import PARTS, Body, parse_search, read_body

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
        request: Annotated[str, Query(max_length=8_192, description="A search, as JSON.")],
        format: ResultFormat = "geojson",
    ) -> Response:
        """Return the result of a search as a file."""
        return await service.search(Body(parse_search(request), {}), format)

    app.post("/v1/search", responses=json_of(SearchAnswer), openapi_extra=search_body())(search)
    app.get("/v1/export", responses=PROBLEMS)(result)


def search_body() -> dict[str, Any]:
    """Describe the body of a search, which is read by hand."""
    ref = {"$ref": REF.format(model=SearchRequest.__name__)}
    file = {"type": "string", "format": "binary"}
    form: dict[str, Any] = {"type": "object", "properties": {"request": ref}}
    form["properties"] |= {
        name: file if name == "image" else {"type": "array", "items": file} for name in PARTS
    }
    content = {"application/json": {"schema": ref}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}
