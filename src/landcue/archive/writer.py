"""Rows go to disk in a thread of their own, in commits that hold all of their rows or none."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Literal

import pyarrow as pa

from landcue.archive.table import RecordTable

Kind = Literal["add", "replace", "refresh"]

_BATCHES_WAITING = 8


class Writer:
    """Collects rows and commits them beside the encoder; use it as a context manager.

    Leaving it commits what is left, also when the caller failed or was interrupted: finished
    work is kept.
    """

    def __init__(self, table: RecordTable, commit_every: int) -> None:
        self._table = table
        self._commit_every = commit_every
        self._queue: queue.Queue[tuple[Kind, pa.Table] | None] = queue.Queue(_BATCHES_WAITING)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="archive writer", daemon=True)
        self._thread.start()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, kind: Kind, rows: pa.Table) -> None:
        """Hand over rows; waits while the disk is far behind.

        Raises:
            ArchiveError: An earlier commit failed.
        """
        if self._error is not None:
            raise self._error
        if len(rows):
            self._queue.put((kind, rows))

    def _run(self) -> None:
        waiting: dict[Kind, list[pa.Table]] = {"add": [], "replace": [], "refresh": []}
        n_waiting = 0
        while (item := self._queue.get()) is not None:
            if self._error is not None:
                continue  # keep emptying the queue, or the other side would wait for ever
            kind, rows = item
            waiting[kind].append(rows)
            n_waiting += len(rows)
            if n_waiting >= self._commit_every:
                self._commit(waiting)
                n_waiting = 0
        if self._error is None:
            self._commit(waiting)

    def _commit(self, waiting: dict[Kind, list[pa.Table]]) -> None:
        try:
            for kind, tables in waiting.items():
                if tables:
                    rows = pa.concat_tables(tables)
                    (self._table.add if kind == "add" else self._table.replace)(rows)
        except Exception as error:  # raised again in the caller's thread
            self._error = error
        for tables in waiting.values():
            tables.clear()
