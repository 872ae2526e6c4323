"""From the numbers a scene stores to bytes: one scaling for all chips of a scene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.types import ByteArray

_FORMS = "give auto, percentile:2,98 or fixed:0,3000"


@dataclass(frozen=True, slots=True)
class Scale:
    """How stored numbers become 0..255.

    Attributes:
        kind: ``fixed`` maps ``low`` to 0 and ``high`` to 255; ``percentile`` does so with these
            percentiles of each band of the scene; ``auto`` keeps bytes and takes the percentiles
            2 and 98 of anything else.
        low: As stored, or in percent.
        high: As stored, or in percent.
    """

    kind: Literal["auto", "percentile", "fixed"] = "auto"
    low: float = 2.0
    high: float = 98.0

    def __str__(self) -> str:
        return self.kind if self.kind == "auto" else f"{self.kind}:{self.low:g},{self.high:g}"

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``auto``, ``percentile:LOW,HIGH`` or ``fixed:LOW,HIGH``.

        Raises:
            UsageError: Another form, or numbers that make no range.
        """
        kind, _, numbers = text.strip().partition(":")
        if kind == "auto" and not numbers:
            return cls()
        if kind not in ("percentile", "fixed"):
            raise UsageError(f"--scale {text!r}: {_FORMS}")
        try:
            low, high = (float(number) for number in numbers.split(","))
        except ValueError:
            raise UsageError(f"--scale {text!r}: {_FORMS}") from None
        if not np.isfinite([low, high]).all() or low >= high:
            raise UsageError(f"--scale {text!r}: the first number must be below the second")
        if kind == "percentile" and not 0 <= low < high <= 100:
            raise UsageError(f"--scale {text!r}: percentiles lie in 0..100")
        return cls("percentile" if kind == "percentile" else "fixed", low, high)

    def keeps(self, dtype: npt.DTypeLike) -> bool:
        """Tell whether values are taken as they are."""
        return self.kind == "auto" and np.dtype(dtype) == np.uint8


def limits(
    scale: Scale, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return which values of each band become 0 and 255, float64 ``[C, 2]``.

    Args:
        scale: ``fixed``, or percentiles of ``values``.
        values: A sample of the scene, ``[C, h, w]``.
        valid: bool ``[h, w]``, false where there is no data. Without any valid pixel the limits
            are 0 and 1.
    """
    if scale.kind == "fixed":
        return np.tile([scale.low, scale.high], (len(values), 1)).astype(np.float64)
    found = np.tile([0.0, 1.0], (len(values), 1))
    for band, sample in enumerate(values):
        known = sample[valid & np.isfinite(sample)]
        if len(known):
            found[band] = np.percentile(known, [scale.low, scale.high])
    return found


def to_bytes(
    values: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    limits: npt.NDArray[np.float64] | None,
) -> ByteArray:
    """Return uint8 ``[h, w, C]``, 0 where there is no data.

    Args:
        values: ``[C, h, w]``.
        valid: bool ``[h, w]``.
        limits: ``[C, 2]``, or ``None`` to keep bytes as they are.
    """
    if limits is None:
        image = np.where(valid, values, 0)
        return np.ascontiguousarray(image.transpose(1, 2, 0), np.uint8)
    low, high = limits.astype(np.float32).T[:, :, None, None]
    width = np.maximum(high - low, np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((values.astype(np.float32) - low) / width, 0, 1) * 255 + 0.5
    scaled[~(np.isfinite(scaled) & valid)] = 0
    return np.ascontiguousarray(scaled.transpose(1, 2, 0).astype(np.uint8))
