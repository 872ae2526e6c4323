"""Images and chips are read by a few threads ahead of the encoder."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from landcue.archive.chips import ChipReader, EmptyChip
from landcue.archive.plan import Task
from landcue.archive.reading import ReadImage, read_task
from landcue.archive.schema import Metadata
from landcue.types import Encoder, Problem

Item = ReadImage | Metadata | Problem | EmptyChip
Hold = Callable[[], contextlib.AbstractContextManager[None]]

_RUN = 16


@contextlib.contextmanager
def reading_ahead(
    tasks: Sequence[Task],
    encoder: Encoder,
    chips: ChipReader | None,
    workers: int,
    ahead: int,
    *,
    beside_encoder: bool,
) -> Generator[tuple[Iterator[Item], Hold]]:
    """Read all tasks, in order, while up to ``ahead`` more are being read.

    Args:
        tasks: What to read.
        encoder: Prepares what was read.
        chips: Reads tasks that are chips; its files are closed at the end.
        workers: Reading threads.
        ahead: Most images in memory beside those handed over.
        beside_encoder: Read on while the encoder runs.

    Yields:
        What was read, and a context to run the encoder in.
    """
    free = threading.Event()
    free.set()

    @contextlib.contextmanager
    def hold() -> Generator[None]:
        """Let no reader start another image."""
        free.clear()
        try:
            yield
        finally:
            free.set()

    def read_run(run: Sequence[Task]) -> list[Item]:
        items: list[Item] = []
        for task in run:
            free.wait()
            if chips is not None and task.record.window is not None:
                items.append(chips.read(task))
            else:
                items.append(read_task(task, encoder))
        return items

    pool = ThreadPoolExecutor(workers, thread_name_prefix="image reader")
    try:
        yield (
            _in_order(pool, read_run, tasks, ahead),
            contextlib.nullcontext if beside_encoder else hold,
        )
    finally:
        free.set()
        pool.shutdown(cancel_futures=True)
        if chips is not None:
            chips.close()


def _in_order(
    pool: ThreadPoolExecutor,
    read_run: Callable[[Sequence[Task]], list[Item]],
    tasks: Sequence[Task],
    ahead: int,
) -> Iterator[Item]:
    pending: deque[tuple[int, Future[list[Item]]]] = deque()
    waiting = 0
    for run in _runs(tasks):
        pending.append((len(run), pool.submit(read_run, run)))
        waiting += len(run)
        while waiting > ahead:
            n, future = pending.popleft()
            yield from future.result()
            waiting -= n
    while pending:
        yield from pending.popleft()[1].result()


def _runs(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Yield images one by one, and neighboring chips together: they share blocks of the file."""

    def key(task: Task) -> tuple[str, int]:
        window = task.record.window
        return (task.record.id, -1) if window is None else (task.metadata.path, window.row)

    for _, row in itertools.groupby(tasks, key):
        run = list(row)
        for first in range(0, len(run), _RUN):
            yield run[first : first + _RUN]
