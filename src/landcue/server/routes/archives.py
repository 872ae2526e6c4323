"""Archives as wholes: what they are, and their labels."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from landcue.server.routes.answers import ArchiveName, json_of
from landcue.server.schemas import ArchiveAnswer, FacetsAnswer, LabelsAnswer
from landcue.server.service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the paths."""
    catalog = service.catalog

    async def labels(archive: ArchiveName = None) -> Response:
        """Return the labels of an archive, with counts."""
        served = catalog.get(archive)
        found = await service.searches.run(lambda: served.labels)
        return JSONResponse({"archive": served.name, "labels": found})

    async def about(archive: ArchiveName = None) -> Response:
        """Return what an archive is, its model's card and scores, and all archives' names."""
        served = catalog.get(archive)
        facts = await service.searches.run(served.about)
        settings = service.settings
        tiles = {"basemap": settings.basemap, "basemap_credit": settings.basemap_credit}
        return JSONResponse({**facts, "archives": catalog.names, **tiles})

    async def facets(archive: ArchiveName = None) -> Response:
        """Return what the records of an archive can be filtered by, and some ids to begin with."""
        served = catalog.get(archive)
        found = await service.searches.run(lambda: served.facets)
        return JSONResponse({**found, "modes": served.searcher.modes})

    app.get("/v1/facets", responses=json_of(FacetsAnswer))(facets)
    app.get("/v1/labels", responses=json_of(LabelsAnswer))(labels)
    app.get("/v1/archive", responses=json_of(ArchiveAnswer))(about)
