"""Files that survive a crash: atomic replacement and a lock between processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from landcue.errors import LandcueError


@contextlib.contextmanager
def replacing(path: Path) -> Generator[Path]:
    """Give a temporary path to write; it replaces ``path`` when the block ends well.

    A crash leaves the old file or the new one.

    Raises:
        LandcueError: The folder cannot be written or the disk is full; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise LandcueError(f"cannot write {path}: {reason}; free space or choose another") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace ``path`` by ``content``: see :func:`replacing`."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def read_json(path: Path, kind: type[LandcueError], hint: str) -> dict[str, Any]:
    """Read a JSON object, or raise ``kind`` with one line that names the file and ``hint``."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise kind(f"{path} is missing; {hint}") from None
    except OSError as error:
        raise kind(f"cannot read {path}: {error.strerror}; {hint}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise kind(f"{path} is not valid JSON ({error}); {hint}") from None
    if not isinstance(value, dict):
        raise kind(f"{path} does not hold a JSON object; {hint}")
    return value


@contextlib.contextmanager
def exclusive(folder: Path, kind: type[LandcueError], doing: str) -> Generator[None]:
    """Hold ``folder/.lock`` for this process; a second holder is refused at once.

    The kernel frees the lock when its process dies, so a kill -9 leaves nothing to clean up.

    Raises:
        kind: Another process holds the lock, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a+b")
    except OSError as error:
        raise kind(f"cannot write {folder}: {error.strerror}; choose another folder") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise kind(
                f"another process is {doing} {folder}; wait for it or choose another folder"
            ) from None
        yield
