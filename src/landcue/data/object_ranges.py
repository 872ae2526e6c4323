"""Objects read by range: what was fetched is kept for all threads that read the same object."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

from landcue.data.objects import ObjectPath, address, look_up, store_of
from landcue.errors import DataError

BLOCK = 128 << 10
"""Bytes of a block: the least that is fetched."""
RUN = 32
"""Most blocks of one request, 4 MiB."""

_ROOM = 128 << 20
_REQUESTS = 4

Fetch = Callable[[list[int]], dict[int, bytes]]


class Blocks:
    """Blocks of objects, at most ``room`` bytes; those used least recently go first."""

    def __init__(self, room: int) -> None:
        self._room, self._used = room, 0
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._coming: dict[tuple[str, int], threading.Event] = {}

    def get(self, name: str, wanted: Sequence[int], n: int, fetch: Fetch) -> dict[int, bytes]:
        """Return blocks of one object; each is fetched once, whichever threads want it.

        Where the block before the first missing one is held, the object is being read from front
        to back, and blocks after the last are fetched along.

        Args:
            name: Of the object's bytes.
            wanted: Numbers of blocks, ascending.
            n: Blocks that the object has.
            fetch: Gets missing ones from the store.

        Raises:
            LandcueError: What ``fetch`` raises.
        """
        found: dict[int, bytes] = {}
        while True:
            mine, others = self._claim(name, wanted, n, found)
            if mine:
                try:
                    fetched = fetch(mine)
                    self._keep(name, fetched)
                    found.update((i, fetched[i]) for i in wanted if i in fetched)
                finally:
                    self._release(name, mine)
            if not others:
                return found
            for event in others:
                event.wait()

    def _claim(
        self, name: str, wanted: Sequence[int], n: int, found: dict[int, bytes]
    ) -> tuple[list[int], list[threading.Event]]:
        """Take what is held, claim what is missing, and say what others are fetching."""
        with self._lock:
            mine: list[int] = []
            others: list[threading.Event] = []
            for i in (i for i in wanted if i not in found):
                if (name, i) in self._held:
                    self._held.move_to_end((name, i))
                    found[i] = self._held[name, i]
                elif (name, i) in self._coming:
                    others.append(self._coming[name, i])
                else:
                    mine.append(i)
            if mine and (name, mine[0] - 1) in self._held:
                while len(mine) < RUN and (following := mine[-1] + 1) < n:
                    if (name, following) in self._held or (name, following) in self._coming:
                        break
                    mine.append(following)
            for i in mine:
                self._coming[name, i] = threading.Event()
            return mine, others

    def _keep(self, name: str, fetched: dict[int, bytes]) -> None:
        with self._lock:
            for i, block in fetched.items():
                self._held[name, i] = block
                self._used += len(block)
            while self._used > self._room:
                self._used -= len(self._held.popitem(last=False)[1])

    def _release(self, name: str, claimed: list[int]) -> None:
        with self._lock:
            for i in claimed:
                self._coming.pop((name, i)).set()


@functools.cache
def shared_blocks() -> Blocks:
    """Return the blocks that this process keeps."""
    return Blocks(_ROOM)


class ObjectFile:
    """One object, read by range; threads may share it.

    Attributes:
        path: The object with its ETag.
        size: Bytes.
    """

    def __init__(self, path: Path) -> None:
        """Ask for the object.

        Raises:
            DataError: There is none, or it is not the one that was listed.
            StoreError: The store cannot be reached, or refuses.
        """
        self._store = store_of(path)
        self._file, self.path = self._store.open(path)
        self.size = self.path.known[0]
        self._name = f"{address(self.path)} {self.path.digest}"

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of some ranges, each an offset and a size, cut at the object's end.

        Raises:
            DataError: The object is gone, or another one by now.
            StoreError: The store cannot be reached, or refuses.
        """
        spans = [(start, min(start + size, self.size)) for start, size in ranges]
        numbers = {i for a, b in spans if a < b for i in range(a // BLOCK, (b - 1) // BLOCK + 1)}
        n = -(-self.size // BLOCK)
        blocks = shared_blocks().get(self._name, sorted(numbers), n, self._fetch)
        return [_cut(blocks, a, b) for a, b in spans]

    def _fetch(self, numbers: list[int]) -> dict[int, bytes]:
        runs = _runs(numbers)
        if len(runs) == 1:
            got = [self._fetch_run(runs[0])]
        else:
            with ThreadPoolExecutor(min(_REQUESTS, len(runs))) as pool:
                got = list(pool.map(self._fetch_run, runs))
        # Ranges do not tell whose bytes they are: if it is the same object now, it was then.
        look_up(self.path)
        return {
            i: data[(i - run[0]) * BLOCK : (i - run[0] + 1) * BLOCK]
            for run, data in zip(runs, got, strict=True)
            for i in run
        }

    def _fetch_run(self, run: range) -> bytes:
        start = run[0] * BLOCK
        size = min(len(run) * BLOCK, self.size - start)
        data = self._store.read_range(self._file, address(self.path), start, size)
        if len(data) != size:
            look_up(self.path)
            raise DataError(f"s3://{address(self.path)}: gave {len(data)} bytes of {size}")
        return data


def object_path(path: Path) -> ObjectPath:
    """Return an object with its ETag, which is asked for unless it is known.

    Raises:
        DataError: There is none, or it is not the one that was listed.
        StoreError: The store cannot be reached, or refuses.
    """
    return path if isinstance(path, ObjectPath) and path.etag else look_up(path)


def _runs(numbers: list[int]) -> list[range]:
    """Join numbers that follow each other to at most :data:`RUN`."""
    runs: list[range] = []
    first = numbers[0]
    for i, following in pairwise([*numbers, -1]):
        if following != i + 1 or i + 1 - first == RUN:
            runs.append(range(first, i + 1))
            first = following
    return runs


def _cut(blocks: dict[int, bytes], start: int, end: int) -> bytes:
    if start >= end:
        return b""
    first, last = start // BLOCK, (end - 1) // BLOCK
    if first == last:
        return blocks[first][start - first * BLOCK : end - first * BLOCK]
    whole = b"".join(blocks[i] for i in range(first, last + 1))
    return whole[start - first * BLOCK : end - first * BLOCK]
