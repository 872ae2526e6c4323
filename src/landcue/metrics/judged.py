"""Gains that come with a run, as codes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.relevance import Floats, cut_of

_MOST_LEVELS = 4096
MOST_GAIN = 500  # 2**gain is still a float64, and so are sums of many


@dataclass(frozen=True, slots=True)
class GainTable:
    """Gains as codes: the place of a gain among the different ones, 0 for gain 0.

    Attributes:
        levels: The different gains, rising from 0, float64 ``[n_codes]``.
    """

    levels: Floats

    @classmethod
    def of(cls, gains: Iterable[float]) -> GainTable:
        """Collect the different gains.

        Raises:
            UsageError: More than 4,096 of them.
        """
        levels = sorted({0.0, *gains})
        if len(levels) > _MOST_LEVELS:
            raise UsageError(
                f"{len(levels)} different gains: round them, {_MOST_LEVELS:,} are possible"
            )
        return cls(np.array(levels))

    @property
    def n_codes(self) -> int:
        """Number of codes."""
        return len(self.levels)

    def codes(self, gains: npt.NDArray[np.floating]) -> npt.NDArray[np.uint16]:
        """Return the codes of gains that are all among the levels."""
        return np.searchsorted(self.levels, gains).astype(np.uint16)

    def gain(self, kind: str) -> Floats:
        """Return the gain of every code.

        Raises:
            UsageError: The kind is one of labels.
        """
        if kind != "judged":
            raise UsageError(
                f"gain {kind!r} needs labels: judged gains need a protocol with gain 'judged'"
            )
        return self.levels

    def relevant(self, kind: str) -> npt.NDArray[np.bool_]:
        """Return whether each code is relevant: gain above 0 (``given``) or at least t (``g<t>``).

        Raises:
            UsageError: The kind is one of labels.
        """
        cut = cut_of(kind)
        if kind != "given" and (cut is None or cut.jaccard):
            raise UsageError(
                f"relevance {kind!r} needs labels: judged gains need a protocol with relevance "
                "'given' or 'g<t>', such as run-v1"
            )
        return self.levels > 0 if cut is None else self.levels >= cut.least


def check_gain(gain: float, what: str) -> float:
    """Return a gain that can be used.

    Raises:
        UsageError: It is negative, NaN, or so large that ``2**gain`` overflows.
    """
    if not (math.isfinite(gain) and 0 <= gain <= MOST_GAIN):
        raise UsageError(f"the gain of {what} is {gain:g}: give a number from 0 to {MOST_GAIN}")
    return float(gain)
