"""``landcue search``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landcue.cli.console import print_json
from landcue.errors import UsageError

if TYPE_CHECKING:
    from landcue.search.filters import Filter
    from landcue.search.queries import ByVector, Example, Query
    from landcue.search.scene import ByScene
    from landcue.search.searcher import Searcher, SearchResult
    from landcue.types import Bounds, ByteArray, Encoder

_DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


def search(
    archive: Annotated[
        Path, typer.Argument(help="Archive folder, or milvus://host:port/collection.")
    ],
    query: Annotated[
        str | None,
        typer.Argument(
            help="An image file (s3://… too), or the id of a record. Not needed with a filter."
        ),
    ] = None,
    vector: Annotated[
        Path | None, typer.Option(help="Instead of QUERY: an embedding in a .npy file.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many hits.")] = 20,
    mode: Annotated[
        str, typer.Option(help="auto, embedding, code, cue, two-stage or ann.")
    ] = "auto",
    positive: Annotated[
        list[str] | None, typer.Option(help="Another example to come near to; repeat.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="An example to keep away from; repeat.")
    ] = None,
    rule: Annotated[str, typer.Option(help="Of several examples: mean, rocchio, linear.")] = "mean",
    negative_weight: Annotated[float, typer.Option(help="Of rule mean.")] = 0.5,
    window: Annotated[
        str | None, typer.Option(help="QUERY is a scene: its chip at COL,ROW,WIDTH,HEIGHT pixels.")
    ] = None,
    chip_bbox: Annotated[
        str | None, typer.Option(help="QUERY is a scene: its chip at W,S,E,N degrees.")
    ] = None,
    bands: Annotated[str | None, typer.Option(help="Bands of that chip: 4,3,2.")] = None,
    scale: Annotated[str, typer.Option(help="Of that chip, as landcue index takes it.")] = "auto",
    labels: Annotated[
        str | None, typer.Option(help="Only records whose labels fit: 'water and not ships'.")
    ] = None,
    score: Annotated[
        list[str] | None, typer.Option(help="Least predicted score: ships=0.7; repeat.")
    ] = None,
    bbox: Annotated[str | None, typer.Option(help="Only inside W,S,E,N in degrees.")] = None,
    polygon: Annotated[
        str | None, typer.Option(help="Only inside: a GeoJSON or WKT file, or its text.")
    ] = None,
    after: Annotated[
        datetime | None, typer.Option(formats=_DATES, help="This or later, UTC.")
    ] = None,
    before: Annotated[datetime | None, typer.Option(formats=_DATES, help="Earlier, UTC.")] = None,
    path: Annotated[str | None, typer.Option(help="Only paths that start so.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Only this group; repeat.")] = None,
    sensor: Annotated[list[str] | None, typer.Option(help="Only this sensor; repeat.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only train, val or test; repeat.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Leave out hits below it.")] = None,
    collapse: Annotated[
        float | None, typer.Option(help="Leave out near duplicates: cosine distance, 0.02.")
    ] = None,
    label_weight: Annotated[int, typer.Option(help="Of mode cue: cost of a label bit.")] = 1,
    shortlist: Annotated[
        int, typer.Option(help="Of modes two-stage and ann: candidates compared exactly.")
    ] = 200,
    recall: Annotated[float, typer.Option(help="Least measured recall of mode ann.")] = 0.95,
    cursor: Annotated[str | None, typer.Option(help="Go on after an earlier page.")] = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Tell how to get the next page, if there is one.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="Of a milvus:// collection: its model, to ask with images.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell how it was found.")] = False,
    grid: Annotated[Path | None, typer.Option(help="Write a picture of the hits (.png).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the hits as JSON.")] = False,
) -> None:
    """Find the records that look most like an image or another record, or lie at a place.

    Give --labels, --bbox or another filter alone to list the records that fit.
    """
    from landcue.milvus.opening import open_archive, open_searcher

    opened = open_archive(archive, model)
    searcher = open_searcher(opened, lambda: _encoder(opened.model_folder))
    where = _filter(labels, score, bbox, polygon, after, before, path, group, sensor, part)
    chip = _chip(query, window, chip_bbox, bands, scale)
    first = None if query is None else (chip or _example(searcher, query))
    if vector is not None:
        if query is not None:
            raise UsageError("give QUERY or --vector, not both; --positive takes more examples")
        first = _vector(vector)
    asked, image = _query(searcher, first, positive, negative, rule, negative_weight)
    if asked is None and where.empty:
        raise UsageError("nothing to search for: give an image, a record's id, or a filter")
    result = searcher.search(
        asked,
        k=k,
        mode=mode,
        where=where,
        name=_name(query or (vector and str(vector)), positive or (), negative or ()),
        cursor=cursor,
        min_score=min_score,
        collapse=collapse,
        label_weight=label_weight,
        shortlist=shortlist,
        recall=recall,
    )
    if grid is not None:
        draw(searcher, image, result.query, result, grid)
    if json_:
        print_json(result.to_json(explain=explain))
        return
    _print(result, explain, pages=pages or cursor is not None)
    if grid is not None:
        print(f"picture: {grid}")


def _print(result: SearchResult, explain: bool, *, pages: bool) -> None:
    if result.note:
        print(result.note)
    for rank, hit in enumerate(result.hits, start=1):
        more = f"  (+{hit.near} alike)" if hit.near else ""
        print(f"{rank:>3}  {hit.distance:<9.4g} {hit.id:<32} {', '.join(hit.labels)}{more}")
    if pages and result.cursor:
        print(f"next page: --cursor {result.cursor}")
    if explain and result.plan is not None:
        plan = result.plan
        print(
            f"mode {plan.mode}: {plan.why}; {plan.scanned} of {plan.allowed} allowed records "
            f"scanned ({plan.records} in all), {plan.reranked} ranked again; "
            f"{plan.milliseconds:.1f} ms"
        )
        if plan.recall is not None:
            print(f"measured recall {plan.recall:.3f}, {plan.lists} lists visited")


def _filter(
    labels: str | None,
    scores: Sequence[str] | None,
    bbox: str | None,
    polygon: str | None,
    after: datetime | None,
    before: datetime | None,
    path: str | None,
    group: Sequence[str] | None,
    sensor: Sequence[str] | None,
    part: Sequence[str] | None,
) -> Filter:
    from landcue.search.filters import Filter
    from landcue.search.place import read_polygon

    return Filter(
        expression=labels if labels and labels.strip(" ,") else None,
        scores=tuple(_score(text) for text in scores or ()),
        bbox=None if bbox is None else _bounds(bbox, "--bbox"),
        polygon=None if polygon is None else read_polygon(polygon),
        after=None if after is None else after.replace(tzinfo=UTC),
        before=None if before is None else before.replace(tzinfo=UTC),
        path=path,
        groups=tuple(group or ()),
        sensors=tuple(sensor or ()),
        parts=tuple(part or ()),
    )


def _bounds(text: str, option: str) -> Bounds:
    from landcue.types import Bounds

    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: write W,S,E,N in degrees") from None
    return Bounds(west, south, east, north)


def _chip(
    query: str | None, window: str | None, bbox: str | None, bands: str | None, scale: str
) -> ByScene | None:
    """Return the chip of a scene that was asked for, if any was."""
    if window is None and bbox is None:
        if bands is not None or scale != "auto":
            raise UsageError("--bands and --scale belong to a chip: give --window or --chip-bbox")
        return None
    if query is None:
        raise UsageError("--window and --chip-bbox need a scene: give its file as QUERY")
    from landcue.data.scenes import parse_bands
    from landcue.search.scene import ByScene
    from landcue.types import Window

    pixels = None
    if window is not None:
        try:
            col, row, width, height = (int(part) for part in window.split(","))
        except ValueError:
            raise UsageError(f"--window {window!r}: write COL,ROW,WIDTH,HEIGHT in pixels") from None
        pixels = Window(col, row, width, height)
    return ByScene(
        Path(query),
        pixels,
        None if bbox is None else _bounds(bbox, "--chip-bbox"),
        None if bands is None else parse_bands(bands),
        scale,
    )


def _score(text: str) -> tuple[str, float]:
    name, _, least = text.rpartition("=")
    try:
        return name.strip().rstrip(">").strip(), float(least)
    except ValueError:
        raise UsageError(f"--score {text!r}: write a label and 0 to 1, as ships=0.7") from None


def _query(
    searcher: Searcher,
    first: Example | None,
    positive: Sequence[str] | None,
    negative: Sequence[str] | None,
    rule: str,
    negative_weight: float,
) -> tuple[Query | None, ByteArray | None]:
    """Return what is asked for, and the pixels of a lone image."""
    from landcue.search.queries import ByPixels, Mix

    positives = (
        *(() if first is None else (first,)),
        *(_example(searcher, text) for text in positive or ()),
    )
    negatives = tuple(_example(searcher, text) for text in negative or ())
    if len(positives) > 1 or negatives:
        return Mix(positives, negatives, rule, negative_weight), None
    if not positives:
        return None, None
    only = positives[0]
    return only, only.pixels if isinstance(only, ByPixels) else None


def _name(query: str | None, positive: Sequence[str], negative: Sequence[str]) -> str | None:
    first = [] if query is None else [query]
    return " ".join([" + ".join([*first, *positive]), *(f"- {text}" for text in negative)]) or None


def _vector(path: Path) -> ByVector:
    """Read an embedding."""
    import numpy as np

    from landcue.search.queries import ByVector

    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, EOFError):
        found = None
    if not isinstance(found, np.ndarray):
        raise UsageError(f"{path} is no .npy file of numbers: write it with numpy.save")
    return ByVector(found)


def _example(searcher: Searcher, text: str) -> Example:
    """Take a record's id, or read an image file."""
    from landcue.data.images import read_image
    from landcue.data.objects import is_object, look_up
    from landcue.search.queries import ById, ByPixels

    if searcher.records.find(text) is not None:
        return ById(text)
    if is_object(Path(text)):
        return ByPixels(read_image(look_up(Path(text)), name=text))
    if not Path(text).is_file():
        from landcue.archive.archive import unknown_id

        raise UsageError(
            f"{text} is no image file, and {unknown_id(text, searcher.records.near_ids(text))}"
        )
    return ByPixels(read_image(Path(text)))


def _encoder(folder: Path | None) -> Encoder:
    if folder is None:
        raise UsageError("the archive holds no model: only its own records can be queries")
    from landcue.models.load import load_model

    return load_model(folder)


def draw(
    searcher: Searcher,
    image: ByteArray | None,
    title: str,
    result: SearchResult,
    out: Path,
) -> None:
    """Write a picture of the query and its hits; without an image the query is a record."""
    from landcue.search.grid import draw_grid

    own = image is None and searcher.records.find(title) is not None
    draw_grid(
        out,
        result.hits,
        searcher.archive.thumbnails(hit.id for hit in result.hits),
        query_title=title,
        query_image=searcher.archive.thumbnail(title) if own else image,
        query_labels=searcher.labels_of(title) if own else None,
        mode=result.mode,
    )
