"""The web page, which holds no data: its calls of the API need the token, not its files."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from landcue.server.page import INDEX, NOT_BUILT, PageFile, content_policy
from landcue.server.problems import ProblemError
from landcue.server.service import Service

_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


def add(app: FastAPI, service: Service) -> None:
    """Add the paths."""
    page = service.page
    policy = content_policy(service.settings.basemap)

    async def file(request: Request) -> Response:
        found = page.get(request.scope["path"])
        if found is None:
            raise ProblemError(404, "the page has no such file")
        return _answer(request, found, policy)

    async def missing() -> Response:
        return PlainTextResponse(NOT_BUILT, 404)

    if not page.built:
        app.add_api_route(INDEX, missing, methods=["GET", "HEAD"], include_in_schema=False)
        return
    # Hashed names vary from build to build: in metrics they go by one route.
    fixed = sorted(path for path in page.paths if not path.startswith("/assets/"))
    for path in (*fixed, "/assets/{name}"):
        app.add_api_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)


def _answer(request: Request, found: PageFile, policy: str) -> Response:
    coding = found.coding(request.headers.get("accept-encoding", ""))
    etag = found.etag(coding)
    headers = {
        "Cache-Control": _FOREVER if found.immutable else _ASK_AGAIN,
        "Content-Security-Policy": policy,
        "ETag": etag,
        "Vary": "Accept-Encoding",
    }
    if _knows(request.headers.get("if-none-match", ""), etag):
        return Response(None, 304, headers)
    if coding != "identity":
        headers["Content-Encoding"] = coding
    return Response(found.forms[coding], 200, headers, found.media_type)


def _knows(sent: str, etag: str) -> bool:
    known = {one.strip().removeprefix("W/") for one in sent.split(",")}
    return etag in known or "*" in known
