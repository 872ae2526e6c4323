"""Log lines, gathered for a moment and written together."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TextIO

GATHERED_SECONDS = 0.2
MOST_LINES = 200


class GatheringHandler(logging.Handler):
    """Writes lines at once when they warn, and the others a few times a second.

    A write lets go of the interpreter's lock, and a busy thread that takes it keeps it for
    milliseconds: one write per request would cost more than the request.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__()
        self._stream = stream or sys.stderr
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
            text = "\n".join(lines) + "\n"
            with contextlib.suppress(OSError, ValueError):  # nobody reads any more
                self._stream.write(text)
                self._stream.flush()
