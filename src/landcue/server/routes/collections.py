"""Routes of collections of marked records, and of feedback."""

from __future__ import annotations

import functools
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from landcue.data.marks import Marks
from landcue.server import export
from landcue.server.archives import Served
from landcue.server.collections import label_table
from landcue.server.errors import ProblemError
from landcue.server.queries import to_filter
from landcue.server.routes.base import PROBLEMS, Service, Shared, Shown, choose, json_of
from landcue.server.schemas.collections import (
    CollectionAnswer,
    CollectionChange,
    CollectionRequest,
    CollectionsAnswer,
    FeedbackAnswer,
    FeedbackRequest,
    SuggestRequest,
)
from landcue.server.schemas.searches import SearchAnswer

router = APIRouter(generate_unique_id_function=lambda route: route.name)


@router.post("/v1/feedback", status_code=201, responses=json_of(FeedbackAnswer, 201))
async def send_feedback(given: FeedbackRequest, request: Request, service: Shared) -> Response:
    """Store a user's relevance judgments of hits."""
    served = choose(request, given.archive)
    id_: str = request.state.request_id
    await service.searches.run(functools.partial(service.feedback.keep, served, given, id_))
    return JSONResponse({"kept": True}, 201)


@router.get("/v1/collections", responses=json_of(CollectionsAnswer))
async def list_collections(service: Shared, served: Shown) -> Response:
    """Return the collections of an archive, the last changed first."""
    found = await service.searches.run(lambda: service.collections.list(served.name))
    return JSONResponse({"archive": served.name, "collections": found})


@router.post("/v1/collections", status_code=201, responses=json_of(CollectionAnswer, 201))
async def create_collection(
    given: CollectionRequest, request: Request, service: Shared
) -> Response:
    """Create a named collection of marked records."""
    served = choose(request, given.archive)

    def work() -> dict[str, Any]:
        query, members = _checked(served, given)
        return service.collections.create(served.name, given.name, query, members, given.who)

    return JSONResponse(await service.searches.run(work), 201)


@router.get("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def get_collection(id: str, service: Shared) -> Response:
    """Return a collection with its members."""
    return JSONResponse(await service.searches.run(lambda: service.collections.get(id)))


@router.post("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def change_collection(id: str, given: CollectionChange, service: Shared) -> Response:
    """Rename a collection, mark, label or remove members, or add those of another one."""

    def work() -> dict[str, Any]:
        served = service.catalog.get(service.collections.get(id)["archive"])
        query, members = _checked(served, given)
        kept = service.collections
        return kept.change(id, given.name, query, members, given.who, given.merge)

    return JSONResponse(await service.searches.run(work))


@router.post("/v1/collections/{id}/undo", responses=json_of(CollectionAnswer))
async def undo_collection(id: str, service: Shared) -> Response:
    """Undo the last change of a collection's members."""
    return JSONResponse(await service.searches.run(lambda: service.collections.undo(id)))


@router.delete("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def delete_collection(id: str, service: Shared) -> Response:
    """Delete a collection; the answer holds it as it was."""
    return JSONResponse(await service.searches.run(lambda: service.collections.delete(id)))


@router.get(
    "/v1/collections/{id}/labels",
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}, **PROBLEMS},
    response_class=Response,
)
async def export_collection_labels(id: str, service: Shared) -> Response:
    """Download the labels of a collection as a table that `landcue index --labels` reads."""
    data = await service.searches.run(lambda: label_table(service.collections.get(id)))
    headers = {"Content-Disposition": 'attachment; filename="landcue-labels.csv"'}
    return Response(data, 200, headers, "text/csv; charset=utf-8")


@router.post("/v1/suggest", responses=json_of(SearchAnswer))
async def suggest_records(given: SuggestRequest, request: Request, service: Shared) -> Response:
    """Suggest the records to mark next: uncertain by the marks so far, and unlike each other."""
    served = choose(request, given.archive)

    def work() -> bytes:
        where = to_filter(given.filters)
        found = served.archive.suggest(
            _marks(service, served, given), given.k,
            label=given.label, where=where, apart=given.apart, seed=given.seed,
        )  # fmt: skip
        return export.to_json(served, found)

    return Response(await service.insights.run(work), media_type="application/json")


def _marks(service: Service, served: Served, given: SuggestRequest) -> Marks | None:
    relevant = dict.fromkeys(given.positives, True) | dict.fromkeys(given.negatives, False)
    for id_ in relevant:
        served.check_id(id_)
    if given.collection is None:
        return Marks("marks", relevant) if relevant or given.label is None else None
    kept = service.collections.get(given.collection)
    if kept["archive"] != served.name:
        raise ProblemError(409, "the collection is of another archive")
    members = [(one["id"], one["mark"], one["labels"]) for one in kept["members"]]
    marks = Marks.of(kept["name"], members)
    marks.relevant.update(relevant)
    return marks


def _checked(
    served: Served, given: CollectionRequest | CollectionChange
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    for member in given.members:
        served.check_id(member.id)
    query = None if given.query is None else given.query.model_dump(mode="json")
    return query, [member.model_dump() for member in given.members]
