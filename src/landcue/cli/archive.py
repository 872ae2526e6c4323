"""``landcue archive``: inspect, verify, repair and change archives."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from landcue.cli.archive_milvus import about_collection, damaged_collection, diff, push
from landcue.cli.console import (
    Batch,
    Dim,
    Fit,
    Json,
    Reporter,
    Workers,
    print_json,
    print_line,
    run_saved_searches,
)
from landcue.data.objects import shown
from landcue.errors import ArchiveError, UsageError, counted

archive_app = typer.Typer(name="archive", help="Manage archives.", no_args_is_help=True)

_Archive = Annotated[Path, typer.Argument(help="Archive folder, or s3://bucket/prefix.")]
_Anywhere = Annotated[
    Path,
    typer.Argument(help="Archive folder, s3://bucket/prefix or milvus://host:port/collection."),
]
_Yes = Annotated[
    bool, typer.Option("--yes", help="Apply the changes; by default only report them.")
]

archive_app.command()(push)
archive_app.command()(diff)


@archive_app.command()
def info(archive: _Anywhere, json_: Json = False) -> None:
    """Print the content, size and model of an archive."""
    from landcue.archive.changes import describe
    from landcue.search.opened import is_collection

    facts = about_collection(archive) if is_collection(archive) else describe(archive)
    if json_:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = [f"{key} ({text})" for key, text in value.items()]
        if value is not None:
            print_line(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


@archive_app.command()
def verify(archive: _Anywhere, json_: Json = False) -> None:
    """Compare every file and every record with its checksum.

    For a milvus:// collection, only count the records; 'landcue archive diff' compares them.
    """
    from landcue.archive.verify import verify_archive
    from landcue.search.opened import is_collection

    if is_collection(archive):
        import landcue

        with landcue.open(archive) as opened:
            records, problems = len(opened), opened.verify()
        damaged = damaged_collection(archive)
    else:
        found = verify_archive(archive)
        records, problems = found.records, found.problems
        damaged = (
            f"{shown(archive)} is damaged; 'landcue archive repair {shown(archive)}' reports what "
            "can be repaired"
        )
    if json_:
        print_json({"records": records, "problems": [str(problem) for problem in problems]})
    else:
        for problem in problems:
            print_line(problem)
        print_line(f"{counted(records, 'record')}, {counted(len(problems), 'problem')}")
    if problems:
        raise ArchiveError(damaged)


@archive_app.command()
def repair(
    archive: _Archive,
    yes: _Yes = False,
    model: Annotated[
        str | None,
        typer.Option(help="Folder of the archive's model, used to replace a damaged copy."),
    ] = None,
    json_: Json = False,
) -> None:
    """Repair an archive.

    Damaged records are encoded again, or dropped and listed.
    """
    from dataclasses import asdict

    from landcue.archive.indexing import repair_archive

    report = repair_archive(archive, apply=yes, model=model)
    if json_:
        print_json({"archive": shown(archive), "applied": yes, **asdict(report)})
    else:
        _print_repair(report, archive, yes)
    if report.problems and not yes:
        raise ArchiveError("nothing was changed; add --yes to apply the changes")
    if report.left:
        raise ArchiveError(f"{shown(archive)} is still damaged; see above")


def _print_repair(report: Any, archive: Path, yes: bool) -> None:
    if not report.problems:
        print_line(f"{shown(archive)}: nothing to repair")
    for problem in report.problems:
        print_line(f"problem: {problem}")
    for what in report.repaired:
        print_line(f"{'repaired' if yes else 'would repair'}: {what}")
    for id_ in report.encoded:
        print_line(f"{'encoded' if yes else 'would encode'} again: {id_}")
    for id_ in report.dropped:
        print_line(f"{'dropped' if yes else 'would drop'}: {id_}")
    if report.lost:
        print_line(f"{counted(report.lost, 'record')} lost; the ids cannot be read")
    for what in report.left:
        print_line(f"left: {what}")
    if yes and (report.dropped or report.lost):
        print_line("run 'landcue index' with the same source to add the dropped records again")
    print_line(f"{shown(archive)}: {counted(report.records, 'record')}")


@archive_app.command()
def compact(archive: _Archive, json_: Json = False) -> None:
    """Merge small files and remove old versions.

    Deleted records are removed from the disk with the old versions.
    """
    from dataclasses import asdict

    from landcue.archive.changes import compact as tidy

    before, after = tidy(archive)
    if json_:
        print_json({"archive": shown(archive), "before": asdict(before), "after": asdict(after)})
        return
    for name, size in (("before", before), ("after", after)):
        parts = counted(size.files, "file"), counted(size.versions, "version")
        print_line(f"{name:<7} {', '.join(parts)}, {size.bytes / 1e6:,.1f} MB")
    if after.versions > 1:
        print_line("old versions are kept while a process reads the archive")


@archive_app.command()
def delete(
    archive: _Archive,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of records.")] = None,
    file: Annotated[
        Path | None, typer.Option("--ids", help="Text file with one id per line; - for stdin.")
    ] = None,
    yes: _Yes = False,
    json_: Json = False,
) -> None:
    """Delete records; their images are kept.

    The next 'landcue index' adds them again.
    Run 'landcue archive compact' to remove them from the disk, too.
    """
    from dataclasses import asdict

    from landcue.archive.changes import delete as remove
    from landcue.search.filters import read_ids

    wanted = dict.fromkeys(ids or ())
    if file is not None:
        wanted |= dict.fromkeys(read_ids(file))
    if not wanted:
        raise UsageError("no ids: name them, or use --ids FILE")
    report = remove(archive, list(wanted), apply=yes)
    if json_:
        print_json({"archive": shown(archive), "applied": yes, **asdict(report)})
    else:
        for id_ in report.missing:
            print_line(f"no record has the id {id_!r}", file=sys.stderr)
        what, left = ("deleted", "remain") if yes else ("would delete", "would remain")
        gone = counted(report.deleted, "record")
        print_line(f"{shown(archive)}: {what} {gone}, {report.records:,} {left}")
    if not yes:
        raise ArchiveError("nothing was changed; add --yes to apply the changes")


@archive_app.command()
def reembed(
    archive: _Archive,
    model: Annotated[
        str | None,
        typer.Option(
            help="New model, as for landcue index; by default the archive's own, whose "
            "embeddings, codes and labels are fitted again."
        ),
    ] = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="Drop records whose image cannot be read.")
    ] = False,
    dim: Dim = None,
    bits: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Length in bits of the code fitted to the images; by default chosen by "
            "measured recall.",
        ),
    ] = None,
    fit: Fit = True,
    regions: Annotated[
        int | None,
        typer.Option(
            min=0, help="Regions per side, for mode regions; 0 removes them; by default as indexed."
        ),
    ] = None,
    bands: Annotated[
        str | None, typer.Option(help="Bands of chips, such as 4,3,2; by default as indexed.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(help="How raster values are scaled to 8 bits; by default as indexed."),
    ] = None,
    nodata: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Maximum fraction of nodata pixels, 0 to 1; by default as indexed.",
        ),
    ] = None,
    batch: Batch = 64,
    workers: Workers = None,
    device: Annotated[str, typer.Option(help="Device of the model: cpu, cuda, cuda:1.")] = "cpu",
    json_: Json = False,
) -> None:
    """Encode all records again, with another model or a new fit.

    Searches use the old one until all are encoded. Saved searches are converted
    where only what was fitted to the archive changes.
    """
    from landcue.archive.indexing import reembed_archive

    with Reporter() as reporter:
        report = reembed_archive(
            archive,
            model,
            drop_missing=drop_missing,
            dim=dim,
            bits=bits,
            fit=fit,
            regions=regions,
            bands=bands,
            scale=scale,
            nodata=nodata,
            batch_size=batch,
            workers=workers,
            device=device,
            progress=reporter.progress,
            notify=reporter.message,
        )
    if json_:
        facts = {"records": report.records, "dropped": list(report.dropped)}
        facts |= {
            "old": report.old,
            "new": report.new,
            "ingests": [one.to_json() for one in report.ingests],
        }
        print_json({"archive": shown(archive), **facts})
    else:
        for id_ in report.dropped:
            print_line(f"dropped: {id_}")
        print_line(
            f"{shown(archive)}: {counted(report.records, 'record')} now by model {report.new[:12]}"
        )
    run_saved_searches(archive)


@archive_app.command()
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
    json_: Json = False,
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
        print_line(f"{counted(opened.count, 'record')}: {', '.join(written.values())}")


@archive_app.command("import")
def import_(
    table: Annotated[Path, typer.Argument(help="Parquet table of embeddings.")],
    archive: Annotated[Path, typer.Argument(help="Archive folder to create.")],
    embedding: Annotated[str, typer.Option(help="Column of embeddings (lists of floats).")],
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", help="Column of ids; by default unique_id or id, or else row numbers."
        ),
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
    json_: Json = False,
) -> None:
    """Create an archive from a table of precomputed embeddings."""
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
            progress=lambda done, total: reporter.progress("importing", done, total),
        )
        for problem in report.skipped:
            reporter.message(f"skipped {problem}")
    if json_:
        print_json({"archive": str(archive), **report.to_json()})
        return
    records = counted(report.records, "record")
    print_line(
        f"{archive}: {records} of {report.dim} values and {report.n_bits} bits; "
        f"{report.added:,} added, {counted(len(report.skipped), 'problem')}"
    )
    if report.normalized:
        low, high = report.least_norm, report.largest_norm
        print_line(f"embeddings had norms {low:.4g} to {high:.4g} and were scaled to norm 1")
