"""The endpoints of ``landcue serve`` as Markdown, from its own OpenAPI description.

    python scripts/rest_reference.py        # print them

MkDocs calls it as a hook: the page ``reference/rest.md`` gets them in place of its marker.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any
from urllib.parse import quote, urlencode

from landcue.server.app import description

MARKER = "<!-- endpoints -->"
ADDRESS = "http://127.0.0.1:8000"

Operation = dict[str, Any]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the endpoints where a page asks for them; MkDocs calls this for every page."""
    return markdown.replace(MARKER, endpoints()) if MARKER in markdown else markdown


def endpoints() -> str:
    """Return a section for each endpoint, and one for filters."""
    described = description()
    schemas = described["components"]["schemas"]
    sections = [
        _section(method.upper(), path, operation, schemas)
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    filters = _fields({"$ref": "#/components/schemas/Filters"}, schemas)
    return "\n\n".join([*sections, "## `Filters`", schemas["Filters"]["description"], filters])


def _section(
    method: str, path: str, operation: Operation, schemas: dict[str, dict[str, Any]]
) -> str:
    parts = [f"## `{method} {path}`", operation["description"], _parameters(operation)]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    if body:
        parts.append(_fields(body["schema"], schemas))
    parts.append(f"```sh\n{_curl(method, path, operation, body.get('example'))}\n```")
    for media_type, content in _good(operation).items():
        if "example" in content:
            shown = content["example"]
            json_like = media_type == "application/json"
            text = json.dumps(shown, ensure_ascii=False, indent=1) if json_like else shown.rstrip()
            parts.append(f"```{'json' if json_like else ''}\n{_folded(text)}\n```")
    return "\n\n".join(part for part in parts if part)


def _parameters(operation: Operation) -> str:
    rows = [
        f"| `{one['name']}` | {'yes' if one.get('required') else 'no'} | "
        f"{one.get('description', 'Its id.' if one['name'] == 'id' else '')} |"
        for one in operation.get("parameters", ())
    ]
    return "\n".join(["| parameter | needed | |", "| --- | --- | --- |", *rows]) if rows else ""


def _fields(schema: dict[str, Any], schemas: dict[str, dict[str, Any]]) -> str:
    name = schema["$ref"].rpartition("/")[2]
    rows = [
        f"| `{field}` | {_kind(one)} | {_default(one)} | {one.get('description', '')} |"
        for field, one in schemas[name]["properties"].items()
    ]
    return "\n".join(["| field | type | default | |", "| --- | --- | --- | --- |", *rows])


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    inner = schema.get("items")
    return f"list of {_kind(inner)}" if isinstance(inner, dict) else str(schema.get("type", "list"))


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if value is None else f"`{json.dumps(value)}`"


def _good(operation: Operation) -> dict[str, Any]:
    answers = operation["responses"].items()
    return next(one for code, one in answers if code.startswith("2")).get("content", {})


def _curl(method: str, path: str, operation: Operation, body: Any) -> str:
    query: dict[str, str] = {}
    for one in operation.get("parameters", ()):
        example = one.get("content", {}).get("application/json", one).get("example")
        if example is None:
            continue
        text = example if isinstance(example, str) else json.dumps(example)
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", quote(text))
        else:
            query[one["name"]] = text
    address = ADDRESS + path + (f"?{urlencode(query, safe='/')}" if query else "")
    words = ["curl", "-s", address if not query else shlex.quote(address)]
    if method == "POST":
        words += ["-H", "'Content-Type: application/json'", "-d", shlex.quote(json.dumps(body))]
    return " ".join(words)


def _folded(text: str) -> str:
    """Return JSON with its innermost lists on one line each."""
    return re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), text)


if __name__ == "__main__":
    print(endpoints())
