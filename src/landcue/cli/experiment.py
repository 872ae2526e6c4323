"""``landcue experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json


def experiment(
    spec: Annotated[Path, typer.Argument(help="YAML file: methods, seeds, bits, protocol.")],
    out: Annotated[Path, typer.Option(help="Folder to write, or to resume.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    init: Annotated[Path | None, typer.Option(help="Weight file for the backbone.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Train only this method; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train and compare methods over several seeds; run the same command again to resume.

    Writes results.json, table.md, table.tex and figures. Epochs and rankings are chosen on the
    validation part; the test part is measured once per model, and test_log.jsonl records when.
    """
    from landcue.experiments import run, to_json, to_markdown

    with Reporter() as reporter:
        results = run(
            spec,
            out,
            data_root=data_root,
            init=init,
            only=only or (),
            message=reporter.message,
            progress=reporter.progress,
        )
    if json_:
        print_json(to_json(results))
    else:
        print(to_markdown(results))
    if results.failed:
        raise typer.Exit(1)
