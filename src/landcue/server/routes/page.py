"""The routes of pages for people: the web page, and the reference of the REST API."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from jinja2 import Environment
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, PlainTextResponse, Response

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


router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
_PAGE = """\
{% macro shown(content) %}{% set name = content.schema["$ref"] | model %}
{% if name %}: <a href="#{{ name }}">{{ name }}</a>{% endif %}</p>
{% if content.example %}<pre>{{ content.example | tojson_plain }}</pre>{% endif %}
{% endmacro %}<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>LandCue REST API</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color-scheme: light dark }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top;
  padding: .3rem .6rem; border-bottom: 1px solid #8886 }
code, pre { font: 14px/1.4 ui-monospace, monospace } pre { overflow: auto; padding: .6rem;
  border: 1px solid #8886 }
</style></head><body>
<h1>LandCue REST API</h1>
<p>Version {{ info.version }}. <a href="openapi.json">The OpenAPI document</a>.</p>
<ul>{% for one in operations %}
<li><a href="#{{ one.operationId }}"><code>{{ one.method }} {{ one.path }}</code></a></li>
{% endfor %}</ul>
{% for one in operations %}
<h2 id="{{ one.operationId }}"><code>{{ one.method }} {{ one.path }}</code></h2>
<p>{{ one.description }}</p>
{% if one.parameters %}<table><tr><th>Parameter<th>In<th>Meaning</tr>
{% for given in one.parameters %}<tr><td><code>{{ given.name }}</code>
{% if given.required %}(required){% endif %}<td>{{ given.in }}<td>{{ given.description }}
{% if given.example is defined %}<code>{{ given.example }}</code>{% endif %}</tr>
{% endfor %}</table>{% endif %}
{% for kind, content in one.requestBody.content.items() %}
<p>Body, <code>{{ kind }}</code>{{ shown(content) }}{% endfor %}
{% for code, answer in one.responses.items() %}{% for kind, content in answer.content.items() %}
<p>{{ code }}, <code>{{ kind }}</code>{{ shown(content) }}{% endfor %}{% endfor %}
{% endfor %}
{% for name, model in schemas.items() %}
<h2 id="{{ name }}">{{ name }}</h2><p>{{ model.description }}</p>
<table><tr><th>Field<th>Type<th>Meaning</tr>
{% for field, value in model.properties.items() %}<tr><td><code>{{ field }}</code>
{% if field in (model.required or ()) %}(required){% endif %}
<td>{{ value | kind }}<td>{{ value.description }}</tr>{% endfor %}</table>
{% endfor %}
</body></html>
"""


@router.get("/docs", include_in_schema=False)
async def get_docs(request: Request) -> Response:
    """Return the reference page."""
    text = await run_in_threadpool(render, request.app.openapi())
    return HTMLResponse(text, headers={"Content-Security-Policy": _POLICY})


def render(described: dict[str, Any]) -> str:
    """Return an OpenAPI document as HTML.

    >>> from landcue.server.routes.page import render
    >>> "<h1>LandCue REST API</h1>" in render({"info": {}, "paths": {}, "components": {}})
    True
    """
    pages = Environment(autoescape=True)
    pages.filters |= {"model": _model, "kind": _kind, "tojson_plain": _json}
    operations = [
        {"method": method.upper(), "path": path, "requestBody": {"content": {}}, **operation}
        for path, ways in described["paths"].items()
        for method, operation in ways.items()
    ]
    schemas = described["components"].get("schemas", {})
    known = {name: {"properties": {}, **model} for name, model in schemas.items()}
    page = pages.from_string(_PAGE)
    return page.render(info=described["info"], operations=operations, schemas=known)


def _model(ref: Any) -> str:
    return str(ref or "").rpartition("/")[2]


def _kind(value: dict[str, Any]) -> str:
    if "$ref" in value:
        return _model(value["$ref"])
    if "anyOf" in value:
        return " or ".join(_kind(one) for one in value["anyOf"])
    if value.get("type") == "array" and "items" in value:
        return f"list of {_kind(value['items'])}"
    return str(value.get("const", value.get("type", "any")))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False)[:2_000]
