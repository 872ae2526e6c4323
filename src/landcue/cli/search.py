"""``landcue search``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import print_json
from landcue.errors import UsageError

if TYPE_CHECKING:
    from landcue.search.searcher import Searcher
    from landcue.types import ByteArray, Encoding


def search(
    archive: Annotated[Path, typer.Argument(help="Archive folder.")],
    query: Annotated[str, typer.Argument(help="An image file, or the id of a record.")],
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 20,
    mode: Annotated[str, typer.Option(help="auto, embedding or code.")] = "auto",
    labels: Annotated[
        str | None, typer.Option(help="Only records with all of these: water,ships")
    ] = None,
    bbox: Annotated[str | None, typer.Option(help="Only inside W,S,E,N in degrees.")] = None,
    after: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC.")
    ] = None,
    grid: Annotated[Path | None, typer.Option(help="Write a picture of the hits (.png).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the hits as JSON.")] = False,
) -> None:
    """Find the records that look most like an image or another record."""
    from landcue.archive.archive import Archive
    from landcue.search.searcher import Searcher

    opened = Archive.open(archive)
    searcher = Searcher(opened)
    where = _filter(labels, bbox, after)
    asked, image = _query(searcher, archive, query)
    result = searcher.search(asked, k=k, mode=mode, where=where, name=query)
    if grid is not None:
        _draw(searcher, image, query, result, grid)
    if json_:
        print_json(result.to_json())
        return
    if not result.hits:
        print("no record matches the filter")
    for rank, hit in enumerate(result.hits, start=1):
        print(f"{rank:>3}  {hit.distance:<9.4g} {hit.id:<32} {', '.join(hit.labels)}")
    if grid is not None:
        print(f"picture: {grid}")
