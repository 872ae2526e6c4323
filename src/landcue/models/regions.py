"""An encoder of images and of overlapping windows of them in their full resolution.

A search with :func:`landcue.codes.regions.encode_crop` then finds what is much smaller than a chip;
``docs/results/regions.md`` measures both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from landcue.codes.regions import region_boxes, region_windows, to_int8
from landcue.types import ByteArray, Encoder, Encoding, Images


class RegionEncoder:
    """Implements :class:`landcue.types.Encoder` with regions; what else it has is the encoder's.

    A prepared image is a column of squares: the image, then its regions.

    >>> from landcue import load_model
    >>> encoder = RegionEncoder(load_model("builtin"), 3)
    >>> encoder.encode([np.zeros((384, 384, 3), np.uint8)]).regions.shape
    (1, 2304)

    Attributes:
        encoder: What encodes images and regions.
        regions: Regions a side; see :func:`landcue.codes.regions.region_boxes`.
    """

    def __init__(self, encoder: Encoder, regions: int) -> None:
        """Take an encoder.

        Raises:
            UsageError: ``regions`` is not 2 to 8.
        """
        boxes = region_boxes(regions)
        self.encoder, self.regions = encoder, regions
        self._batch = 64
        bands = getattr(encoder, "in_chans", 3)
        self._size = len(encoder.prepare(np.zeros((8, 8, bands), np.uint8)))
        # Rasters are read so finely that a region is not enlarged.
        self.image_size = round(self._size / float(boxes[0, 2]))

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the encoder."""
        if name == "encoder":  # not yet set
            raise AttributeError(name)
        return getattr(self.encoder, name)

    def prepare(self, image: ByteArray) -> ByteArray:
        """Resize an image, uint8 ``[h, w, C]``, and its regions: ``[(1 + R) * s, s, C]``."""
        parts = [self.encoder.prepare(image)]
        for left, top, right, bottom in region_windows(self.regions, *image.shape[:2]).tolist():
            parts.append(self.encoder.prepare(image[top:bottom, left:right]))
        return np.concatenate(parts)

    def encode(self, images: Images) -> Encoding:
        """Encode prepared images, or uint8 arrays ``[h, w, C]`` of other sizes.

        Raises:
            LandcueError: As the encoder.
        """
        size, n = self._size, 1 + self.regions**2
        columns = [np.asarray(image) for image in images]
        columns = [one if one.shape[:2] == (n * size, size) else self.prepare(one)
                   for one in columns]  # fmt: skip
        squares = np.stack(columns).reshape(len(columns), n, size, size, -1)
        whole = self.encoder.encode(squares[:, 0])
        parts = squares[:, 1:].reshape(-1, *squares.shape[2:])
        found = [
            self.encoder.encode(parts[first : first + self._batch]).embedding
            for first in range(0, len(parts), self._batch)
        ]
        regions = to_int8(np.concatenate(found)).reshape(len(columns), -1)
        return replace(whole, regions=regions)
