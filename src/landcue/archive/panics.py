"""Keep the traces that a panic in native code prints off the screen."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Generator

_lock = threading.Lock()
_inside = 0
_screen = -1
_kept = -1


@contextlib.contextmanager
def hidden_panics() -> Generator[None]:
    """Drop what a failing call writes to the standard error stream.

    The library that reads tables prints a trace before it reports broken bytes as an exception,
    which is shown in one line instead. Whatever else is written meanwhile comes out at the end,
    unless the call fails.
    """
    entered = _enter()
    try:
        yield
    except BaseException:
        _leave(entered, show=False)
        raise
    _leave(entered, show=True)


def _enter() -> bool:
    global _inside, _screen, _kept
    with _lock:
        if not _inside:
            try:
                sys.stderr.flush()
                _screen = os.dup(2)
                _kept = os.memfd_create("stderr")
                os.dup2(_kept, 2)
            except (OSError, AttributeError, ValueError):  # no such stream: nothing to hide
                return False
        _inside += 1
    return True


def _leave(entered: bool, *, show: bool) -> None:
    global _inside
    if not entered:
        return
    with _lock:
        with contextlib.suppress(OSError, AttributeError, ValueError):
            sys.stderr.flush()
        size = os.lseek(_kept, 0, os.SEEK_CUR)
        text = os.pread(_kept, size, 0) if size else b""
        os.ftruncate(_kept, 0)
        os.lseek(_kept, 0, os.SEEK_SET)
        _inside -= 1
        if not _inside:
            os.dup2(_screen, 2)
        if text and show:
            with contextlib.suppress(OSError):
                os.write(_screen, text)
        if not _inside:
            os.close(_screen)
            os.close(_kept)
