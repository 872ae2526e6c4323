"""``landcue watch``: saved searches."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landcue.cli.console import (
    After,
    Before,
    Box,
    Datetime,
    Json,
    Polygon,
    Sensors,
    Sources,
    interval_option,
    print_json,
    print_line,
)
from landcue.errors import UsageError

if TYPE_CHECKING:
    from landcue.search.watch import Watch

watch_app = typer.Typer(
    name="watch",
    help="Save searches; report each new record that matches once.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Archive = Annotated[Path, typer.Argument(help="Archive folder.")]
_Collection = Annotated[
    str | None, typer.Option(help="Id of the collection of the service that it belongs to.")
]


@watch_app.command()
def add(
    archive: _Archive,
    name: Annotated[str, typer.Argument(help="Name of the saved search.")],
    query: Annotated[
        str | None, typer.Argument(help="Image file or id of a record; optional with a filter.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Description in words, for models with a text tower.")
    ] = None,
    percentile: Annotated[
        float,
        typer.Option(
            help="How close a hit must be: closer than this percentage of the distances between "
            "the archive's records and their nearest neighbors. Larger is stricter."
        ),
    ] = 5.0,
    min_score: Annotated[
        float | None, typer.Option(help="Minimum cosine similarity, instead of --percentile.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Only records whose labels match.")] = None,
    bbox: Box = None,
    polygon: Polygon = None,
    datetime: Datetime = None,
    after: After = None,
    before: Before = None,
    sensor: Sensors = None,
    source: Sources = None,
    collection: _Collection = None,
    json_: Json = False,
) -> None:
    """Save a search; only records that are added later are reported."""
    import landcue
    from landcue.search.filters import Filter
    from landcue.search.query import Text

    if query is not None and text is not None:
        raise UsageError("use an image or --text, not both")
    opened = landcue.open(archive)
    asked = query if text is None else Text(text)
    saved = opened.watches.add(
        name,
        None if asked is None else opened.embed(asked),
        query=query or text or "",
        where=Filter.parse(
            labels, bbox=bbox, polygon=polygon, datetime=interval_option(datetime, after, before),
            sensors=sensor or (), sources=source or (),
        ),
        percentile=percentile,
        min_score=min_score,
        collection=collection,
        search=None if text is None else {"text": text},
    )  # fmt: skip
    if json_:
        print_json(asdict(saved))
    else:
        print_line(f"saved {saved.name}: {_condition(saved)}")


def _condition(watch: Watch) -> str:
    """Return which new records are hits of a saved search."""
    if watch.min_score <= -1:
        return "every new record that matches the filters"
    return f"scores of at least {watch.min_score:.4f}"


@watch_app.command("list")
def list_(archive: _Archive, collection: _Collection = None, json_: Json = False) -> None:
    """List saved searches, or those of a collection."""
    import landcue

    watches = landcue.open(archive).watches.list(collection)
    if json_:
        print_json([asdict(watch) for watch in watches])
        return
    for watch in watches:
        facts = f"{watch.hits:,} hits, {_condition(watch)}"
        problem = f"; {watch.problem}" if watch.problem else ""
        print_line(f"{watch.name}: {watch.query or 'filter'}, {facts}{problem}")


@watch_app.command()
def run(
    archive: _Archive,
    out: Annotated[
        Path | None, typer.Option(help="JSON Lines file to write with all hits so far.")
    ] = None,
    feed: Annotated[
        Path | None, typer.Option(help="Atom feed to write with all hits so far.")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(help="Print all hits after this number instead of the hits of this run."),
    ] = None,
) -> None:
    """Evaluate saved searches on new records; print new hits.

    Hits are printed as JSON lines, after they were stored. Print them again with --after NUMBER.
    """
    import landcue
    from landcue.files import write_atomic
    from landcue.search import write_feed, write_json_lines

    watches = landcue.open(archive).watches
    report = watches.run()
    if out is not None:
        write_atomic(out, write_json_lines(watches.hits()))
    if feed is not None:
        write_atomic(feed, write_feed(watches.hits(), str(archive)))
    print(write_json_lines(report.hits if after is None else watches.hits(after)), end="")
    if after is None and not report.hits and not report.problems:
        print_line("no new hits", file=sys.stderr)
    for problem in report.problems:
        print_line(f"error: {problem}", file=sys.stderr)
    if report.problems:
        raise typer.Exit(1)


@watch_app.command()
def remove(
    archive: _Archive, name: Annotated[str, typer.Argument(help="Name of the saved search.")]
) -> None:
    """Remove a saved search and its hits."""
    import landcue

    landcue.open(archive).watches.remove(name)
    print_line(f"removed {name}")


@watch_app.command()
def export(
    archive: _Archive,
    out: Annotated[Path, typer.Argument(help="JSON file to write.")],
    collection: _Collection = None,
) -> None:
    """Write saved searches to a file.

    The file holds the embeddings of their queries, too.
    """
    import json

    import landcue
    from landcue.files import write_atomic
    from landcue.server import export_watches

    made = export_watches(landcue.open(archive), collection)
    write_atomic(out, json.dumps(made, indent=1))
    print_line(f"exported {_count(len(made['watches']))}")


@watch_app.command("import")
def import_(
    archive: _Archive,
    path: Annotated[Path, typer.Argument(help="Exported saved searches, or collection.")],
) -> None:
    """Save the searches of a file in an archive of the same model."""
    import landcue
    from landcue.server import import_watches, read_watches

    watches = read_watches(path).watches
    problems = import_watches(landcue.open(archive), watches)
    print_line(f"imported {_count(len(watches) - len(problems))}")
    for problem in problems:
        print_line(f"error: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


def _count(n: int) -> str:
    return f"{n:,} saved search{'' if n == 1 else 'es'}"
