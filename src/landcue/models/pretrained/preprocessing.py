"""Resize, crop and normalize images as the library of a pretrained encoder does, with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from landcue.errors import UsageError, did_you_mean
from landcue.types import ByteArray

Resize = Literal["shortest", "longest", "squash"]
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From a decoded image to what the encoder takes, byte for byte as its library does it.

    Attributes:
        size: Side in pixels of what the encoder takes.
        mean: Subtracted from values in 0..1, one per band.
        std: Divides them afterwards, one per band.
        resize: ``shortest``: the shorter side becomes ``scale_size``, then the center is cropped;
            ``longest``: the longer side does, then borders are added; ``squash``: both do.
        scale_size: Side in pixels before the center crop; ``size`` by default.
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
        fill: Value of borders, one per band, 0..255.
        floor_center: Whether half pixels of the center crop are rounded down, as in transformers,
            and not to even ones, as in torchvision.
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Resize = "shortest"
    scale_size: int = 0
    interpolation: str = "bicubic"
    fill: tuple[int, ...] = ()
    floor_center: bool = False

    def __post_init__(self) -> None:
        if self.scale_size == 0:
            object.__setattr__(self, "scale_size", self.size)
        if not 8 <= self.size <= 2048 or not 8 <= self.scale_size <= 4096:
            raise UsageError(f"images of {self.size} pixels a side: the side must lie in 8..2048")
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(
                f"mean and std have {len(self.mean)} and {len(self.std)} values: use one of each "
                "per band"
            )
        if not all(math.isfinite(v) for v in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise UsageError("mean and std must be finite, and std above 0")
        if self.resize not in get_args(Resize):
            raise UsageError(
                f"resize {self.resize!r} is unknown{did_you_mean(self.resize, get_args(Resize))}"
            )
        if self.interpolation not in _FILTERS:
            known = did_you_mean(self.interpolation, _FILTERS)
            raise UsageError(f"interpolation {self.interpolation!r} is unknown{known}")

    @property
    def bands(self) -> int:
        """Bands of an image."""
        return len(self.mean)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Read what :meth:`to_json` returned.

        Raises:
            KeyError: A value is missing or unknown.
        """
        if not {"size", "mean", "std"} <= set(value) <= {field.name for field in fields(cls)}:
            raise KeyError("preprocessing")
        settings: dict[str, Any] = dict(value)
        for name in ("mean", "std", "fill"):
            settings[name] = tuple(settings.get(name, ()))
        return cls(**settings)

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize and crop one decoded image uint8 ``[h, w, C]`` to ``[size, size, C]``."""
        height, width, bands = image.shape
        if self.resize == "squash":
            target = (self.scale_size, self.scale_size)
        elif self.resize == "longest":
            ratio = max(height, width) / self.scale_size
            target = (round(height / ratio), round(width / ratio))
        elif height <= width:
            target = (self.scale_size, int(self.scale_size * width / height))
        else:
            target = (int(self.scale_size * height / width), self.scale_size)
        if target != (height, width):
            image = _resized(image, target, _FILTERS[self.interpolation])
        return self._center(image, bands)

    def _center(self, image: ByteArray, bands: int) -> ByteArray:
        """Crop the center, or add borders, as ``torchvision`` and ``timm`` round it."""
        height, width = image.shape[:2]
        size = self.size
        down, right = max(size - height, 0), max(size - width, 0)
        if down or right:
            fill = self.fill or (0,) * bands
            out = np.empty((height + down, width + right, bands), np.uint8)
            out[:] = fill
            out[down // 2 : down // 2 + height, right // 2 : right // 2 + width] = image
            image = out
            height, width = image.shape[:2]
        if self.floor_center:
            top, left = (height - size) // 2, (width - size) // 2
        else:
            top, left = round((height - size) / 2.0), round((width - size) / 2.0)
        return np.ascontiguousarray(image[top : top + size, left : left + size])


def _resized(image: ByteArray, target: tuple[int, int], kind: Image.Resampling) -> ByteArray:
    size = (target[1], target[0])
    if image.shape[2] == 3:
        return np.asarray(Image.fromarray(image).resize(size, kind))
    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(band.resize(size, kind)) for band in bands], axis=2)
