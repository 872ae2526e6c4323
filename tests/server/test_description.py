from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from landcue.server.app import description
from landcue.server.routes.page import render
from landcue.server.schemas import archives, base, changes, collections, searches, watches

ROOT = Path(__file__).parents[2]

SCHEMAS = (changes, watches, searches, archives, collections, base)

DESCRIBED = description()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
}


def model_of(content):
    """Return the pydantic model that a body or an answer is described by."""
    name = content["schema"]["$ref"].rpartition("/")[2]
    return next(getattr(one, name) for one in SCHEMAS if hasattr(one, name))


def answers(operation):
    return next(one for code, one in operation["responses"].items() if code.startswith("2"))


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_endpoint_has_examples_that_fit(name):
    operation = OPERATIONS[name]
    assert operation["description"]
    for parameter in operation.get("parameters", ()):
        at = parameter.get("content", {}).get("application/json")
        if at is not None:
            model_of(at).model_validate_json(json.dumps(at["example"]))
        elif parameter["required"]:
            assert parameter["example"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        model_of(body).model_validate_json(json.dumps(body["example"]))
    for media_type, content in answers(operation)["content"].items():
        if media_type == "application/json" and "example" in content:
            model_of(content).model_validate_json(json.dumps(content["example"]), extra="forbid")
    shown = [one.get("example") for one in answers(operation)["content"].values()]
    # Files are not shown: images, tables.
    files = ("/picture", "/thumbnail", "/chip", "/export", "/images/{n}")
    assert name.endswith(files) or any(one is not None for one in shown)


def test_limits_are_written_as_json_schema_names_them():
    """Pydantic writes limits behind a validator by its own names, which no client reads."""
    pydantic_names = {"ge", "le", "gt", "lt", "min_length", "max_length", "multiple_of"}

    def check(value, at):
        if isinstance(value, dict):
            assert not pydantic_names & value.keys(), at
        children = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in children:
            if isinstance(child, dict | list):
                check(child, f"{at}/{key}")

    check(DESCRIBED["components"]["schemas"], "schemas")
    check(DESCRIBED["paths"], "paths")


def test_no_example_shows_a_path_of_a_machine():
    text = json.dumps(DESCRIBED)
    assert "/home/" not in text
    assert "/tmp/" not in text


def test_images_are_described_as_images(client):
    for kind in ("thumbnail", "chip"):
        operation = OPERATIONS[f"GET /v1/records/{{id}}/{kind}"]
        assert list(answers(operation)["content"]) == ["image/jpeg"]
    assert client.get("/openapi.json").json()["paths"] == DESCRIBED["paths"]


def test_the_reference_page_lists_every_endpoint():
    spec = importlib.util.spec_from_file_location(
        "rest_reference", ROOT / "scripts" / "rest_reference.py"
    )
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    page = reference.on_page_markdown((ROOT / "docs" / "reference" / "rest.md").read_text())
    assert reference.MARKER not in page
    for name, operation in OPERATIONS.items():
        section = page.split(f"## `{name}`")[1].split("\n## ")[0]
        assert operation["description"] in section
        assert "curl -s" in section
    assert reference.on_page_markdown("another page") == "another page"


def test_the_pages_types_are_those_of_this_description(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import web_types

    assert web_types.is_current(), "run python scripts/web_types.py"


def test_the_reference_is_a_page_that_loads_nothing(client):
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = answer.text
    assert not re.findall(r"(?:src|href)=.?https?:|<script|<link|@import|url\(", page)
    for name, operation in OPERATIONS.items():
        assert f'id="{operation["operationId"]}"' in page, name
    anchors = set(re.findall(r'href="#([^"]+)"', page))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page))
    assert "{&#34;" in page or "&#34;" in page  # examples are escaped
    assert render({"info": {"version": "<b>"}, "paths": {}, "components": {}}).count("<b>") == 0
