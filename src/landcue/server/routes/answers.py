"""What routes say about their answers, for the OpenAPI description."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query

from landcue.server.problems import MEDIA_TYPE

REF = "#/components/schemas/{model}"

ArchiveName = Annotated[str | None, Query(max_length=200, description="By default the first.")]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "The request cannot be answered.", "content": {MEDIA_TYPE: {}}},
    "5XX": {"description": "The service cannot answer now.", "content": {MEDIA_TYPE: {}}},
}
for _one in PROBLEMS.values():
    _one["content"][MEDIA_TYPE] = {"schema": {"$ref": REF.format(model="Problem")}}

JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}},
    **PROBLEMS,
}


def json_of(model: Any, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """Describe an answer of one model, or a problem."""
    return {status: {"model": model}, **PROBLEMS}
