"""Errors as problem details (RFC 9457): one line, no paths of this machine, no traces."""

from __future__ import annotations

import http
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from landcue.errors import ArchiveError, DataError, LandcueError, ModelError, UsageError

MEDIA_TYPE = "application/problem+json"

_LONGEST = 500
# An object's address, or an absolute path of two names or more; a slash after a word, a dot or
# another slash is no start.
_PATH = re.compile(
    r"\bs3:/[^\s'\",;()]*[^\s'\",;():.]|(?<![\w.:/~-])(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\:'\",;()]+){2,}[/\\]?"
)


class ProblemError(HTTPException):
    """A request that is answered with a problem."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, dict(headers or {}))


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
        "detail": one_line(detail),
    }
    listed = list(errors)
    if listed:
        body["errors"] = listed
    return JSONResponse(body, status, dict(headers or {}), MEDIA_TYPE)


def of_landcue(error: LandcueError) -> tuple[int, str]:
    """Return the status and the detail for an error of ours.

    What the caller gave is explained; of what only the operator can mend no more is told than
    that it is so: the log has the rest.
    """
    if isinstance(error, UsageError | DataError):
        return 400, str(error)
    if isinstance(error, ModelError):
        return 503, "the archive's model cannot be used now; its operator finds the reason logged"
    if isinstance(error, ArchiveError):
        return 503, "the archive cannot be read now; its operator finds the reason logged"
    return 503, "the service cannot answer this now; its operator finds the reason logged"


def one_line(text: str) -> str:
    """Return text without line breaks, control characters and absolute paths, and not too long."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return without_paths(flat)[:_LONGEST]


def without_paths(text: str, known: Iterable[str] = ()) -> str:
    """Replace absolute paths: those ``known``, then whatever looks like one."""
    for path in sorted(filter(None, known), key=len, reverse=True):
        text = text.replace(path, "…")
    return _PATH.sub("…", text)
