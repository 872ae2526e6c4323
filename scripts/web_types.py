"""Write ``web/src/types.ts``, the types of the REST API, from the service's OpenAPI description.

    python scripts/web_types.py            # write it
    python scripts/web_types.py check      # fail where it is not that of today's service

It needs LandCue installed; ``openapi-typescript`` comes with the page's other packages. The first
lines of the file hold a checksum of the description, so that checking needs no Node.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import build_page

from landcue.server.app import description

TYPES = build_page.WEB / "src" / "types.ts"
OPTIONS = (
    "--root-types",
    "--root-types-no-schema-prefix",
    "--default-non-nullable=false",
)


def described() -> str:
    """Return what the types depend on as JSON: the models of requests and answers."""
    models = description()["components"]
    head = {"openapi": "3.1.0", "info": {"title": "LandCue", "version": "1"}, "paths": {}}
    return json.dumps({**head, "components": _without_examples(models)}, sort_keys=True)


def header(text: str) -> str:
    """Return the lines that stand above the types made of ``text``."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"// Made by scripts/web_types.py: do not edit.\n// OpenAPI description: {digest}\n"


def is_current() -> bool:
    """Return whether the file was made from today's description."""
    return TYPES.is_file() and TYPES.read_text(encoding="utf-8").startswith(header(described()))


def write() -> None:
    """Write the file."""
    text, npm = described(), build_page.ready_npm()
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "openapi.json"), Path(folder, "types.ts")
        source.write_text(text, encoding="utf-8")
        tool = ("exec", "--", "openapi-typescript", str(source), "-o", str(out), *OPTIONS)
        build_page.run(*npm, *tool, cwd=build_page.WEB)
        TYPES.write_text(header(text) + out.read_text(encoding="utf-8"), encoding="utf-8")


def _without_examples(value: Any) -> Any:
    """Return a schema without lists of examples, and with arrays of a fixed length as tuples."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k != "examples" or isinstance(v, dict)}
        length = kept.get("minItems")
        if length is not None and length == kept.get("maxItems") and "items" in kept:
            kept["prefixItems"] = [kept.pop("items")] * length
        return {k: _without_examples(v) for k, v in kept.items()}
    return [_without_examples(one) for one in value] if isinstance(value, list) else value


if __name__ == "__main__":
    if sys.argv[1:] != ["check"]:
        write()
    elif not is_current():
        sys.exit("error: web/src/types.ts is stale: run python scripts/web_types.py")
