"""One process of a service at a time."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Generator
from typing import IO


@contextlib.contextmanager
def alone(file: IO[bytes] | None) -> Generator[None]:
    """Keep other processes out by a lock on a file that they share; ``None``: there are none.

    The kernel lets the others in when this one dies.
    """
    if file is None:
        yield
        return
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)
