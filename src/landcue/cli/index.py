"""``landcue index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json


def index(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder, s3://bucket/prefix, table (.csv, .parquet), STAC items (.json) or "
            "GeoTIFF; also as s3://bucket/key."
        ),
    ],
    archive: Annotated[
        Path, typer.Argument(help="Archive to make or to update: a folder, or s3://bucket/prefix.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Run folder, exported .onnx file, or builtin (default); an existing archive keeps "
            "its own."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Label table for a folder.")] = None,
    chip: Annotated[
        str | None,
        typer.Option(help="Cut GeoTIFF scenes into chips of this side: 256px, 120m."),
    ] = None,
    stride: Annotated[
        str | None, typer.Option(help="From one chip to the next; by default the side.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands of a scene, from 1, in the model's order: 4,3,2.")
    ] = None,
    scale: Annotated[
        str, typer.Option(help="Stored values to bytes: auto, percentile:2,98, fixed:0,3000.")
    ] = "auto",
    nodata: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of a chip without data.")
    ] = 0.5,
    asset: Annotated[
        str | None, typer.Option(help="Asset of STAC items that is the image.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per model call.")] = 64,
    workers: Annotated[int | None, typer.Option(min=1, help="Reading threads.")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Where the model runs: cpu, cuda, cuda:1. By default cpu; with --ray the GPUs, "
            "if there are any."
        ),
    ] = None,
    runtime: Annotated[
        str, typer.Option(help="torch, onnx (the model.onnx of a run folder), or auto.")
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Read and encode on a Ray cluster: local, auto, or its head's host:port.",
        ),
    ] = None,
    ray_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Ray workers; by default one per GPU, or else per core."),
    ] = None,
    prune: Annotated[bool, typer.Option(help="Drop records whose file is gone.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Put images, or chips of scenes, into an archive; only new and changed ones are encoded."""
    from landcue.archive.indexing import IndexOptions, index_source
    from landcue.data.objects import shown

    options = IndexOptions(
        labels=labels,
        chip=chip,
        stride=stride,
        bands=bands,
        scale=scale,
        nodata=nodata,
        asset=asset,
        batch_size=batch,
        workers=workers,
        device=device,
        runtime=runtime,
        prune=prune,
        ray=ray,
        ray_workers=ray_workers,
    )
    with Reporter() as reporter:
        report = index_source(
            source,
            archive,
            model=model,
            options=options,
            progress=reporter.tick,
            notify=reporter.say,
        )
    if json_:
        print_json({"archive": shown(archive), **report.to_json()})
    else:
        print(f"{shown(archive)}: {report.summary()}")
