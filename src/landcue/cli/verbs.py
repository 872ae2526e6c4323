"""The verbs: each is imported, and its options are built, only when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import typer
from typer.core import TyperGroup

VERBS = {
    "demo": "See all of it work on images made up for it.",
    "train": "Train an encoder; the same command resumes after a crash.",
    "index": "Put images, or chips of scenes, into an archive.",
    "search": "Find look-alike records of an archive.",
    "serve": "Serve archives over HTTP: the web page and the API.",
    "evaluate": "Measure how well an archive or a model finds.",
    "audit": "Find copies, leakage across a split, and what is broken.",
    "experiment": "Train and compare methods over seeds.",
    "export": "Write a model as one ONNX file, checked against it.",
    "archive": "Look after archives.",
    "models": "Look at models.",
    "datasets": "Look at datasets.",
}
"""A line for the help of all. ``landcue.cli.NAME`` holds the function ``NAME``, or ``NAME_app``."""


class _Loading(Mapping[str, Any]):
    """Commands by name, made when they are taken out."""

    def __getitem__(self, name: str) -> Any:
        if name not in VERBS:
            raise KeyError(name)
        module = importlib.import_module(f"landcue.cli.{name}")
        alone = typer.Typer(rich_markup_mode=None)
        several = getattr(module, f"{name}_app", None)
        if several is None:
            alone.command(name)(getattr(module, name))
        else:
            alone.add_typer(several)
        return typer.main.get_group(alone).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(VERBS)

    def __len__(self) -> int:
        return len(VERBS)


class Verbs(TyperGroup):
    """The group of all verbs."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        commands: Any = _Loading()
        self.commands = commands

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the help."""
        return list(VERBS)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table of the help without a look at any verb."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))
