"""``landcue demo``."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from landcue.cli.console import Reporter, print_json, print_text


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder for all outputs.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=140, help="Number of synthetic images.")] = 600,
    epochs: Annotated[int, typer.Option(min=1, help="Training epochs.")] = 20,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    serve: Annotated[
        bool | None,
        typer.Option(
            "--serve/--no-serve",
            help="Serve the web page at the end, until Ctrl-C; by default only on a terminal.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the web page; by default 8000, or another one if it is in use.",
        ),
    ] = None,
) -> None:
    """Run everything once on a synthetic archive: render, train, index, evaluate, search, serve.

    The built-in encoder, which was not trained on such images, is measured for comparison.
    """
    from landcue.cli.demo import is_interactive, show
    from landcue.demo import run_demo

    with Reporter() as reporter:
        made = run_demo(
            folder,
            images=images,
            epochs=epochs,
            message=reporter.message,
            progress=reporter.progress,
        )
    if json_:
        print_json(made.to_json())
    else:
        print_text("\n" + made.to_text())
    if serve or (serve is None and not json_ and is_interactive()):
        show((made.archive, made.builtin_archive), port, folder / "collections.sqlite")


HOST = "127.0.0.1"
PORT = 8000


def is_interactive() -> bool:
    """Return whether standard input and output are terminals; serving would block a script."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def show(archives: Sequence[Path], port: int | None, collections: Path) -> None:
    """Serve archives on the loopback address until Ctrl-C; open the page if there is a display.

    Args:
        archives: Their folders; the first is shown first.
        port: ``None`` for 8000, or a free one if 8000 is in use.
        collections: File for collections made on the page.
    """
    from landcue.server import Settings, serve

    def opened(address: str) -> None:
        print_text(f"\nopen {address} in a browser; press Ctrl-C to stop")
        if is_interactive() and has_display():
            webbrowser.open(address)

    names = tuple(map(str, archives))
    settings = Settings(archives=names, collections_file=collections, quiet=True)
    serve(settings, HOST, _free_port() if port is None else port, opened=opened)


def has_display() -> bool:
    """Return whether this machine can show a browser window."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _free_port() -> int:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, PORT))
        except OSError:
            return 0
    return PORT
