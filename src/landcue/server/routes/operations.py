"""What operators ask: alive, ready, counters."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from landcue.server.problems import problem
from landcue.server.routes.answers import PROBLEMS
from landcue.server.service import Service


def add(app: FastAPI, service: Service) -> None:
    """Add the paths."""

    async def healthz() -> Response:
        """Tell that the process answers."""
        return PlainTextResponse("ok\n")

    async def readyz() -> Response:
        """Tell whether models and vectors are loaded, in all processes if there are several."""
        if not service.all_ready:
            return problem(503, "models are being loaded", headers={"Retry-After": "2"})
        return PlainTextResponse("ready\n")

    async def metrics() -> Response:
        """Return counters as Prometheus reads them."""
        return PlainTextResponse(service.told(), media_type="text/plain; version=0.0.4")

    app.get("/healthz", response_class=PlainTextResponse)(healthz)
    app.get("/readyz", response_class=PlainTextResponse, responses=PROBLEMS)(readyz)
    app.get("/metrics", response_class=PlainTextResponse, responses=PROBLEMS)(metrics)
