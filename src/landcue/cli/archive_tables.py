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
    geoparquet: Annotated[Path | None, typer.Option(help="GeoParquet 1.1 file to write.")] = None,
    geojson: Annotated[Path | None, typer.Option(help="GeoJSON file to write.")] = None,
    stac: Annotated[
        Path | None, typer.Option(help="STAC item collection to write (.json).")
    ] = None,
    no_vectors: Annotated[
        bool, typer.Option("--no-vectors", help="Leave out embeddings and codes.")
    ] = False,
    time: Annotated[
        datetime | None,
        typer.Option(
            "--datetime",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="UTC time for STAC items of records without a time.",
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Export the records to GeoParquet, GeoJSON or STAC."""
    from landcue.archive.archive import ArchiveFolder
    from landcue.archive.export import write_geojson, write_geoparquet, write_stac

    wanted = {"geoparquet": geoparquet, "geojson": geojson, "stac": stac}
    if not any(wanted.values()):
        raise UsageError("nothing to write: use --geoparquet, --geojson or --stac FILE")
    opened = ArchiveFolder.open(archive)
    with Reporter() as reporter:

        def report(done: int, total: int) -> None:
            reporter.progress("exporting", done, total)

        vectors = not no_vectors
        if geoparquet is not None:
            write_geoparquet(opened, geoparquet, vectors=vectors, progress=report)
        if geojson is not None:
            write_geojson(opened, geojson, vectors=vectors, progress=report)
        if stac is not None:
            write_stac(opened, stac, vectors=vectors, time=time, progress=report)
    written = {kind: str(path) for kind, path in wanted.items() if path is not None}
    if json_:
        print_json({"archive": str(archive), "records": opened.count, "written": written})
    else:
        print(f"{opened.count} records: {', '.join(written.values())}")


def import_(
    table: Annotated[Path, typer.Argument(help="Parquet table of embeddings.")],
    archive: Annotated[Path, typer.Argument(help="Archive folder to create.")],
    embedding: Annotated[str, typer.Option(help="Column of embeddings (lists of floats).")],
    id_: Annotated[
        str | None,
        typer.Option("--id", help="Column of ids; unique_id or id by default, else row numbers."),
    ] = None,
    geometry: Annotated[
        str | None, typer.Option(help="Column of footprints (WKB, longitude and latitude).")
    ] = None,
    code: Annotated[str | None, typer.Option(help="Column of packed codes (bytes).")] = None,
    bits: Annotated[
        int | None, typer.Option(min=1, help="Bits per code; by default 8 per byte.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="Column of timestamps.")] = None,
    labels: Annotated[str | None, typer.Option(help="Column of lists of labels.")] = None,
    path: Annotated[str | None, typer.Option(help="Column of image paths or addresses.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of scenes or products.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Create an archive from a table of precomputed embeddings."""
    from landcue.archive.importing import ImportColumns, import_table

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
            progress=lambda done, total: reporter.progress("importing", done, total),
        )
        for problem in report.skipped:
            reporter.message(f"skipped {problem}")
    if json_:
        print_json({"archive": str(archive), **report.to_json()})
        return
    print(
        f"{archive}: {report.records} records of {report.dim} values and {report.n_bits} bits; "
        f"{report.added} added, {len(report.skipped)} problems"
    )
    if report.normalized:
        low, high = report.least_norm, report.largest_norm
        print(f"embeddings had norms {low:.4g} to {high:.4g} and were scaled to norm 1")
