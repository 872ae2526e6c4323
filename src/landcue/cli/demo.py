"""``landcue demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything is written.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=140, help="How many synthetic images.")] = 600,
    epochs: Annotated[int, typer.Option(min=1, help="How long to train.")] = 20,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            help="Show the page at the end, until Ctrl-C. By default on a terminal only.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Of the page. By default 8000, or a free one."),
    ] = None,
) -> None:
    """Render an archive, train on it, index it, evaluate it, search it and show it in a browser.

    The encoder that comes with LandCue, which never saw such images, is measured beside.
    """
    from landcue.cli.showing import is_interactive, show
    from landcue.demo import run_demo

    with Reporter() as reporter:
        made = run_demo(
            folder, images=images, epochs=epochs, message=reporter.say, progress=reporter.tick
        )
    if json_:
        print_json(made.to_json())
    else:
        print("\n" + made.to_text())
    if serve or (serve is None and not json_ and is_interactive()):
        show((made.archive, made.builtin_archive), port, folder / "feedback.jsonl")
