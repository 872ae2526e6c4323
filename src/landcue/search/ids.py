"""Sorted ids, read straight from their bytes: a Python object for each would cost more."""

from __future__ import annotations

import bisect
from typing import Any

import pyarrow as pa

_STEP = 1024


class SortedIds:
    """Ascending strings of a column, which may be mapped: a look-up reads few of its pages."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        """Look into a ``large_string`` column without gaps; more chunks than one are copied."""
        array: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        self._rows = range(len(array))
        if len(array):
            _, edges, text = array.buffers()
            self._edges = memoryview(edges).cast("q")[array.offset :]
            self._text = memoryview(text)
        self._marks = [self._bytes(row) for row in self._rows[::_STEP]]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> str:
        return self._bytes(self._rows[row]).decode()

    def place(self, id_: str) -> int:
        """Return how many ids come before this one; UTF-8 sorts as strings do."""
        wanted = id_.encode(errors="surrogatepass")
        first = max(0, bisect.bisect_left(self._marks, wanted) - 1) * _STEP
        nearby = self._rows[first : first + _STEP]
        return first + bisect.bisect_left(nearby, wanted, key=self._bytes)

    def _bytes(self, row: int) -> bytes:
        return bytes(self._text[self._edges[row] : self._edges[row + 1]])
