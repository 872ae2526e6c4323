"""``landcue suggest``."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import (
    After,
    Before,
    Box,
    Datetime,
    Json,
    Polygon,
    Sensors,
    interval_option,
    print_json,
    print_line,
)
from landcue.data.label_table import quote_cell


def suggest(
    archive: Annotated[Path, typer.Argument(help="Archive folder.")],
    marks: Annotated[
        Path | None,
        typer.Option(
            help="Marks so far: the file of `serve --collections`, an exported "
            "collection (.json), or a table of labels or marks (.csv); by default the labels of "
            "the archive."
        ),
    ] = None,
    collection: Annotated[
        str | None, typer.Option(help="Name or id of the collection, if the file holds several.")
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Number of suggestions.")] = 20,
    label: Annotated[
        str | None,
        typer.Option(help="Label to find more of; by default all labels, or good marks."),
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Only records whose labels match.")] = None,
    bbox: Box = None,
    polygon: Polygon = None,
    datetime: Datetime = None,
    after: After = None,
    before: Before = None,
    sensor: Sensors = None,
    apart: Annotated[
        float, typer.Option(help="Minimum distance between two suggestions in kilometers.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Table to write (.csv) with columns id, mark and score; fill it in and pass "
            "it to --marks."
        ),
    ] = None,
    grid: Annotated[
        Path | None, typer.Option(help="Image of the suggestions to write (.png).")
    ] = None,
    json_: Json = False,
) -> None:
    """Suggest which records to label next: uncertain ones that are unlike each other."""
    import landcue
    from landcue.files import write_atomic
    from landcue.search.filters import Filter

    where = Filter.parse(
        labels, bbox=bbox, polygon=polygon, sensors=sensor or (),
        datetime=interval_option(datetime, after, before),
    )  # fmt: skip
    found = landcue.open(archive).suggest(
        marks, n, collection=collection, label=label, where=where, apart=apart, seed=seed
    )
    if found.note:
        print_line(f"note: {found.note}", file=sys.stderr)
    if grid is not None:
        found.grid(grid)
    if out is not None:
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(("id", "mark", "score"))
        rows.writerows((quote_cell(hit.id), "", f"{hit.score:.4f}") for hit in found)
        write_atomic(out, text.getvalue().encode())
    if json_:
        print_json(found.to_json())
        return
    for hit in found:
        print_line(f"{hit.score:.3f}  {hit.id}")
