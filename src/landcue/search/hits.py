"""The hits of one page, decoded when somebody looks at them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from landcue.archive.schema import from_wkb, window_of
from landcue.search.pages import Page
from landcue.search.records import Records
from landcue.types import Bounds, Hit


class Told:
    """What is known of the hits of several pages, read together when somebody first looks."""

    def __init__(self, records: Records, pages: Sequence[Page]) -> None:
        self._records, self._pages = records, pages

    @functools.cached_property
    def _facts(self) -> list[tuple[Any, ...]]:
        return self._records.facts(np.concatenate([page.rows for page in self._pages]))

    def of(self, number: int) -> list[tuple[Any, ...]]:
        """Return the facts of one page: see :meth:`landcue.search.records.Records.facts`."""
        first = sum(len(page.rows) for page in self._pages[:number])
        return self._facts[first : first + len(self._pages[number].rows)]


class Hits(Sequence[Hit]):
    """A sequence of hits, nearest first, that compares like a tuple of them.

    It holds rows and distances, and the records of the archive's version that was searched, which
    it reads at the first look at a hit.

    Attributes:
        distances: float64 ``[m]``.
    """

    def __init__(
        self,
        records: Records,
        page: Page,
        worst: float,
        query_labels: Sequence[str],
        told: Callable[[], list[tuple[Any, ...]]] | None = None,
    ) -> None:
        """Take the hits of a page; a distance of ``worst`` has the score 0.

        What is known of the records comes from ``told``, or is read for this page alone.
        """
        self._records, self._page, self._worst = records, page, worst
        self._query_labels = query_labels
        self._told = told or functools.partial(records.facts, page.rows)
        self.distances = page.distances

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """float64 ``[m]``."""
        return 1 - self.distances / self._worst

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids alone, which costs less than whole hits."""
        return tuple(map(self._records.id, self._page.rows.tolist()))

    def to_json(self) -> list[dict[str, Any]]:
        """Return hits as plain values, without making hits of them."""
        return [_plain(*numbers) for numbers in self._numbers()]

    def _numbers(self) -> Iterator[tuple[tuple[Any, ...], float, float, int, frozenset[str]]]:
        """Yield of each hit what is known of it, distance, score, and near duplicates left out."""
        wanted = itertools.repeat(frozenset(self._query_labels))
        far, near = self.distances.tolist(), self._page.near.tolist()
        return zip(self._facts, far, self.scores.tolist(), near, wanted, strict=False)

    @functools.cached_property
    def _facts(self) -> list[tuple[Any, ...]]:
        return self._told()

    @functools.cached_property
    def _decoded(self) -> tuple[Hit, ...]:
        return tuple([_hit(*numbers) for numbers in self._numbers()])

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


def _hit(
    fact: tuple[Any, ...], distance: float, score: float, near: int, wanted: frozenset[str]
) -> Hit:
    id_, path, annotated, predicted, west, south, east, north, time = fact[:9]
    group, _, sensor, pixel_bbox, ring = fact[9:]
    labels = tuple((predicted if annotated is None else annotated) or ())
    return Hit(
        id=id_,
        path=path,
        distance=distance,
        score=score,
        labels=labels,
        shared=tuple([label for label in labels if label in wanted]),
        bounds=None if west is None else Bounds(west, south, east, north),
        footprint=None if ring is None else from_wkb(ring),
        window=window_of(pixel_bbox),
        time=time,
        sensor=sensor,
        group=group,
        near=near,
    )


def _plain(
    fact: tuple[Any, ...], distance: float, score: float, near: int, wanted: frozenset[str]
) -> dict[str, Any]:
    id_, path, annotated, predicted, west, south, east, north, time = fact[:9]
    group, _, sensor, pixel_bbox, ring = fact[9:]
    labels = (predicted if annotated is None else annotated) or []
    window = window_of(pixel_bbox)
    return {
        "id": id_,
        "path": path,
        "distance": distance,
        "score": score,
        "labels": list(labels),
        "shared": [label for label in labels if label in wanted],
        "bounds": None if west is None else [west, south, east, north],
        "footprint": None if ring is None else [list(corner) for corner in from_wkb(ring)],
        "window": window and [window.col, window.row, window.width, window.height],
        "time": None if time is None else time.isoformat().replace("+00:00", "Z"),
        "sensor": sensor,
        "group": group,
        "near": near,
    }
