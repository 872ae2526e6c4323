"""``landcue change``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Box, Polygon, Sensors, print_json, print_line
from landcue.data.names import printable
from landcue.errors import UsageError


def change(
    archive: Annotated[Path, typer.Argument(help="Archive folder.")],
    before: Annotated[
        str,
        typer.Option(
            help="Compare the latest record of each place before this year, month or day (2013, "
            "2013-06), or within an interval (2012/2013)."
        ),
    ],
    after: Annotated[
        str,
        typer.Option(
            help="Compare the earliest record of each place from this date on, or within an "
            "interval (2018/2019)."
        ),
    ],
    other: Annotated[
        Path | None, typer.Option(help="Archive of the later date, if it is not the same.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Only records of both dates whose labels match.")
    ] = None,
    labels_before: Annotated[
        str | None, typer.Option(help="Labels of the earlier record: 'field and not buildings'.")
    ] = None,
    labels_after: Annotated[str | None, typer.Option(help="Labels of the later record.")] = None,
    gained: Annotated[
        list[str] | None, typer.Option(help="Label that was gained; repeatable.")
    ] = None,
    lost: Annotated[list[str] | None, typer.Option(help="Label that was lost; repeatable.")] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="Rank by how much the predicted score of this label rose or fell, joined with "
            "how unusual the difference is."
        ),
    ] = None,
    bbox: Box = None,
    polygon: Polygon = None,
    sensor: Sensors = None,
    unchanged: Annotated[
        str | None,
        typer.Option(
            help="Two dates between which most places did not change, to calibrate on: 2010/2012; "
            "by default all compared pairs."
        ),
    ] = None,
    scoring: Annotated[
        str,
        typer.Option(
            help="trained (on synthetic pairs, built-in encoder), measured (on the compared "
            "pairs), both, or auto: both if possible, or else measured."
        ),
    ] = "auto",
    alpha: Annotated[
        float, typer.Option(help="False alarm rate on unchanged pairs; 1 returns all pairs.")
    ] = 0.05,
    min_overlap: Annotated[
        float, typer.Option(help="Minimum overlap of footprints that are not grid cells, 0 to 1.")
    ] = 0.5,
    k: Annotated[int, typer.Option("-k", help="Number of pairs to print.")] = 20,
    out: Annotated[
        Path | None, typer.Option(help="File to write with all pairs (.geojson, .parquet or .csv).")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print all pairs as JSON.")] = False,
) -> None:
    """Find places whose images differ more than those of unchanged places do."""
    import landcue
    from landcue.search.changes import check_table
    from landcue.search.filters import Filter

    if out is not None:
        check_table(out)
    if k < 1:
        raise UsageError(f"-k {k}: use at least 1")
    where = Filter.parse(labels, bbox=bbox, polygon=polygon, sensors=sensor or ())
    changes = landcue.open(archive).change(
        before=before,
        after=after,
        where=where,
        labels_before=labels_before,
        labels_after=labels_after,
        gained=gained or (),
        lost=lost or (),
        by=by,
        unchanged=unchanged,
        other=None if other is None else landcue.open(other),
        scoring=scoring,
        alpha=alpha,
        min_overlap=min_overlap,
    )
    if out is not None:
        changes.write(out)
    if json_:
        print_json(changes.to_json())
        return
    print_line(changes.summary)
    for note in changes.facts.notes:
        print_line(note)
    if len(changes):
        print_line(f"{'':>3}  {'p':<8} {'z':>6}  {'later record':<44} {'dates':<21}  labels")
    for rank, one in enumerate(changes[:k], start=1):
        gains = [*(f"+{name}" for name in one.gained), *(f"-{name}" for name in one.lost)]
        if one.rise is not None:
            gains.insert(0, f"{by} {one.rise:+.2f}")
        dates = f"{one.before_datetime:%Y-%m-%d} {one.after_datetime:%Y-%m-%d}"
        id_ = printable(one.after if len(one.after) <= 44 else f"…{one.after[-43:]}")
        print_line(f"{rank:>3}  {one.p:<8.4f} {one.z:>6.1f}  {id_:<44} {dates}  {' '.join(gains)}")
    if len(changes) > k:
        print_line(f"{len(changes) - k:,} more: -k, --out or --json")
    if out is not None:
        print_line(f"{out}: {len(changes):,} pairs")
