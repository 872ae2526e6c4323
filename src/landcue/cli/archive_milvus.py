"""``landcue archive push`` and ``diff``: archives in Milvus collections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Json, Reporter, print_json, print_line
from landcue.errors import ArchiveError, counted

if TYPE_CHECKING:
    from landcue.milvus import DiffReport

_SHOWN = 20

_Archive = Annotated[Path, typer.Argument(help="Archive folder.")]
_Collection = Annotated[
    str, typer.Argument(metavar="milvus://HOST:PORT/COLLECTION", help="Milvus collection to write.")
]


def push(
    archive: _Archive,
    collection: _Collection,
    index: Annotated[
        str | None,
        typer.Option(help="Index of a new collection: flat is exact; ivf also allows mode ann."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Records per batch.")] = 4_096,
    json_: Json = False,
) -> None:
    """Write an archive, or its changes, to a Milvus collection.

    Run the command again to resume.
    """
    import time
    from dataclasses import asdict

    import landcue
    from landcue.milvus import Address

    address = Address.parse(collection)
    started = time.monotonic()
    with Reporter() as reporter:
        report = landcue.open(archive).push(
            collection, index=index, rows=batch, progress=reporter.progress
        )
    seconds = time.monotonic() - started
    if json_:
        facts = {"seconds": round(seconds, 3), **asdict(report)}
        print_json({"archive": str(archive), "collection": str(address), **facts})
        return
    print_line(
        f"{address}: {counted(report.records, 'record')}; {report.added:,} added, "
        f"{report.changed:,} changed, {report.removed:,} removed, in {seconds:.1f} s"
    )


def diff(
    archive: _Archive,
    collection: Annotated[
        str,
        typer.Argument(
            metavar="milvus://HOST:PORT/COLLECTION", help="Milvus collection to compare with."
        ),
    ],
    json_: Json = False,
) -> None:
    """Compare an archive with a Milvus collection, record by record.

    The status is 1 if they differ.
    """
    from dataclasses import asdict

    import landcue
    from landcue.milvus import Address

    address = Address.parse(collection)
    with Reporter() as reporter:
        report = landcue.open(archive).diff(
            collection, progress=lambda done, total: reporter.progress("comparing", done, total)
        )
    if json_:
        facts = {"same": report.same, **asdict(report)}
        print_json({"archive": str(archive), "collection": str(address), **facts})
    else:
        _print_diff(report)
    if not report.same:
        raise ArchiveError(
            f"{address} differs from {archive}: run 'landcue archive push {archive} {address}'"
        )


def _print_diff(report: DiffReport) -> None:
    for name in ("missing", "extra", "different"):
        ids: list[str] = getattr(report, name)
        for id_ in ids[:_SHOWN]:
            print_line(f"{name}: {id_}")
        if len(ids) > _SHOWN:
            print_line(f"{name}: … and {len(ids) - _SHOWN} more (--json lists all)")
    print_line(
        f"{report.records} records: {len(report.missing)} missing, {len(report.extra)} extra, "
        f"{len(report.different)} different"
        + ("" if report.complete else "; the push is incomplete")
    )


def about_collection(collection: Path) -> dict[str, Any]:
    """Return the facts about a collection to print."""
    from landcue.milvus import describe_collection

    return describe_collection(collection)


def damaged_collection(collection: Path) -> str:
    """Return the line that says that a collection is damaged, and what to do."""
    facts = about_collection(collection)
    return f"{facts['archive']} is damaged: push its archive again ({facts['pushed from']})"
