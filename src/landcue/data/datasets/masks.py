"""Labels of an image from its label map: which values occur in it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from landcue.data.images import FORMATS, MAX_PIXELS
from landcue.errors import DataError

Color = tuple[int, int, int]

_MODES = {"P", "L", "1"}


def mask_labels(
    path: Path, label_names: Sequence[str], colors: Mapping[Color, str] | None = None
) -> tuple[str, ...]:
    """Return the labels that occur in a label map, in the order of ``label_names``.

    Value v means ``label_names[v - 1]``. With ``colors``, the color of a value in the file's
    palette goes first: repackaged copies renumber the values and keep the palette.

    Args:
        path: An 8-bit gray or palette image.
        label_names: Labels in the published order of the values 1, 2, …
        colors: Label of each published color.

    Raises:
        DataError: Unreadable file, or a value without a label.
    """
    values, palette = _read(path)
    named = {value: (colors or {}).get(palette.get(value, (-1, -1, -1))) for value in values}
    if not any(named.values()):
        order = dict(enumerate(label_names, start=1))
        named = {value: order.get(value) for value in values}
    for value, name in named.items():
        if name is None:
            color = f" of color {palette[value]}" if colors and value in palette else ""
            raise DataError(
                f"{path}: value {value}{color} has no label; label maps hold 1 to "
                f"{len(label_names)}: repair the file or fetch it again"
            )
    present = set(named.values())
    return tuple(name for name in label_names if name in present)


def _read(path: Path) -> tuple[list[int], dict[int, Color]]:
    """Return the values that occur, and the palette if the file has one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.mode not in _MODES or image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {image.width} x {image.height} pixels of mode {image.mode} "
                        "are no label map; need 8-bit gray or palette values"
                    )
                flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
                values = [int(value) for value in np.unique(np.asarray(image))]
    except DataError:
        raise
    except Exception as error:  # decoders raise almost anything on broken bytes
        raise DataError(f"{path}: truncated or corrupt ({error or type(error).__name__})") from None
    palette = {
        value: (flat[3 * value], flat[3 * value + 1], flat[3 * value + 2])
        for value in range(len(flat) // 3)
    }
    return values, palette
