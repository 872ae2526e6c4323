"""The ``landcue`` command. Verbs import what they need when they run: ``--help`` stays quick."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from landcue import __version__
from landcue.cli.verbs import Verbs
from landcue.errors import LandcueError

app = typer.Typer(
    name="landcue",
    cls=Verbs,
    help="Find look-alike places in an Earth-observation archive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        print(f"landcue {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find look-alike places in an Earth-observation archive."""


def main() -> None:
    """Run the command line: one-line errors, status 1 for failures and 2 for wrong usage."""
    try:
        app()
    except LandcueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            # The reader of our output left, as `head` does; there is nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        named = f"{error.filename}: " if error.filename else ""
        print(f"error: {named}{error.strerror or error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
