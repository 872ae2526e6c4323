"""Feedback on hits, appended to a file: one JSON object per line."""

from __future__ import annotations

import errno
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from landcue.errors import UsageError
from landcue.server.archives import Served
from landcue.server.errors import ProblemError
from landcue.server.schemas.collections import FeedbackRequest

_LOCK_SECONDS = 2.0
"""A process that was stopped while it wrote must not stop the others."""

_log = logging.getLogger("landcue.server")


class FeedbackFile:
    """The feedback file; threads and processes may share it."""

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes

    def check(self) -> None:
        """Create the file, if there is to be one.

        Raises:
            UsageError: It cannot be written.
        """
        if self._path is None:
            return
        try:
            os.close(self._open())
        except OSError as error:
            raise UsageError(
                f"--feedback-file {self._path}: cannot be written ({error.strerror}); "
                "use a file in an existing folder"
            ) from None

    def keep(self, served: Served, given: FeedbackRequest, request_id: str) -> None:
        """Append feedback after checking that all its records exist.

        Raises:
            ProblemError: 404: an unknown record; 409: the service keeps no feedback; 503: the file
                is full or cannot be written.
        """
        if self._path is None:
            raise ProblemError(409, "this service keeps no feedback: it runs without a file for it")
        for id_ in (*given.positives, *given.negatives, *filter(None, [given.query])):
            served.check_id(id_)
        line = json.dumps(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                "request_id": request_id,
                "fingerprint": served.archive.manifest.fingerprint,
                **given.model_dump(exclude={"archive"}),
                "archive": served.name,
            },
            ensure_ascii=False,
        )
        try:
            self._append((line + "\n").encode())
        except OSError as error:
            facts = {"request_id": request_id, "error": str(error)}
            _log.error("feedback was not kept", extra={"facts": facts})
            raise ProblemError(503, "feedback cannot be kept now") from None

    def _append(self, data: bytes) -> None:
        """Append a complete line or nothing."""
        lock = FileLock(
            f"{self._path}.lock", mode=0o600, timeout=2
        )  # another process may be stopped
        with lock, os.fdopen(self._open(), "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size + len(data) > self._most:
                raise ProblemError(503, "the feedback file is full")
            if file.write(data) != len(data):
                os.ftruncate(file.fileno(), size)  # else the next line would continue a partial one
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        return os.open(self._path or "", flags, 0o600)
