"""``landcue search``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import print_json
from landcue.errors import UsageError

if TYPE_CHECKING:
    from landcue.search.searcher import ById, Searcher, SearchResult
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
    asked, image = _query(searcher, query)
    result = searcher.search(asked, k=k, mode=mode, where=where, name=query)
    if grid is not None:
        draw(searcher, image, query, result, grid)
    if json_:
        print_json(result.to_json())
        return
    if not result.hits:
        print("no record matches the filter")
    for rank, hit in enumerate(result.hits, start=1):
        print(f"{rank:>3}  {hit.distance:<9.4g} {hit.id:<32} {', '.join(hit.labels)}")
    if grid is not None:
        print(f"picture: {grid}")


def _filter(labels: str | None, bbox: str | None, after: datetime | None) -> Any:
    from landcue.search.filters import Filter
    from landcue.types import Bounds

    bounds = None
    if bbox is not None:
        try:
            west, south, east, north = (float(part) for part in bbox.split(","))
        except ValueError:
            raise UsageError(f"--bbox {bbox!r}: write W,S,E,N in degrees") from None
        bounds = Bounds(west, south, east, north)
    names = tuple(name.strip() for name in (labels or "").split(",") if name.strip())
    time = None if after is None else after.replace(tzinfo=UTC)
    return Filter(labels=names, bbox=bounds, after=time)


def _query(searcher: Searcher, query: str) -> tuple[ById | Encoding, ByteArray | None]:
    """Take a record's id, or encode an image file with the archive's own model."""
    from landcue.search.searcher import ById

    if searcher.columns.find(query) is not None:
        return ById(query), None
    if not Path(query).is_file():
        from landcue.archive.archive import unknown_id

        raise UsageError(f"{query} is no image file, and {unknown_id(query, searcher.columns.ids)}")
    from landcue.data.images import read_image

    image = read_image(Path(query))
    folder = searcher.archive.model_folder
    if folder is None:
        raise UsageError("the archive holds no model: only its own records can be queries")
    from landcue.models.checkpoint import load_checkpoint

    encoder = load_checkpoint(folder).encoder
    return encoder.encode(encoder.prepare(image)[None]), image


def draw(
    searcher: Searcher,
    image: ByteArray | None,
    title: str,
    result: SearchResult,
    out: Path,
) -> None:
    """Write a picture of the query and its hits; without an image the query is a record."""
    from landcue.search.grid import draw_grid

    draw_grid(
        out,
        result.hits,
        searcher.archive.thumbnails(hit.id for hit in result.hits),
        query_title=title,
        query_image=searcher.archive.thumbnail(title) if image is None else image,
        query_labels=searcher.labels_of(title) if image is None else None,
        mode=result.mode,
    )
