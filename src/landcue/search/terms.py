"""Single conditions on records, as masks of an archive or as expressions of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from shapely.geometry.base import BaseGeometry

from landcue.search.expression import Word
from landcue.types import Bounds

T = TypeVar("T")


class Terms(Protocol[T]):
    """Builds conditions: masks, or expressions of a server."""

    def label(self, name: str) -> T:
        """Require that a record carries a label."""
        ...

    def score(self, name: str, least: float) -> T:
        """Require that the predicted score of a label is at least ``least``."""
        ...

    def touching(self, box: Bounds) -> T:
        """Require that a footprint touches a box."""
        ...

    def inside(self, shape: BaseGeometry) -> T:
        """Require that a footprint touches a polygon."""
        ...

    def after(self, time: np.datetime64) -> T:
        """Require that the time is known and not before ``time``."""
        ...

    def before(self, time: np.datetime64) -> T:
        """Require that the time is known and before ``time``."""
        ...

    def below(self, prefix: str) -> T:
        """Require that a path starts with ``prefix``."""
        ...

    def among(self, column: str, values: Sequence[str]) -> T:
        """Require that ``group``, ``part`` or ``sensor`` is one of the values."""
        ...

    def negated(self, part: T) -> T:
        """Negate a condition."""
        ...

    def joined(self, word: Word, parts: Sequence[T]) -> T:
        """Require all parts (``and``), or any of them (``or``)."""
        ...
