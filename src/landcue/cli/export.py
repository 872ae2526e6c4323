"""``landcue export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json, print_line, print_text


def export(
    model: Annotated[str, typer.Argument(help="Run folder, or builtin.")],
    out: Annotated[Path, typer.Argument(help="ONNX file to write (.onnx).")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize to 8-bit integers; requires --calibrate.")
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="Images for calibration (128 are used) and to measure the loss of accuracy."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table for these images.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Export a model to one ONNX file and check its outputs against the original."""
    from dataclasses import asdict

    from landcue.data import detect_source
    from landcue.models import export_onnx
    from landcue.models.onnx import describe

    images = None if calibrate is None else detect_source(calibrate, labels)
    with Reporter() as reporter:
        card = export_onnx(
            model,
            out,
            int8=int8,
            records=images.records if images else (),
            label_names=images.label_names if images else (),
            message=reporter.message,
        )
    if json_:
        print_json({"file": str(out), **asdict(card)})
    else:
        print_line(f"{out}: {out.stat().st_size / 1e6:.1f} MB")
        print_text(describe(card))
