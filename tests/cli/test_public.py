"""A library first: what a command does is a public call."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import landcue
from landcue import cli

ROOMS = (
    "archive", "audit", "codes", "data", "demo", "experiments", "losses", "metrics", "milvus",
    "models", "report", "search", "server", "training",
)  # fmt: skip
PARSED_AND_PRINTED = {
    *("shown", "printable", "describe", "to_text", "to_json", "closed_interval", "quote_cell"),
    *("read_ids", "read_vector", "read_values", "override", "make_config", "check_table"),
    *("is_archive", "is_collection", "is_loopback", "RULES", "Example", "Region"),
    "run_saved",  # Watches.run of a folder that may have none
}
"""How commands read options and print, in modules that are not public."""


def imported(path):
    """Yield the module and name of all that a command imports from the library."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("landcue."):
            yield from ((node.module, alias.name) for alias in node.names)


def test_what_commands_call_is_exported():
    rooms = [landcue, *(importlib.import_module(f"landcue.{name}") for name in ROOMS)]
    public = [getattr(room, name) for room in rooms for name in room.__all__]
    hidden = set()
    for path in Path(cli.__file__).parent.glob("*.py"):
        for module, name in imported(path):
            if module.startswith(("landcue.cli", "landcue.errors", "landcue.files")):
                continue
            value = getattr(importlib.import_module(module), name)
            if name not in PARSED_AND_PRINTED and not any(value is one for one in public):
                hidden.add((path.name, module, name))
    assert hidden == set()


def test_every_exported_name_is_there():
    for name in ROOMS:
        room = importlib.import_module(f"landcue.{name}")
        assert [one for one in room.__all__ if not hasattr(room, one)] == []
