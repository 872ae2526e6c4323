"""Single records: what is known of them, and their pixels."""

from __future__ import annotations

import functools
from typing import Annotated

from fastapi import FastAPI, Query
from starlette.responses import JSONResponse, Response

from landcue.server.routes.answers import JPEG, ArchiveName, json_of
from landcue.server.schemas import RecordAnswer
from landcue.server.service import Service

_IMAGE_HEADERS = {"Cache-Control": "private, max-age=300"}


def add(app: FastAPI, service: Service) -> None:
    """Add the paths."""
    catalog = service.catalog

    async def chip(
        id: str,
        archive: ArchiveName = None,
        side: Annotated[int, Query(ge=16, le=2_048)] = 512,
    ) -> Response:
        """Return the pixels of a record as a JPEG whose longer side is at most `side`."""
        served = catalog.get(archive)
        work = functools.partial(served.chip, id, service.decoders, side)
        return Response(await service.encoders.run(work), 200, _IMAGE_HEADERS, "image/jpeg")

    async def thumbnail(id: str, archive: ArchiveName = None) -> Response:
        """Return the thumbnail of a record."""
        served = catalog.get(archive)
        data = await service.searches.run(functools.partial(served.thumbnail, id))
        return Response(data, 200, _IMAGE_HEADERS, "image/jpeg")

    async def record(id: str, archive: ArchiveName = None) -> Response:
        """Return what is known of a record."""
        served = catalog.get(archive)
        return JSONResponse(await service.searches.run(functools.partial(served.record, id)))

    # An id may hold slashes, so what follows it is matched before the id alone.
    app.get("/v1/records/{id:path}/thumbnail", responses=JPEG, response_class=Response)(thumbnail)
    app.get("/v1/records/{id:path}/chip", responses=JPEG, response_class=Response)(chip)
    app.get("/v1/records/{id:path}", responses=json_of(RecordAnswer))(record)
