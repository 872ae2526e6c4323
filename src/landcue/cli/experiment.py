"""``landcue experiment``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json


def experiment(
    spec: Annotated[Path, typer.Argument(help="YAML: methods, seeds, bits, protocol.")],
    out: Annotated[Path, typer.Option(help="Folder to write, or to go on with.")],
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    init: Annotated[Path | None, typer.Option(help="Weight file for the backbone.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Train this method only; may be repeated.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train and compare methods over seeds; the same command goes on after a crash.

    Writes results.json, table.md, table.tex and figures. Epochs and rankings are chosen on the
    validation part; the test part is measured once per model, and test_log.jsonl tells when.
    """
    from landcue.experiments.plots import draw
    from landcue.experiments.run import run_experiment
    from landcue.experiments.spec import read_spec
    from landcue.experiments.tables import to_json, to_latex, to_markdown
    from landcue.files import write_atomic

    base: dict[str, Any] = {}
    if data_root is not None:
        base["data"] = {"root": str(data_root.expanduser().resolve())}
    if init is not None:
        base["model"] = {"init": str(init.expanduser().resolve())}
    read = read_spec(spec, base)
    with Reporter() as reporter:
        results = run_experiment(read, out, only=only or (), say=reporter.say, tick=reporter.tick)
    table = to_markdown(results)
    found = json.dumps(to_json(results), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(out / "results.json", found + "\n")
    write_atomic(out / "table.md", table)
    write_atomic(out / "table.tex", to_latex(results))
    draw(results, out)
    if json_:
        print_json(to_json(results))
    else:
        print(table)
    if results.failed:
        raise typer.Exit(1)
