"""``landcue collection``: the collections of a service, as files."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from landcue.cli.console import Json, print_json, print_line
from landcue.errors import CollectionError, DataError, UsageError, counted

if TYPE_CHECKING:
    from landcue.server import Collections

collection_app = typer.Typer(
    name="collection",
    help="List, export and import collections of marked records.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Archive = Annotated[Path, typer.Argument(help="Archive folder.")]
_File = Annotated[
    Path, typer.Option("--collections", help="SQLite file of 'landcue serve --collections'.")
]


@collection_app.command("list")
def list_(
    archive: _Archive,
    collections: _File,
    json_: Json = False,
) -> None:
    """List the collections of an archive, the last changed first."""
    with _opened(collections) as kept:
        found = kept.list(archive.resolve().name)
    if json_:
        print_json(found)
        return
    for one in found:
        print_line(
            f"{one['id']}: {one['name']}, {counted(one['members'], 'record')}, {one['updated']}"
        )


@collection_app.command()
def export(
    archive: _Archive,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the collection.")],
    out: Annotated[Path, typer.Argument(help="JSON file to write.")],
    collections: _File,
) -> None:
    """Write a collection to a file.

    The file holds the images of its query and its saved searches, too.
    """
    import landcue
    from landcue.files import write_atomic
    from landcue.server import export_collection

    opened, name = landcue.open(archive), archive.resolve().name
    with _opened(collections) as kept:
        made = export_collection(kept, id_, opened)
    if made["archive"] != name:
        raise UsageError(f"collection {id_} is of archive {made['archive']!r}, not {name!r}")
    write_atomic(out, json.dumps(made, indent=1))
    print_line(f"exported {made['name']}: {counted(len(made['members']), 'record')}")


@collection_app.command("import")
def import_(
    archive: _Archive,
    path: Annotated[Path, typer.Argument(help="Exported collection.")],
    collections: _File,
) -> None:
    """Add a collection from a file.

    What the archive cannot use is named and left out.
    """
    import landcue
    from landcue.server import import_collection, read_collection

    given, opened = read_collection(path), landcue.open(archive)
    with _opened(collections, create=True) as kept:
        made, problems = import_collection(kept, opened, archive.resolve().name, given)
    print_line(
        f"imported {made['name']}: {counted(len(made['members']), 'record')}, id {made['id']}"
    )
    for problem in problems:
        print_line(f"error: {problem}", file=sys.stderr)
    if problems:
        raise typer.Exit(1)


@contextlib.contextmanager
def _opened(path: Path, *, create: bool = False) -> Generator[Collections]:
    from landcue.server import Collections

    if not create and not path.is_file():
        raise UsageError(f"--collections {path}: there is no such file")
    kept = Collections(path)
    kept.check()
    try:
        yield kept
    except CollectionError as error:
        raise DataError(f"{path}: {error}") from None
