"""Images decoded once and kept in memory, ready for batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from landcue.data.datasets.bands import read_bands, read_rgb
from landcue.errors import DataError
from landcue.files import core_count
from landcue.models.resize import resize_square
from landcue.types import ByteArray, Problem, Record

MAX_BYTES = 12 * 2**30


@dataclass(frozen=True, slots=True)
class Pixels:
    """Decoded images.

    Attributes:
        pixels: uint8 ``[n, s, s, C]``.
        records: The n records whose files could be decoded, in order.
        problems: The files that could not.
    """

    pixels: ByteArray
    records: tuple[Record, ...]
    problems: tuple[Problem, ...]


def load_pixels(
    records: Sequence[Record],
    size: int,
    progress: Callable[[int, int], None] | None = None,
    bands: Sequence[str] = (),
) -> Pixels:
    """Decode and resize the images of ``records`` to ``size`` x ``size``.

    Broken files are left out and reported.

    Args:
        records: The images.
        size: Side in pixels.
        progress: Told how many images are done, and of how many.
        bands: What is read of Sentinel-2 images; of none, and of all other images, RGB.

    Raises:
        DataError: No file could be decoded, or the images would not fit in memory.
    """
    channels = len(bands) or 3
    need = len(records) * size * size * channels
    if need > MAX_BYTES:
        raise DataError(
            f"{len(records)} images of {size} px need {need / 2**30:.0f} GiB of memory; "
            "use a smaller --image-size or fewer images"
        )
    pixels = np.empty((len(records), size, size, channels), np.uint8)

    def load(index: int) -> Problem | None:
        try:
            record = records[index]
            image = read_bands(record, bands) if bands else read_rgb(record)
            pixels[index] = resize_square(image, size)
        except DataError as error:
            return Problem(records[index].id, str(error))
        return None

    problems: list[Problem | None] = []
    with ThreadPoolExecutor(max(2, core_count())) as pool:
        for problem in pool.map(load, range(len(records))):
            problems.append(problem)
            if progress:
                progress(len(problems), len(records))
    good = [index for index, problem in enumerate(problems) if problem is None]
    broken = tuple(problem for problem in problems if problem is not None)
    if not good:
        first = f", first: {broken[0].what}" if broken else ""
        raise DataError(f"none of {len(records)} images can be decoded{first}")
    if broken:
        pixels = pixels[good]
    return Pixels(pixels, tuple(records[index] for index in good), broken)
