"""The rule by which the numbers of a raster become a picture: bands, scale, missing data.

========================  =========================================================================
a raster has              its picture, for a model of three channels
========================  =========================================================================
a palette                 the palette's colors
red, green and blue       these three, in this order, by color interpretation
one band                  gray
three bands               the three, as red, green and blue
four bands                the first three, as red, green and blue (the fourth is near infrared)
anything else             an error that names the bands and asks for ``--bands``
========================  =========================================================================

A band tagged as alpha is no measured band. Models of other numbers of channels take all measured
bands, if they are as many. Bytes are kept; of other values the percentiles 2 and 98 of each band
become 0 and 255, in between linearly (where these are equal, the least and the largest; a single
value becomes 128); values of fewer than 8 bits are stretched to 0..255. Pixels without data become
0. They are those that a mask marks, or else an alpha band of 0, or else those that have the
declared nodata value or NaN in all chosen bands, and where nothing is declared those that are 0 in
all of them, unless a band has negative values. An alpha band counts only if most of its values are
0 or its largest one. Where 0 is white the picture is inverted. Last it is brought north up where
the raster has a place, by turning it or, where its grid is rotated, by the rule of
:mod:`landcue.data.north`; without a place it is turned as its orientation tag says.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from landcue.data.header import RasterFacts
from landcue.errors import DataError, UsageError
from landcue.types import ByteArray

_FORMS = "use auto, percentile:2,98 or fixed:0,3000"


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

        >>> Scale.parse("fixed:0,3000")
        Scale(kind='fixed', low=0.0, high=3000.0)

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
        """Return whether values are taken as they are."""
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

    Where both percentiles are one value, the least and the largest are taken; a band of only one
    value becomes 128.
    """
    if scale.kind == "fixed":
        return np.tile([scale.low, scale.high], (len(values), 1)).astype(np.float64)
    found = np.tile([0.0, 1.0], (len(values), 1))
    for band, sample in enumerate(values):
        known = sample[valid & np.isfinite(sample)]
        if len(known):
            found[band] = np.percentile(known, [scale.low, scale.high])
            if found[band, 0] == found[band, 1]:
                found[band] = known.min(), known.max()
            if found[band, 0] == found[band, 1]:
                found[band] += (-1, 1)
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
    exact = np.float32 if values.dtype.itemsize <= 2 else np.float64
    low, high = limits.astype(exact).T[:, :, None, None]
    width = np.maximum(high - low, np.finfo(np.float32).tiny)
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((values.astype(exact) - low) / width, 0, 1) * 255 + 0.5
    scaled[~(np.isfinite(scaled) & valid)] = 0
    return np.ascontiguousarray(scaled.transpose(1, 2, 0).astype(np.uint8))


PALETTE = "palette expanded to red, green and blue"
TAGGED = "red, green and blue by color interpretation"
GRAY = "one band shown as gray"
THREE = "three bands without color interpretation shown as red, green and blue"
FOUR = "four bands without color interpretation: the first three shown as red, green and blue"
SCALED = "values scaled to bytes by the percentiles 2 and 98 of each band"
NO_ALPHA = "band tagged as alpha holds other values and was left out"
ZEROS = "0 in all bands taken as no data"
INVERTED = "inverted: 0 is white"

BandName = int | str
"""Number of a band, from 1, or its description in the file."""

_RGB = ("red", "green", "blue")


@dataclass(frozen=True, slots=True)
class Choice:
    """The bands that make a picture.

    Attributes:
        bands: Numbers from 1.
        kind: ``gray`` shows the one band three times, ``palette`` looks its values up.
        notes: What was assumed.
    """

    bands: tuple[int, ...]
    kind: Literal["bands", "gray", "palette"] = "bands"
    notes: tuple[str, ...] = ()


def choose_bands(
    facts: RasterFacts, bands: Sequence[BandName] | None = None, channels: int = 3
) -> Choice:
    """Return the bands of a raster that make a picture, by the rule of this module.

    Args:
        bands: Numbers or names of bands, to take them as they are.
        channels: Bands of the picture.

    Raises:
        DataError: The raster lacks a band, or has another number than the picture.
    """
    if bands is not None:
        return Choice(tuple(_number(facts, band) for band in bands))
    have, kinds = facts.colors, facts.interpretations
    if channels == 3:
        if len(have) == 1:
            if kinds[have[0] - 1] == "palette":
                return Choice(have, "palette", (PALETTE,))
            return Choice(have, "gray", (GRAY,))
        if all(kinds.count(color) == 1 for color in _RGB):
            rgb = tuple(1 + kinds.index(color) for color in _RGB)
            return Choice(rgb, notes=() if rgb == have else (TAGGED,))
        if len(have) in (3, 4):
            return Choice(have[:3], notes=(THREE if len(have) == 3 else FOUR,))
    elif len(have) == channels:
        return Choice(have)
    example = ",".join(str(have[i % len(have)] if have else 1) for i in range(channels))
    raise DataError(
        f"has {len(have)} band{'s' * (len(have) != 1)} of {facts.dtypes[0]}{_named(facts)}, the "
        f"model takes {channels}; choose with --bands, such as --bands {example}"
    )


def _number(facts: RasterFacts, band: BandName) -> int:
    if isinstance(band, int):
        if band > facts.count:
            raise DataError(f"has no band {band}, only {facts.count}; change --bands")
        return band
    names = [_plain_name(name) for name in facts.names]
    if _plain_name(band) not in names:
        raise DataError(f"has no band named {band!r}{_named(facts) or ' (none)'}; change --bands")
    return 1 + names.index(_plain_name(band))


def _plain_name(name: str) -> str:
    """Return a name in lower case, without leading zeros of its number: B08 is B8."""
    return re.sub(r"(?<=[a-z])0+(?=[0-9])", "", name.lower())


def _named(facts: RasterFacts) -> str:
    names = [name for name in facts.names if name]
    more = ", …" if len(names) > 13 else ""
    return f" ({', '.join(names[:13])}{more})" if names else ""


@dataclass(frozen=True, slots=True)
class Rendering:
    """What all chips of a raster share.

    Attributes:
        limits: Which values of each band become 0 and 255, float64 ``[C, 2]``; ``None`` keeps
            bytes.
        masked: Whether a mask marks missing data.
        alpha: Number of the alpha band that does; 0 without one.
        blanks: Value of each band that means no data; ``None``: all are data.
        notes: What was assumed.
    """

    limits: npt.NDArray[np.float64] | None
    masked: bool
    alpha: int
    blanks: tuple[float | None, ...]
    notes: tuple[str, ...] = ()


def is_alpha(values: npt.NDArray[Any]) -> bool:
    """Return whether the values of a band are those of an alpha band: nearly all 0 or the largest.

    >>> is_alpha(np.array([0, 255, 255])), is_alpha(np.arange(256))
    (True, False)
    """
    if not values.size:
        return True
    top = values.max()
    return bool(np.mean((values == 0) | (values == top)) >= 0.9)
