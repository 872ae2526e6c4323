"""The hits of one page, decoded when somebody looks at them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from landcue.search.pages import Page
from landcue.search.records import Records
from landcue.types import Hit


class Hits(Sequence[Hit]):
    """A sequence of hits, nearest first, that compares like a tuple of them.

    It holds rows and distances, and the records of the archive's version that was searched, which
    it reads at the first look at a hit.

    Attributes:
        distances: float64 ``[m]``.
    """

    def __init__(
        self, records: Records, page: Page, worst: float, query_labels: Sequence[str]
    ) -> None:
        """Take the hits of a page; a distance of ``worst`` has the score 0."""
        self._records, self._page, self._worst = records, page, worst
        self._query_labels = query_labels
        self.distances = page.distances

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """float64 ``[m]``."""
        return 1 - self.distances / self._worst

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids alone, which costs less than whole hits."""
        return tuple(map(self._records.id, self._page.rows.tolist()))

    @functools.cached_property
    def _decoded(self) -> tuple[Hit, ...]:
        return self._records.hits(
            self._page.rows,
            self.distances.tolist(),
            self.scores.tolist(),
            self._page.near.tolist(),
            self._query_labels,
        )

    def __len__(self) -> int:
        return len(self.distances)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self._decoded)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self._decoded[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Hits):
            other = other._decoded
        return self._decoded == other

    def __hash__(self) -> int:
        return hash(self._decoded)

    def __repr__(self) -> str:
        return repr(self._decoded)
