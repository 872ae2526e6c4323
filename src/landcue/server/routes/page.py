"""The routes of the web page."""

from __future__ import annotations

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from landcue.server.errors import ProblemError
from landcue.server.page import INDEX, NOT_BUILT, PageFile, content_policy
from landcue.server.routes.base import Service

_FOREVER = "public, max-age=31536000, immutable"

_REVALIDATE = "no-cache"


def add_page(app: FastAPI, service: Service) -> None:
    """Add the web page, which holds no data: its calls of the API need the token, not its files."""
    page = service.page
    policy = content_policy(service.settings.basemap)

    async def file(request: Request) -> Response:
        found = page.get(request.scope["path"])
        if found is None:
            raise ProblemError(404, "the page has no such file")
        return _page_answer(request, found, policy)

    async def missing() -> Response:
        return PlainTextResponse(NOT_BUILT, 404)

    if not page.built:
        app.add_api_route(INDEX, missing, methods=["GET", "HEAD"], include_in_schema=False)
        return
    # Hashed names vary from build to build: in metrics they go by one route.
    fixed = sorted(path for path in page.paths if not path.startswith("/assets/"))
    for path in (*fixed, "/assets/{name}"):
        app.add_api_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)


def _page_answer(request: Request, found: PageFile, policy: str) -> Response:
    coding = found.coding(request.headers.get("accept-encoding", ""))
    etag = found.etag(coding)
    headers = {
        "Cache-Control": _FOREVER if found.immutable else _REVALIDATE,
        "Content-Security-Policy": policy,
        "ETag": etag,
        "Vary": "Accept-Encoding",
    }
    sent = request.headers.get("if-none-match", "")
    known = {one.strip().removeprefix("W/") for one in sent.split(",")}
    if etag in known or "*" in known:
        return Response(None, 304, headers)
    if coding != "identity":
        headers["Content-Encoding"] = coding
    return Response(found.forms[coding], 200, headers, found.media_type)
