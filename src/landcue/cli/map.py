"""``landcue map``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import (
    After,
    Before,
    Box,
    Datetime,
    Sensors,
    Sources,
    interval_option,
    print_json,
    print_line,
)


def map(
    archive: Annotated[Path, typer.Argument(help="Archive folder.")],
    query: Annotated[str, typer.Argument(help="Image file, s3:// address, or id of a record.")],
    out: Annotated[Path, typer.Argument(help="GeoTIFF to write (.tif).")],
    labels: Annotated[str | None, typer.Option(help="Only records whose labels match.")] = None,
    bbox: Box = None,
    datetime: Datetime = None,
    after: After = None,
    before: Before = None,
    sensor: Sensors = None,
    source: Sources = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Grid, if the archive has several: zone and cell size, such as utm33N-640m."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Write the similarity of a query to each chip of a grid as a GeoTIFF, one pixel per chip."""
    import landcue
    from landcue.search.filters import Filter

    where = Filter.parse(
        labels,
        bbox=bbox,
        sensors=sensor or (),
        datetime=interval_option(datetime, after, before),
        sources=source or (),
    )
    made = landcue.open(archive).map(query, out, where=where, grid=grid)
    if json_:
        print_json({**asdict(made), "path": str(made.path)})
        return
    print_line(
        f"{made.path}: {made.width:,} x {made.height:,} pixels of {made.grid} ({made.crs}), "
        f"{made.cells:,} with a score"
    )
