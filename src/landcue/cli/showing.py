"""Archives shown in a browser, when somebody sits in front of one."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

HOST = "127.0.0.1"
PORT = 8000


def somebody_watches() -> bool:
    """Tell whether a person sits at this terminal: otherwise serving would block a program."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def show(archives: Sequence[Path], port: int | None, feedback_file: Path) -> None:
    """Serve archives on loopback until Ctrl-C, and open the page where there is a display.

    Args:
        archives: Their folders; the first is shown first.
        port: ``None`` takes 8000, or a free one where that is taken.
        feedback_file: Keeps what is marked on the page.

    Raises:
        ArchiveError: One cannot be opened.
        UsageError: The port is taken.
    """
    from landcue.server.catalog import Catalog
    from landcue.server.server import run
    from landcue.server.settings import Settings

    def opened(address: str) -> None:
        print(f"\nopen {address} in a browser; Ctrl-C ends it", flush=True)
        if somebody_watches() and has_display():
            webbrowser.open(address)

    settings = Settings(feedback_file=feedback_file)
    chosen = _free_port() if port is None else port
    run(Catalog.open(archives), settings, HOST, chosen, opened, quiet=True)


def has_display() -> bool:
    """Tell whether a browser could show itself here."""
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
