"""``landcue archive export`` and ``import``: tables of embeddings."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json
from landcue.errors import UsageError


def export(
    archive: Annotated[Path, typer.Argument(help="Archive folder.")],
    geoparquet: Annotated[Path | None, typer.Option(help="Write GeoParquet 1.1.")] = None,
    geojson: Annotated[Path | None, typer.Option(help="Write a GeoJSON collection.")] = None,
    stac: Annotated[Path | None, typer.Option(help="Write a STAC item collection.")] = None,
    no_vectors: Annotated[
        bool, typer.Option("--no-vectors", help="Leave out embeddings and codes.")
    ] = False,
    time: Annotated[
        datetime | None,
        typer.Option(
            "--datetime",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="UTC, for STAC items of records without a time.",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Write the records for other tools."""
    from landcue.archive.archive import ArchiveFolder
    from landcue.archive.export import write_geojson, write_geoparquet, write_stac

    wanted = {"geoparquet": geoparquet, "geojson": geojson, "stac": stac}
    if not any(wanted.values()):
        raise UsageError("nothing to write: give --geoparquet, --geojson or --stac FILE")
    opened = ArchiveFolder.open(archive)
    with Reporter() as reporter:

        def tick(done: int, total: int) -> None:
            reporter.tick("exporting", done, total)

        vectors = not no_vectors
        if geoparquet is not None:
            write_geoparquet(opened, geoparquet, vectors=vectors, progress=tick)
        if geojson is not None:
            write_geojson(opened, geojson, vectors=vectors, progress=tick)
        if stac is not None:
            write_stac(opened, stac, vectors=vectors, time=time, progress=tick)
    written = {kind: str(path) for kind, path in wanted.items() if path is not None}
    if json_:
        print_json({"archive": str(archive), "records": opened.count, "written": written})
    else:
        print(f"{opened.count} records: {', '.join(written.values())}")


def import_(
    table: Annotated[Path, typer.Argument(help="Parquet table of embeddings.")],
    archive: Annotated[Path, typer.Argument(help="Archive folder to make.")],
    embedding: Annotated[str, typer.Option(help="Column of embeddings (lists of floats).")],
    id_: Annotated[
        str | None,
        typer.Option("--id", help="Column of ids; unique_id or id by default, else row numbers."),
    ] = None,
    geometry: Annotated[
        str | None, typer.Option(help="Column of footprints (WKB, longitude and latitude).")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Column of packed codes (bytes).")] = None,
    bits: Annotated[int | None, typer.Option(min=1, help="Bits of a code.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of timestamps.")] = None,
    labels: Annotated[str | None, typer.Option(help="Column of lists of labels.")] = None,
    path: Annotated[str | None, typer.Option(help="Column of image paths or addresses.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of scenes or products.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Make an archive of embeddings that others computed."""
    from landcue.archive.import_columns import ImportColumns
    from landcue.archive.importing import import_table

    columns = ImportColumns(
        embedding=embedding,
        id=id_,
        geometry=geometry,
        code=code,
        bits=bits,
        time=time,
        labels=labels,
        path=path,
        group=group,
    )
    with Reporter() as reporter:
        report = import_table(
            table,
            archive,
            columns,
            progress=lambda done, total: reporter.tick("importing", done, total),
        )
        for problem in report.skipped:
            reporter.say(f"skipped {problem}")
    if json_:
        print_json({"archive": str(archive), **report.to_json()})
        return
    print(
        f"{archive}: {report.records} records of {report.dim} values and {report.n_bits} bits; "
        f"{report.added} added, {len(report.skipped)} problems"
    )
    if report.normalized:
        low, high = report.least_norm, report.largest_norm
        print(f"embeddings had lengths {low:.4g} to {high:.4g} and were scaled to length 1")
