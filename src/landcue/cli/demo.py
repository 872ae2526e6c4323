"""``landcue demo``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for all outputs.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=140, help="Number of synthetic images.")] = 600,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs.")] = 20,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            help="Serve the web page at the end, until Ctrl-C; by default only on a terminal.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="Port of the web page; by default 8000, or a free one."
        ),
    ] = None,
) -> None:
    """Run everything once on a synthetic archive: render, train, index, evaluate, search, serve.

    The built-in encoder, which was not trained on such images, is measured for comparison.
    """
    from landcue.cli.showing import is_interactive, show
    from landcue.demo import run_demo

    with Reporter() as reporter:
        made = run_demo(
            folder,
            images=images,
            epochs=epochs,
            message=reporter.message,
            progress=reporter.progress,
        )
    if json_:
        print_json(made.to_json())
    else:
        print("\n" + made.to_text())
    if serve or (serve is None and not json_ and is_interactive()):
        show((made.archive, made.builtin_archive), port, folder / "feedback.jsonl")
        sys.stdout.flush()
        os._exit(0)  # at a normal exit torchvision's compiler prints warnings about leaks
