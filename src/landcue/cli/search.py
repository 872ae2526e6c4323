"""``landcue search``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import (
    After,
    Before,
    Box,
    Datetime,
    Ids,
    Polygon,
    Sensors,
    Sources,
    interval_option,
    print_json,
    print_line,
    print_parts,
)
from landcue.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from landcue.search import Query, Result
    from landcue.search.query import Example
    from landcue.types import Region


def search(
    archive: Annotated[
        Path,
        typer.Argument(help="Archive folder, s3://bucket/prefix or milvus://host:port/collection."),
    ],
    query: Annotated[
        str | None,
        typer.Argument(
            help="Image file, s3:// address, or id of a record; optional with a filter."
        ),
    ] = None,
    vector: Annotated[
        Path | None, typer.Option(help="Embedding in a .npy file, instead of QUERY.")
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Of which space --vector is: archive (of its records), encoder (of its encoder "
            "itself), or the fingerprint of a model. Needed where embeddings were fitted."
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Description in words, for models with a text tower; repeatable."),
    ] = None,
    negative_text: Annotated[
        list[str] | None, typer.Option(help="Description to avoid; repeatable.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Number of hits.")] = 20,
    mode: Annotated[
        str,
        typer.Option(
            help="Search mode: auto, embedding, code, cue, two-stage, ann, fused, fused-code or "
            "regions."
        ),
    ] = "auto",
    positive: Annotated[
        list[str] | None, typer.Option(help="Additional positive example; repeatable.")
    ] = None,
    negative: Annotated[
        list[str] | None, typer.Option(help="Negative example; repeatable.")
    ] = None,
    rule: Annotated[
        str, typer.Option(help="How to combine examples: mean, rocchio, linear.")
    ] = "mean",
    negative_weight: Annotated[
        float, typer.Option(help="Weight of negative examples in rule mean.")
    ] = 0.5,
    window: Annotated[
        str | None,
        typer.Option(help="Search with this window of the scene QUERY, in pixels."),
    ] = None,
    chip_bbox: Annotated[
        str | None, typer.Option(help="Search with this box of the scene QUERY, in degrees.")
    ] = None,
    bands: Annotated[
        str | None,
        typer.Option(help="Bands of the chip, such as 4,3,2; by default those of the archive."),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help="Scaling of the chip, as for landcue index; by default the archive's."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Only records whose labels match: 'water and not ship'.")
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="Minimum predicted score of a label, such as ship=0.7; repeatable."),
    ] = None,
    bbox: Box = None,
    polygon: Polygon = None,
    datetime: Datetime = None,
    after: After = None,
    before: Before = None,
    path: Annotated[
        str | None, typer.Option(help="Only records whose path starts with this.")
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option(help="Only records of this group; repeatable.")
    ] = None,
    sensor: Sensors = None,
    source: Sources = None,
    ids: Ids = None,
    part: Annotated[
        list[str] | None,
        typer.Option(help="Only records of this part: train, val or test; repeatable."),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Leave out hits below this score.")
    ] = None,
    min_percentile: Annotated[
        float | None,
        typer.Option(
            help="Leave out hits below this percentile (0 to 100), a scale that images and texts "
            "share."
        ),
    ] = None,
    collapse: Annotated[
        float | None,
        typer.Option(help="Leave out near duplicates within this cosine distance, such as 0.02."),
    ] = None,
    label_weight: Annotated[int, typer.Option(help="Weight of a label bit in mode cue.")] = 1,
    shortlist: Annotated[
        int,
        typer.Option(
            help="Candidates that are compared exactly in modes two-stage, ann and fused, or "
            "ranked again by --rerank."
        ),
    ] = 200,
    recall: Annotated[
        float, typer.Option(help="Minimum measured recall of mode ann, 0 to 1.")
    ] = 0.95,
    rerank: Annotated[
        str, typer.Option(help="Re-rank the shortlist: none, alpha-qe or k-reciprocal.")
    ] = "none",
    fused_weight: Annotated[
        float | None,
        typer.Option(
            help="Weight of the labels in mode fused; measured on the archive by default."
        ),
    ] = None,
    cursor: Annotated[
        str | None, typer.Option(help="Return the page after this cursor, which --pages prints.")
    ] = None,
    pages: Annotated[
        bool, typer.Option("--pages", help="Print the cursor of the next page, if there is one.")
    ] = False,
    model: Annotated[
        Path | None, typer.Option(help="Model folder of a milvus:// collection, for image queries.")
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Explain the search.")] = False,
    grid: Annotated[Path | None, typer.Option(help="Image of the hits to write (.png).")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the hits as JSON.")] = False,
) -> None:
    """Find the records most similar to an image or a record.

    With only --labels, --bbox or other filters, list the matching records.
    """
    import landcue
    from landcue.search import Filter, SearchOptions

    if space is not None and vector is None:
        raise UsageError("--space is for --vector: leave it out")
    opened = landcue.open(archive, model=model)
    first = _first(query, vector, window, chip_bbox, bands, scale)
    where = Filter.parse(
        labels,
        scores=score or (),
        bbox=bbox,
        polygon=polygon,
        datetime=interval_option(datetime, after, before),
        path=path,
        groups=group or (),
        sensors=sensor or (),
        parts=part or (),
        sources=source or (),
        ids=() if ids is None else ids,
    )
    asked = _query(
        first, query or vector, positive or (), negative or (), rule, negative_weight,
        text or (), negative_text or (),
    )  # fmt: skip
    if asked is None and where.empty:
        raise UsageError(
            "nothing to search for: specify an image, a record's id, --text, or a filter"
        )
    options = SearchOptions(
        min_score=min_score,
        min_percentile=min_percentile,
        collapse=collapse,
        label_weight=label_weight,
        shortlist=shortlist,
        recall=recall,
        cursor=cursor,
        rerank=rerank,
        fused_weight=fused_weight,
    )
    result = opened.search(asked, k=k, mode=mode, where=where, space=space, options=options)
    if grid is not None:
        result.grid(grid)
    if json_:
        print_json(result.to_json(explain=explain))
        return
    _print(result, explain, rerank, pages=pages or cursor is not None)
    if grid is not None:
        print_line(f"picture: {grid}")


def _unit(mode: str, rerank: str) -> str:
    """Return the heading of the distances of a mode."""
    if mode in ("code", "cue"):
        return "bits"
    if mode in ("embedding", "two-stage", "ann", "regions") and rerank == "none":
        return "1-cosine"
    return {"place": "km", "list": ""}.get(mode, "distance")


def _print(result: Result, explain: bool, rerank: str, *, pages: bool) -> None:
    if result.note:
        print_line(result.note)
    if result.remark:
        print_line(result.remark)
    unit = _unit(result.mode, rerank)
    digits = ".4g" if unit in ("bits", "km") else "z.4f"
    if len(result):
        print_parts((f"  #  {unit:<9} {'id':<32} labels", {"dim": True}))
    for rank, (hit, annotated) in enumerate(zip(result, result.annotated, strict=True), start=1):
        labels: list[str | tuple[str, dict[str, Any]]] = []
        for name in hit.labels:
            shared = {"fg": "green", "bold": True} if name in hit.shared else {}
            labels += [", ", (name, shared)] if labels else [(name, shared)]
        guessed = " (predicted)" if hit.labels and not annotated else ""
        more = f"  (+{hit.near} alike)" if hit.near else ""
        distance = f"{hit.distance:{digits}}" if unit else ""
        start = f"{rank:>3}  {distance:<9} {hit.id:<32} "
        print_parts(start, *labels, f"{guessed}{more}")
        if hit.region is not None:
            print_line(f"     {_where(hit.region)}")
        if explain and hit.why is not None:
            parts = ", ".join(f"{name} {part:.3f}" for name, part in hit.why.items())
            print_line(f"     score {hit.score:.3f}: {parts}")
    if pages and result.cursor:
        print_line(f"next page: --cursor {result.cursor}")
    if explain and result.plan is not None:
        plan = result.plan
        print_line(
            f"mode {plan.mode}: {plan.why}; {plan.scanned} of {plan.allowed} allowed records "
            f"scanned ({plan.records} in all), {plan.reranked} ranked again; "
            f"{plan.milliseconds:.1f} ms"
        )
        if plan.recall is not None:
            print_line(f"measured recall {plan.recall:.3f}, {plan.lists} lists visited")


def _where(region: Region) -> str:
    if region.window is not None:
        at = region.window
        return f"at {at.col},{at.row},{at.width},{at.height} in pixels of the scene"
    left, top, right, bottom = (f"{100 * part:.0f} %" for part in region.box)
    return f"at {left} to {right} of the width, {top} to {bottom} of the height"


def _first(
    query: str | None,
    vector: Path | None,
    window: str | None,
    chip_bbox: str | None,
    bands: str | None,
    scale: str | None,
) -> Example | None:
    """Return the first example: a record or file, a chip, or a vector."""
    from landcue.search import Chip
    from landcue.search.query import read_vector

    if window is None and chip_bbox is None and (bands, scale) != (None, None):
        raise UsageError("--bands and --scale are for a chip: add --window or --chip-bbox")
    if vector is not None:
        if query is not None:
            raise UsageError("use QUERY or --vector, not both; --positive adds examples")
        return read_vector(vector)
    if window is None and chip_bbox is None:
        return query
    if query is None:
        raise UsageError("--window and --chip-bbox need a scene: use its file as QUERY")
    return Chip.parse(query, window=window, bbox=chip_bbox, bands=bands, scale=scale)


def _query(
    first: Example | None,
    name: str | Path | None,
    positive: Sequence[str],
    negative: Sequence[str],
    rule: str,
    negative_weight: float,
    texts: Sequence[str] = (),
    negative_texts: Sequence[str] = (),
) -> Query | None:
    from landcue.search import Query, Text
    from landcue.search.feedback import RULES

    if rule not in RULES:
        raise UsageError(f"unknown rule {rule!r}{did_you_mean(rule, RULES)}")
    positives = (*(() if first is None else (first,)), *positive, *map(Text, texts))
    negatives = (*negative, *map(Text, negative_texts))
    if not positives and not negatives:
        return None
    named = [*(() if name is None else (str(name),)), *positive, *(f'"{t}"' for t in texts)]
    avoided = (*negative, *(f'"{text}"' for text in negative_texts))
    title = " ".join([" + ".join(named), *(f"- {text}" for text in avoided)])
    return Query(positives, negatives, rule, negative_weight, title)
