"""``landcue audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json


def audit(
    source: Annotated[
        Path, typer.Argument(help="A dataset, a folder of images, or a label table (.csv).")
    ],
    split: Annotated[
        str | None,
        typer.Option(help="Split whose leakage is counted, as per-class-70-10-20-seed1."),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table for a folder.")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Run folder or builtin; none: neither look-alikes nor overlapping crops."
        ),
    ] = "builtin",
    report: Annotated[Path | None, typer.Option(help="Write a page to read (.html).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write everything as JSON.")] = None,
    max_distance: Annotated[
        int, typer.Option(min=0, max=64, help="Hash bits that near-duplicates may differ in.")
    ] = 8,
    min_cosine: Annotated[
        float, typer.Option(min=0, max=1, help="Least cosine of look-alikes' embeddings.")
    ] = 0.999,
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Find copies, leakage across a split, and what is wrong with labels and files."""
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
            progress=reporter.tick,
        )
        if out is not None:
            document = json.dumps(found.to_json(), indent=1, allow_nan=False)
            write_atomic(out, document + "\n")
            reporter.say(f"wrote {out}")
        if report is not None:
            write_atomic(report, found.to_html())
            reporter.say(f"wrote {report}")
    if json_:
        print_json(found.to_json())
    else:
        print(found.to_text())
