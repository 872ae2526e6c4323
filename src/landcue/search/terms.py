"""Single conditions on records, put as masks of an archive or in the words of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from shapely.geometry.base import BaseGeometry

from landcue.search.expression import Word
from landcue.types import Bounds

T = TypeVar("T")


class Terms(Protocol[T]):
    """How conditions are put: as masks, or as the words of a server."""

    def label(self, name: str) -> T:
        """Put that a record carries a label."""
        ...

    def score(self, name: str, least: float) -> T:
        """Put that the model gave a label at least this score."""
        ...

    def touching(self, box: Bounds) -> T:
        """Put that a footprint touches a box."""
        ...

    def inside(self, shape: BaseGeometry) -> T:
        """Put that a footprint touches a polygon."""
        ...

    def after(self, time: np.datetime64) -> T:
        """Put that the time is known, and this or later."""
        ...

    def before(self, time: np.datetime64) -> T:
        """Put that the time is known, and earlier."""
        ...

    def below(self, prefix: str) -> T:
        """Put that a path starts so."""
        ...

    def among(self, column: str, values: Sequence[str]) -> T:
        """Put that ``group``, ``part`` or ``sensor`` is one of the values."""
        ...

    def negated(self, part: T) -> T:
        """Put the contrary."""
        ...

    def joined(self, word: Word, parts: Sequence[T]) -> T:
        """Put that all parts hold (``and``), or any of them (``or``)."""
        ...
