"""``landcue audit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landcue.cli.console import Reporter, print_json

if TYPE_CHECKING:
    from landcue.audit.audit import Audit
    from landcue.types import Encoder

_NONE = "none"


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
    from landcue.audit.as_json import to_json
    from landcue.audit.audit import audit as look
    from landcue.audit.limits import Limits
    from landcue.data.datasets import detect_source
    from landcue.files import write_atomic

    images = detect_source(source, labels)
    limits = Limits(
        max_distance=max_distance, max_distance_turned=max_distance // 2, min_cosine=min_cosine
    )
    with Reporter() as reporter:
        found = look(
            images, split=split, encoder=_encoder(model), limits=limits, progress=reporter.tick
        )
        document = to_json(found)
        if out is not None:
            write_atomic(out, json.dumps(document, indent=1, allow_nan=False) + "\n")
            reporter.say(f"wrote {out}")
        if report is not None:
            from landcue.report.audit import audit_page

            title = images.name if images.name not in ("folder", "table") else source.resolve().name
            write_atomic(report, audit_page(found, title))
            reporter.say(f"wrote {report}")
    if json_:
        print_json(document)
    else:
        print(_as_text(found))


def _encoder(model: str) -> Encoder | None:
    if model == _NONE:
        return None
    from landcue.models.load import load_model

    return load_model(model).encoder


def _as_text(found: Audit) -> str:
    from landcue.audit.findings import findings

    lines = [f"{len(found.parts):,} images, {found.split or 'no split'}"]
    lines += [f"{f.severity + ':':<9}{f.text}" for f in findings(found)]
    named = [(group.rows, "identical") for group in found.identical]
    named += [((pair.first, pair.second), "near-duplicate") for pair in found.near]
    named += [((pair.first, pair.second), "overlap") for pair in found.overlap]
    for rows, what in named[:20]:
        ids = ", ".join(f"{found.images.records[r].id} ({found.parts[r]})" for r in rows[:5])
        lines.append(f"  {what:<16}{ids}")
    if len(named) > 20:
        lines.append(f"  and {len(named) - 20:,} more: see --out or --report")
    return "\n".join(lines)
