"""``landcue audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json, print_text


def audit(
    source: Annotated[
        Path, typer.Argument(help="Data set, folder of images, or label table (.csv).")
    ],
    split: Annotated[
        str | None,
        typer.Option(help="Split to check for leakage, such as per-class-70-10-20-seed1."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table for a folder.")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Run folder or builtin; none skips the search for look-alikes and "
            "overlapping crops."
        ),
    ] = "builtin",
    report: Annotated[Path | None, typer.Option(help="HTML report to write.")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write, with all results.")] = None,
    max_distance: Annotated[
        int,
        typer.Option(
            min=0, max=64, help="Largest perceptual-hash distance of near duplicates, in bits."
        ),
    ] = 8,
    min_cosine: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum cosine similarity of look-alikes, 0 to 1.")
    ] = 0.98,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Find duplicates, leakage across a split, and problems of labels and files."""
    from landcue.audit import Limits
    from landcue.audit import audit as run_audit
    from landcue.files import write_atomic

    limits = Limits(
        max_distance=max_distance, max_distance_turned=max_distance // 2, min_cosine=min_cosine
    )
    with Reporter() as reporter:
        found = run_audit(
            source,
            labels=labels,
            split=split,
            model=None if model == "none" else model,
            limits=limits,
            progress=reporter.progress,
        )
        if out is not None:
            document = json.dumps(found.to_json(), indent=1, allow_nan=False)
            write_atomic(out, document + "\n")
            reporter.message(f"wrote {out}")
        if report is not None:
            write_atomic(report, found.to_html())
            reporter.message(f"wrote {report}")
    if json_:
        print_json(found.to_json())
    else:
        print_text(found.to_text())
