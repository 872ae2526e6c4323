"""``landcue index``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import (
    Batch,
    Dim,
    Fit,
    Reporter,
    Workers,
    print_json,
    print_line,
    run_saved_searches,
)


def index(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder, s3://bucket/prefix, table (.csv, .parquet), STAC items (.json) or "
            "raster; also as s3://bucket/key."
        ),
    ],
    archive: Annotated[
        Path, typer.Argument(help="Archive to create or update: a folder, or s3://bucket/prefix.")
    ],
    model: Annotated[
        str | None,
        typer.Option(
            help="Run folder, exported .onnx file, timm:NAME[@FILE], open_clip:NAME[@FILE|TAG], "
            "hf:FOLDER|REPO, torchgeo:WEIGHTS, onnx:FILE, or builtin (default); an existing "
            "archive keeps its own."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Label table for a folder; a model without labels learns them."),
    ] = None,
    dim: Dim = None,
    bits: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Length in bits of the code fitted to the images; by default chosen by "
            "measured recall.",
        ),
    ] = None,
    fit: Fit = True,
    regions: Annotated[
        int | None,
        typer.Option(
            help="Also encode N x N overlapping regions of each image, so that search --mode "
            "regions finds objects smaller than a chip.",
            metavar="N",
        ),
    ] = None,
    chip: Annotated[
        str | None,
        typer.Option(
            help="Cut images and scenes into square chips of this size, such as 256px or 120m."
        ),
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option(help="Distance from one chip to the next; by default the size of a chip."),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Cut along the cells of a fixed grid (utm), so that chips of different dates and "
            "scenes can be compared; requires --chip in meters."
        ),
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(
            help="Bands of rasters by number (from 1) or name, in the order that the model "
            "expects, such as 4,3,2; by default chosen by their colors and number."
        ),
    ] = None,
    scale: Annotated[
        str,
        typer.Option(
            help="How raster values are scaled to 8 bits: auto, percentile:2,98 or fixed:0,3000."
        ),
    ] = "auto",
    nodata: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Maximum fraction of nodata pixels, 0 to 1; by default 0.5 for chips.",
        ),
    ] = None,
    asset: Annotated[
        str | None, typer.Option(help="Name of the STAC asset that holds the image.")
    ] = None,
    folder_labels: Annotated[
        bool | None,
        typer.Option(
            help="Use folder names as labels; by default if there are several folders, each "
            "with several images."
        ),
    ] = None,
    source_name: Annotated[
        str | None,
        typer.Option(
            help="Name of the source in the archive, by default the name of its folder; specify "
            "the earlier name after moving the folder."
        ),
    ] = None,
    batch: Batch = 64,
    workers: Workers = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device that runs the model: cpu, cuda, cuda:1; by default cpu, or with --ray "
            "the GPUs, if there are any."
        ),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            help="Runtime of the model: torch, onnx (model.onnx of a run folder), or auto."
        ),
    ] = "auto",
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local",
            help="Read and encode on a Ray cluster: local, auto, or host:port of its head node.",
        ),
    ] = None,
    ray_workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of Ray workers; by default one per GPU, or else per core."
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option(help="Remove records of this source whose files no longer exist.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Add images, or chips cut from scenes, to an archive; encode only new and changed ones."""
    from landcue.archive.indexing import IndexOptions, index_source
    from landcue.data.objects import shown

    options = IndexOptions(
        labels=labels,
        chip=chip,
        stride=stride,
        grid=grid,
        bands=bands,
        scale=scale,
        nodata=nodata,
        asset=asset,
        source_name=source_name,
        folder_labels=folder_labels,
        batch_size=batch,
        workers=workers,
        device=device,
        runtime=runtime,
        prune=prune,
        dim=dim,
        bits=bits,
        fit=fit,
        regions=regions,
        ray=ray,
        ray_workers=ray_workers,
    )
    with Reporter() as reporter:
        report = index_source(
            source,
            archive,
            model=model,
            options=options,
            progress=reporter.progress,
            notify=reporter.message,
        )
    if json_:
        print_json({"archive": shown(archive), **report.to_json()})
    else:
        print_line(f"{shown(archive)}: {report.summary()}")
    run_saved_searches(archive)
