"""What a process that serves and the one that started it say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from landcue.server.settings import Settings
from landcue.server.shared import Shared


@dataclass(frozen=True, slots=True)
class Job:
    """What a process serves.

    Attributes:
        archives: Folders and addresses.
        model: Of collections among them.
        settings: How.
        host: Address that the sockets are of.
        shared: With the other processes.
    """

    archives: tuple[Path, ...]
    model: Path | None
    settings: Settings
    host: str
    shared: Shared


@dataclass(frozen=True, slots=True)
class Opened:
    """The archives are open.

    Attributes:
        names: Of the archives.
        folders: Of those that are folders.
        pins: The versions shown, pickled: who passes them on need not know what they are.
        built: Whether there is a page.
    """

    names: tuple[str, ...]
    folders: tuple[Path, ...]
    pins: bytes
    built: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The process ends because of what ``message`` tells."""

    message: str
    exit_code: int


Report = Opened | Failed | Literal["serving", "ready"]
"""What a process tells the one that started it."""
