"""Log lines, gathered for a moment and written together."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from landcue.server.alone import alone
from landcue.server.observe import JsonLines
from landcue.server.shared import Shared

GATHERED_SECONDS = 0.2
MOST_LINES = 200


class GatheringHandler(logging.Handler):
    """Writes lines at once when they warn, and the others a few times a second.

    A write lets go of the interpreter's lock, and a busy thread that takes it keeps it for
    milliseconds: one write per request would cost more than the request.
    """

    def __init__(self, stream: TextIO | None = None, lock: Path | None = None) -> None:
        """Take where to write, and a file that processes lock before they write there."""
        super().__init__()
        self._stream = stream or sys.stderr
        self._lock_file = None if lock is None else lock.open("rb")
        self._lines: list[str] = []
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, and write all that are kept when it is time."""
        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)
            return
        if record.levelno >= logging.WARNING or len(self._lines) >= MOST_LINES:
            self._write()
        elif self._timer is None:
            self._timer = threading.Timer(GATHERED_SECONDS, self.flush)
            self._timer.daemon = True
            self._timer.start()

    def flush(self) -> None:
        """Write what is kept."""
        self.acquire()
        try:
            self._write()
        finally:
            self.release()

    def close(self) -> None:
        """Write what is kept, for the last time."""
        self.flush()
        super().close()

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            # Perhaps nobody reads any more.
            with contextlib.suppress(OSError, ValueError), alone(self._lock_file):
                for piece in _pieces(lines):
                    self._stream.write(piece)
                    self._stream.flush()


def start_logging(quiet: bool = False, shared: Shared | None = None) -> GatheringHandler:
    """Log to standard error, and return what to flush at the end.

    Args:
        quiet: Tell what goes wrong, and not every request.
        shared: With others: lines tell the process, and none is cut by another's.
    """
    handler = GatheringHandler(lock=None if shared is None else shared.log)
    handler.setFormatter(JsonLines())
    if shared is not None:
        handler.addFilter(_with_process)
    for name in ("landcue.server", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        every = name == "landcue.server" and not quiet
        logger.setLevel(logging.INFO if every else logging.WARNING)
    return handler


def _with_process(record: logging.LogRecord) -> bool:
    record.facts = {"process": os.getpid(), **getattr(record, "facts", {})}
    return True


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Join lines to pieces that a pipe takes whole; only a line that is longer may be cut."""
    piece, size = "", 0
    for line in lines:
        n = len(line.encode(errors="backslashreplace")) + 1
        if piece and size + n > select.PIPE_BUF:
            yield piece
            piece, size = "", 0
        piece, size = f"{piece}{line}\n", size + n
    if piece:
        yield piece
