"""Routes of collections of marked records."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from landcue.data.marks import Marks
from landcue.server import export
from landcue.server.archives import Served
from landcue.server.collections import label_table
from landcue.server.errors import capitalized
from landcue.server.queries import (
    encode_images,
    parse_json,
    read_json,
    read_parts,
    read_text,
    to_filter,
    with_space,
)
from landcue.server.routes.base import (
    IMAGE_HEADERS,
    JPEG,
    Service,
    Shared,
    Shown,
    choose,
    download_as,
    file_of,
    json_body,
    json_of,
    search_body,
)
from landcue.server.schemas.collections import (
    CollectionAnswer,
    CollectionChange,
    CollectionFile,
    CollectionRequest,
    CollectionsAnswer,
    ImportAnswer,
    SuggestRequest,
)
from landcue.server.schemas.searches import SearchAnswer
from landcue.server.transfer import export_collection, import_collection

router = APIRouter(generate_unique_id_function=lambda route: route.name)


@router.get("/v1/collections", responses=json_of(CollectionsAnswer))
async def list_collections(service: Shared, served: Shown) -> Response:
    """Return the collections of an archive, the last changed first."""
    found = await service.searches.run(lambda: service.collections.list(served.name))
    return JSONResponse({"archive": served.name, "collections": found})


@router.post(
    "/v1/collections",
    status_code=201,
    responses=json_of(CollectionAnswer, 201),
    openapi_extra=search_body(CollectionRequest),
)
async def create_collection(request: Request, service: Shared) -> Response:
    """Create a named collection of marked records.

    Images of its query are kept as embeddings and thumbnails: a search with `images_of` uses them.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        service.encoders.check()
    given, images = await read_parts(request, service.settings.limits, CollectionRequest)
    served = choose(request, given.archive)

    def work() -> Response:
        query, members = _checked(served, given)
        crop = None if given.query is None else given.query.crop
        kept = encode_images(served, images, crop, service.decoders)
        made = service.collections.create(served.name, given.name, query, members, given.who, kept)
        return JSONResponse(made, 201)

    return await (service.encoders if any(images.values()) else service.searches).run(work)


@router.post(
    "/v1/collections/import",
    status_code=201,
    responses=json_of(ImportAnswer, 201),
    openapi_extra=json_body(CollectionFile),
)
async def import_exported_collection(request: Request, service: Shared, served: Shown) -> Response:
    """Create a collection from an exported one, with its query's images and saved searches.

    What cannot be used here is left out and named in `problems`: records that the archive does not
    have, images and saved searches of another model.
    """
    service.encoders.check()
    text = await read_text(request)

    def thumbnail(data: bytes) -> bytes:
        return service.decoders.thumbnail(data, None, {})

    def work() -> dict[str, Any]:
        given = parse_json(CollectionFile, text)
        made, problems = import_collection(
            service.collections, served.archive, served.name, given, thumbnail
        )
        return {"collection": made, "problems": [capitalized(line) for line in problems]}

    return JSONResponse(await service.encoders.run(work), 201)


@router.get("/v1/collections/{id}/export", responses=json_of(CollectionFile))
async def export_whole_collection(id: str, service: Shared) -> Response:
    """Download a collection with its members, its query's images and its saved searches."""

    def work() -> Response:
        name = service.collections.get(id)["archive"]
        archive = service.catalog.get(name).archive if name in service.catalog.names else None
        made = export_collection(service.collections, id, archive)
        return JSONResponse(made, headers=download_as("landcue-collection.json"))

    return await service.searches.run(work)


@router.get("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def get_collection(id: str, service: Shared) -> Response:
    """Return a collection with its members."""
    return await service.searches.run(lambda: JSONResponse(service.collections.get(id)))


@router.get("/v1/collections/{id}/images/{n}", responses=JPEG, response_class=Response)
async def get_collection_image(
    id: str, n: Annotated[int, Path(ge=0, le=100)], service: Shared
) -> Response:
    """Return the thumbnail of a kept image, by its position in `images`."""
    data = await service.searches.run(lambda: service.collections.thumbnail(id, n))
    return Response(data, 200, IMAGE_HEADERS, "image/jpeg")


@router.post(
    "/v1/collections/{id}",
    responses=json_of(CollectionAnswer),
    openapi_extra=json_body(CollectionChange),
)
async def change_collection(id: str, request: Request, service: Shared) -> Response:
    """Rename a collection, mark, label or remove members, or add those of another one.

    A member with a `revision`, or an `old_name`, that is no longer the current one is a conflict
    (409), and nothing is changed.
    """
    given = await read_json(request, CollectionChange)

    def work() -> Response:
        served = service.catalog.get(service.collections.get(id)["archive"])
        query, members = _checked(served, given)
        kept = service.collections
        known = (given.name, query, members, given.who, given.merge, given.old_name)
        return JSONResponse(kept.change(id, *known))

    return await service.searches.run(work)


@router.post("/v1/collections/{id}/undo", responses=json_of(CollectionAnswer))
async def undo_collection(
    id: str,
    service: Shared,
    revision: Annotated[
        int | None,
        Query(ge=1, description="The collection's `revision` when it was read; others: 409."),
    ] = None,
) -> Response:
    """Undo the last change of a collection's members."""
    return await service.searches.run(lambda: JSONResponse(service.collections.undo(id, revision)))


@router.delete("/v1/collections/{id}", responses=json_of(CollectionAnswer))
async def delete_collection(id: str, service: Shared) -> Response:
    """Delete a collection; the answer holds it as it was."""
    return await service.searches.run(lambda: JSONResponse(service.collections.delete(id)))


@router.get(
    "/v1/collections/{id}/labels",
    responses=file_of("text/csv"),
    response_class=Response,
)
async def export_collection_labels(id: str, service: Shared) -> Response:
    """Download the labels of a collection as a table that `landcue index --labels` reads."""
    data = await service.searches.run(lambda: label_table(service.collections.get(id)))
    return Response(data, 200, download_as("landcue-labels.csv"), "text/csv; charset=utf-8")


@router.post(
    "/v1/suggest", responses=json_of(SearchAnswer), openapi_extra=json_body(SuggestRequest)
)
async def suggest_records(request: Request, service: Shared) -> Response:
    """Suggest the records to mark next: uncertain by the marks so far, and unlike each other."""
    given = await read_json(request, SuggestRequest)
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
    kept = service.collections.of(given.collection, served.name)
    members = [(one["id"], one["mark"], one["labels"]) for one in kept["members"]]
    marks = Marks.of(kept["name"], members)
    marks.relevant.update(relevant)
    return marks


def _checked(
    served: Served, given: CollectionRequest | CollectionChange
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    for member in given.members:
        served.check_id(member.id)
    query = None
    if given.query is not None:
        query = given.query.model_dump(mode="json", exclude_unset=True, exclude={"crop", "cursor"})
        query = with_space(served.archive, query)
    return query, [member.model_dump() for member in given.members]
