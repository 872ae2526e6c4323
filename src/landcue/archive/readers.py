"""Who reads an archive: a writer removes old versions only while nobody does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Generator
from pathlib import Path

READERS = ".readers"


class ReaderMark:
    """Marks an archive as being read until it is released, collected, or the process ends."""

    def __init__(self, folder: Path) -> None:
        self.release = lambda: None
        with contextlib.suppress(OSError):  # an archive nobody can write has no writer either
            handle = os.open(folder / READERS, os.O_RDONLY | os.O_CLOEXEC)
            self.release = weakref.finalize(self, os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_SH)


@contextlib.contextmanager
def unread(folder: Path) -> Generator[bool]:
    """Tell whether nobody reads the archive; readers that come then wait until the end."""
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context((folder / READERS).open("a+b"))
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # also when nothing can be written: then nothing may be removed either
            nobody = False
        else:
            nobody = True
        yield nobody
