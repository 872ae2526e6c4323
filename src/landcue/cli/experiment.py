"""``landcue experiment``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json, print_text


def experiment(
    out: Annotated[Path, typer.Option(help="Folder to write, or to resume.")],
    spec: Annotated[
        Path | None, typer.Argument(help="YAML file: methods, seeds, bits, protocol.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Preset to run instead of a file: marc-dlrsd, marc-ml-aid, marc-whdld, dhcl-ucmd …"
        ),
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder of the images.")] = None,
    init: Annotated[Path | None, typer.Option(help="Weight file for the backbone.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Train only this method; repeatable.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SECTION.KEY=VALUE",
            help="Override a setting of the preset; repeatable.",
        ),
    ] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seed to use instead of the preset's; repeatable.")
    ] = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial", help="Accept a copy of the data set that lacks published images."
        ),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Train and compare methods over several seeds; run the same command again to resume.

    A preset runs a paper's experiment: it first lists its assumptions and
    estimates its running time.

    Writes results.json, table.md, table.tex and figures. Epochs and rankings are chosen on the
    validation part; the test part is measured once per model, and test_log.jsonl records when.
    """
    from landcue.errors import UsageError
    from landcue.experiments import PRESETS, estimate_hours, read_preset, run, to_json, to_markdown

    if (spec is None) == (preset is None):
        raise UsageError("name a specification file, or a --preset")
    if spec is not None and (set_ or seed or partial):
        raise UsageError("--set, --seed and --partial are for a --preset: edit the file instead")
    with Reporter() as reporter:
        chosen: Any = spec
        if preset is not None:
            if preset in PRESETS and data_root is None:
                raise UsageError(f"preset {preset} needs --data-root, the folder of its images")
            chosen = read_preset(
                preset,
                data_root or Path(),
                init=init,
                settings=set_ or (),
                seeds=seed or (),
                partial=partial,
            )
            for line in chosen.assumptions:
                reporter.message(f"assumed: {line}")
            time = estimate_hours(chosen)
            reporter.message(
                f"{time.trainings} trainings, about {time.hours:.1f} hours on this machine "
                f"({time.device}, {time.images_per_second:.0f} images/s); the same command resumes"
            )
        results = run(
            chosen,
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
        print_text(to_markdown(results))
    if results.failed:
        raise typer.Exit(1)
