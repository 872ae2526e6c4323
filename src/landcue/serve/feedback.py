"""Feedback on hits, appended to a file: one JSON object per line."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path

from landcue.serve.problems import ProblemError
from landcue.serve.schemas import FeedbackRequest
from landcue.serve.served import Served


class FeedbackFile:
    """Where feedback is kept; threads may share it."""

    def __init__(self, path: Path | None, most_bytes: int) -> None:
        self._path, self._most = path, most_bytes
        self._lock = threading.Lock()

    def keep(self, served: Served, given: FeedbackRequest, request_id: str) -> None:
        """Append what was given, once all its records are known.

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
        data = (line + "\n").encode()
        try:
            with self._lock:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
                handle = os.open(self._path, flags, 0o600)
                with os.fdopen(handle, "ab") as file:
                    if os.fstat(handle).st_size + len(data) > self._most:
                        raise ProblemError(503, "the feedback file is full")
                    file.write(data)
        except OSError:
            raise ProblemError(503, "feedback cannot be kept now") from None
