"""Errors as problem details (RFC 9457): one line, no local paths, no stack traces."""

from __future__ import annotations

import http
import logging
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from landcue.errors import (
    ArchiveError,
    CollectionError,
    DataError,
    EmptyArchiveError,
    LandcueError,
    ModelError,
    UsageError,
    did_you_mean,
    refusal,
)
from landcue.interval import NOT_AFTER
from landcue.search.dates import DATES
from landcue.server.schemas.changes import ChangeRequest

MEDIA_TYPE = "application/problem+json"

_LOGGED = "its operator finds the reason logged"
STATUS: dict[type[LandcueError], tuple[int, str | None]] = {
    UsageError: (400, None),
    DataError: (400, None),
    ModelError: (503, f"the archive's model cannot be used now; {_LOGGED}"),
    EmptyArchiveError: (409, "the archive holds no records: index images into it first"),
    ArchiveError: (503, f"the archive cannot be read now; {_LOGGED}"),
    LandcueError: (503, f"the service cannot answer this now; {_LOGGED}"),
}
"""Status by type of error, and the client's message if only the operator can fix it."""

_LONGEST = 500
# An object's address, or an absolute path of two names or more; a slash after a word, a dot or
# another slash is no start.
_PATH = re.compile(
    r"\bs3:/[^\s'\",;()]*[^\s'\",;():.]|(?<![\w.:/~-])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:'\",;()]+){2,}[/\\]?"
)
_WORD = re.compile(r"(?:a|[a-z]{2,})(?=[ ,;]|$)")
"""A plain word at the start of a message; names there stand in quotes or before a colon."""
_log = logging.getLogger("landcue.server")


class ProblemError(HTTPException):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


class InvalidError(Exception):
    """JSON that does not fit the schema."""

    def __init__(self, error: ValidationError, model: type[BaseModel]) -> None:
        super().__init__("the request does not fit the schema")
        self.model = model
        self.errors = partial(error.errors, include_url=False, include_input=False)


def problem(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Iterable[Mapping[str, Any]] = (),
) -> JSONResponse:
    """Return a problem as an answer."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": capitalized(one_line(detail)),
    }
    listed = list(errors)
    if listed:
        body["errors"] = listed
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def one_line(text: str) -> str:
    """Return text without line breaks, control characters and absolute paths, and not too long."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return without_paths(flat)[:_LONGEST]


def capitalized(text: str) -> str:
    """Return a message as the service writes it: with a capital letter, unless a name stands first.

    >>> capitalized("no archive is called 'x'"), capitalized("bbox: use four numbers")
    ("No archive is called 'x'", 'bbox: use four numbers')
    """
    return text[:1].upper() + text[1:] if _WORD.match(text) else text


def without_paths(text: str, known: Iterable[str] = ()) -> str:
    """Replace paths: those ``known`` that name a folder, then everything that looks like one.

    A relative path of one part, of an archive in the current folder, is its public name or a dot.
    """
    for path in sorted(known, key=len, reverse=True):
        if "/" in path or "\\" in path:
            text = text.replace(path, "…")
    return _PATH.sub("…", text)


def add_error_handlers(app: FastAPI, hidden: Callable[[], Iterable[str]]) -> None:
    """Answer every error with a problem, without the paths that ``hidden`` returns."""

    async def answer_http(request: Request, error: Any) -> Response:
        detail = without_paths(str(error.detail), hidden())
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = _allowed(request)
        return problem(error.status_code, detail, headers=headers)

    async def answer_landcue(request: Request, error: Any) -> Response:
        if isinstance(error, CollectionError):
            return problem(error.status, without_paths(str(error), hidden()))
        status, detail = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        if status >= 500:
            facts = {"request_id": request.state.request_id, "error": str(error)}
            _log.error("archive or model failed", extra={"facts": facts})
        return problem(status, without_paths(detail or str(error), hidden()))

    async def answer_schema(request: Request, error: Any) -> Response:
        faults: list[Any] = list(error.errors())
        errors = [
            {
                "at": ".".join(str(step) for step in one["loc"])[:200],
                "what": _what(one, getattr(error, "model", None)),
            }
            for one in faults[:20]
        ]
        first = "the request does not fit the schema"
        if errors:
            at, first = errors[0]["at"], errors[0]["what"]
            if at and repr(at) not in first:  # as an unknown field is named
                first = f"{at}: {first}"
        # A value can match the schema and still be invalid, such as a box with north < south.
        fits = bool(faults) and all(one["type"] == "value_error" for one in faults)
        return problem(400 if fits else 422, first, errors=errors)

    app.add_exception_handler(HTTPException, answer_http)
    app.add_exception_handler(LandcueError, answer_landcue)
    app.add_exception_handler(RequestValidationError, answer_schema)
    app.add_exception_handler(InvalidError, answer_schema)


def _what(fault: Mapping[str, Any], model: Any) -> str:
    """Return why a value was refused; for an unknown field, the near matches."""
    if fault["type"] == "missing" and model is ChangeRequest:
        return f"a date is missing: {DATES}"
    if fault["type"] != "extra_forbidden":
        return refusal(str(fault["msg"]))[:200]
    *outer, name = map(str, fault["loc"])
    if name in ("after", "before"):
        return NOT_AFTER
    for step in outer:
        if step in getattr(model, "model_fields", ()):
            model = _model_of(model.model_fields[step].annotation)
    known = getattr(model, "model_fields", ())
    return f"unknown field {name[:60]!r}{did_you_mean(name, known)}"[:200]


def _model_of(annotation: Any) -> Any:
    """Return the model among the parts of a type, such as ``list[Model] | None``."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_model_of, typing.get_args(annotation))), None)


def _allowed(request: Request) -> str:
    """Return the methods that the routes of a path answer; the router names those of one."""
    allowed: set[str] = set()
    for route in request.app.routes:
        for method in getattr(route, "methods", None) or ():
            match, _ = route.matches({**request.scope, "method": method})
            if match is Match.FULL:
                allowed.add(method)
    if "GET" in allowed:
        allowed.add("HEAD")  # which is answered as GET
    return ", ".join(sorted(allowed))
