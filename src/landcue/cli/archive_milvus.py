"""``landcue archive push`` and ``diff``: archives in Milvus collections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from landcue.cli.console import Reporter, print_json
from landcue.errors import ArchiveError

if TYPE_CHECKING:
    from landcue.milvus.diff import DiffReport

_SHOWN = 20

_Archive = Annotated[Path, typer.Argument(help="Archive folder.")]
_Collection = Annotated[
    str, typer.Argument(metavar="milvus://HOST:PORT/COLLECTION", help="Where it goes.")
]
_Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def push(
    archive: _Archive,
    collection: _Collection,
    index: Annotated[
        str | None,
        typer.Option(help="Of a new collection: flat compares all, ivf also answers mode ann."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Records written at a time.")] = 4_096,
    json_: _Json = False,
) -> None:
    """Write an archive, or what changed in it, into a Milvus collection; run again to resume."""
    import time
    from dataclasses import asdict

    from landcue.archive.archive import Archive
    from landcue.milvus.address import Address
    from landcue.milvus.push import push as write

    address = Address.parse(collection)
    started = time.monotonic()
    with Reporter() as reporter:
        report = write(Archive.open(archive), address, index=index, rows=batch, tick=reporter.tick)
    seconds = time.monotonic() - started
    if json_:
        facts = {"seconds": round(seconds, 3), **asdict(report)}
        print_json({"archive": str(archive), "collection": str(address), **facts})
        return
    print(
        f"{address}: {report.records} records; {report.added} added, {report.changed} changed, "
        f"{report.removed} removed, in {seconds:.1f} s"
    )


def diff(
    archive: _Archive,
    collection: Annotated[
        str, typer.Argument(metavar="milvus://HOST:PORT/COLLECTION", help="Compared with it.")
    ],
    json_: _Json = False,
) -> None:
    """Compare an archive with a Milvus collection, record by record; status 1 if they differ."""
    from dataclasses import asdict

    from landcue.archive.archive import Archive
    from landcue.milvus.address import Address
    from landcue.milvus.diff import diff as compare

    address = Address.parse(collection)
    with Reporter() as reporter:
        report = compare(
            Archive.open(archive),
            address,
            tick=lambda done, total: reporter.tick("comparing", done, total),
        )
    if json_:
        facts = {"same": report.same, **asdict(report)}
        print_json({"archive": str(archive), "collection": str(address), **facts})
    else:
        _print_diff(report)
    if not report.same:
        raise ArchiveError(
            f"{address} is not what {archive} is: run 'landcue archive push {archive} {address}'"
        )


def _print_diff(report: DiffReport) -> None:
    for name in ("missing", "extra", "different"):
        ids: list[str] = getattr(report, name)
        for id_ in ids[:_SHOWN]:
            print(f"{name}: {id_}")
        if len(ids) > _SHOWN:
            print(f"{name}: … and {len(ids) - _SHOWN} more (--json lists all)")
    print(
        f"{report.records} records: {len(report.missing)} missing, {len(report.extra)} extra, "
        f"{len(report.different)} different" + ("" if report.complete else "; pushed in part")
    )


def about_collection(path: Path) -> dict[str, Any]:
    """Return what a collection holds and which model made it.

    Raises:
        ArchiveError: The server cannot be used, or there is no such collection.
    """
    from landcue.milvus.address import Address
    from landcue.milvus.link import Link, missing
    from landcue.milvus.pushed import FORMAT, ManifestStore

    address = Address.parse(path)
    link = Link(address)
    try:
        pushed = ManifestStore(link).read()
        if pushed is None:
            raise missing(address)
        manifest, layout = pushed.manifest, pushed.layout
        return {
            "archive": str(address),
            "format": FORMAT,
            "state": pushed.state,
            "records": pushed.records,
            "model": manifest.model.get("name"),
            "fingerprint": manifest.fingerprint,
            "dim": manifest.dim,
            "n_bits": manifest.n_bits,
            "labels": list(manifest.label_names),
            "source": manifest.source_root,
            "pushed from": pushed.source,
            "created": manifest.created,
            "updated": manifest.updated,
            "landcue": manifest.landcue,
            "version": pushed.version,
            "index": layout.index,
            "collections": [*layout.names, f"{layout.name}_manifest"],
        }
    finally:
        link.close()


def count_collection(path: Path, json_: bool) -> None:
    """Count the records of a collection, and print what is wrong.

    Raises:
        ArchiveError: The server cannot be used, or a count is wrong.
    """
    from landcue.milvus.address import Address
    from landcue.milvus.archive import MilvusArchive

    opened = MilvusArchive.connect(Address.parse(path))
    problems = [str(problem) for problem in opened.verify()]
    if json_:
        print_json({"records": opened.count, "problems": problems})
    else:
        for problem in problems:
            print(problem)
        print(f"{opened.count} records, {len(problems)} problems")
    opened.close()
    if problems:
        raise ArchiveError(
            f"{opened.address} is damaged: push its archive again ({opened.pushed.source})"
        )
