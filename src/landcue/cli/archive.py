"""``landcue archive``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import print_json
from landcue.errors import ArchiveError

archive_app = typer.Typer(name="archive", help="Look after archives.", no_args_is_help=True)

_Archive = Annotated[Path, typer.Argument(help="Archive folder.")]
_Json = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@archive_app.command()
def info(archive: _Archive, json_: _Json = False) -> None:
    """Say what an archive holds and which model made it."""
    from landcue.archive.archive import Archive

    opened = Archive.open(archive)
    manifest = opened.manifest
    facts = {
        "archive": str(archive),
        "records": opened.count,
        "fingerprint": manifest.fingerprint,
        "dim": manifest.dim,
        "n_bits": manifest.n_bits,
        "labels": list(manifest.label_names),
        "source": manifest.source_root,
        "created": manifest.created,
        "updated": manifest.updated,
    }
    if json_:
        print_json(facts)
        return
    for name, value in facts.items():
        print(f"{name:<12} {', '.join(value) if isinstance(value, list) else value}")


@archive_app.command()
def verify(archive: _Archive, json_: _Json = False) -> None:
    """Read every record and compare it with its checksum."""
    from landcue.archive.archive import Archive

    opened = Archive.open(archive)
    problems = [str(problem) for problem in opened.verify()]
    if json_:
        print_json({"records": opened.count, "problems": problems})
    else:
        for problem in problems:
            print(problem)
        print(f"{opened.count} records, {len(problems)} problems")
    if problems:
        raise ArchiveError(
            f"{archive} is damaged; restore it from a copy, or index the images into a new folder"
        )
