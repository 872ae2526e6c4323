"""How the application answers what goes wrong in a route."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from landcue.errors import LandcueError
from landcue.server.problems import of_landcue, problem, without_paths
from landcue.server.uploads import InvalidError

_log = logging.getLogger("landcue.server")


def add_errors(app: FastAPI, hidden: Sequence[str]) -> None:
    """Answer every error with a problem, without the paths ``hidden``."""

    async def of_http(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        detail = without_paths(str(error.detail), hidden)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(request)
        return problem(error.status_code, detail, headers=headers)

    async def of_ours(request: Request, error: Exception) -> Response:
        if not isinstance(error, LandcueError):
            raise error
        status, detail = of_landcue(error)
        if status >= 500:
            facts = {"request_id": request.state.request_id, "error": str(error)}
            _log.error("archive or model failed", extra={"facts": facts})
        return problem(status, without_paths(detail, hidden))

    async def of_schema(_: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError | InvalidError):
            raise error
        found: list[Any] = list(error.errors() if callable(error.errors) else error.errors)
        errors = [
            {"at": ".".join(str(step) for step in one["loc"])[:200], "what": _said(one)}
            for one in found[:20]
        ]
        first = f"{errors[0]['at'] or 'the request'}: {errors[0]['what']}" if errors else "bad"
        # It may fit the schema and be impossible still, as a box whose north lies in its south.
        fits = bool(found) and all(one["type"] == "value_error" for one in found)
        return problem(400 if fits else 422, first, errors=errors)

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(LandcueError, of_ours)
    app.add_exception_handler(RequestValidationError, of_schema)
    app.add_exception_handler(InvalidError, of_schema)


def _said(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")[:200]


def _allowed(request: Request) -> str:
    """Return the methods that the routes of a path answer; the router names those of one."""
    found: set[str] = set()
    for route in request.app.routes:
        for method in getattr(route, "methods", None) or ():
            match, _ = route.matches({**request.scope, "method": method})
            if match is Match.FULL:
                found.add(method)
    return ", ".join(sorted(found))
