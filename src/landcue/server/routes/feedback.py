"""What people think of hits."""

from __future__ import annotations

import functools

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from landcue.server.routes.answers import json_of
from landcue.server.schemas import FeedbackAnswer, FeedbackRequest
from landcue.server.service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the path."""
    catalog = service.catalog

    async def feedback(given: FeedbackRequest, request: Request) -> Response:
        """Keep what somebody thinks of hits."""
        served = catalog.get(given.archive)
        id_: str = request.state.request_id
        await service.searches.run(functools.partial(service.feedback.keep, served, given, id_))
        return JSONResponse({"kept": True}, 201)

    app.post("/v1/feedback", status_code=201, responses=json_of(FeedbackAnswer, 201))(feedback)
