"""Values of a foreign table: which types they may have, and how they become arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from landcue.errors import UsageError
from landcue.types import Bounds, Ring

_MOST_CORNERS = 100


def places(
    values: list[bytes | None], faults: list[str | None]
) -> list[tuple[Bounds | None, Ring | None]]:
    """Return box and corners of WKB geometries; those cut at the antimeridian cross it again.

    Args:
        values: Geometries in longitude and latitude.
        faults: What is wrong with each row so far; noted here for geometries that are wrong.
    """
    if not any(values):
        return [(None, None)] * len(values)
    import shapely

    shapes: Any = shapely.from_wkb(values, on_invalid="ignore")
    found: list[tuple[Bounds | None, Ring | None]] = []
    for i, (value, shape) in enumerate(zip(values, shapes, strict=True)):
        place = None, None
        if value is not None:
            try:
                box = _box([part.bounds for part in shapely.get_parts(shape)])
                place = box, _corners(shape)
            except (UsageError, ValueError, AttributeError, TypeError):
                faults[i] = faults[i] or "has no geometry in longitude and latitude"
        found.append(place)
    return found


def _corners(shape: Any) -> Ring | None:
    """Return the corners of a plain polygon that is more than its box."""
    if shape.geom_type != "Polygon" or shape.interiors or shape.equals(shape.envelope):
        return None
    points = [(float(x), float(y)) for x, y, *_ in shape.exterior.coords[:-1]]
    return tuple(points) if len(points) <= _MOST_CORNERS else None


def _box(parts: list[tuple[float, float, float, float]]) -> Bounds | None:
    if not parts:
        raise ValueError("empty")
    west, south, east, north = (list(side) for side in zip(*parts, strict=True))
    left = [i for i in range(len(parts)) if west[i] <= -180]
    right = [i for i in range(len(parts)) if east[i] >= 180]
    if len(parts) > 1 and left and right and not set(left) & set(right):
        middle = [i for i in range(len(parts)) if i not in {*left, *right}]
        if not middle:
            start, end = min(west[i] for i in right), max(east[i] for i in left)
            return Bounds(start, min(south), end, max(north))
    return Bounds(min(west), min(south), max(east), max(north))


def matrix(
    column: Any, width: int, dtype: npt.DTypeLike, faults: list[str | None], what: str
) -> npt.NDArray[Any]:
    """Return lists as ``[n, width]``; those that are unset or of another length are marked."""
    fixed = pa.types.is_fixed_size_list(column.type) and column.type.list_size == width
    if fixed and not column.null_count:
        return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).astype(dtype)
    found = np.zeros((len(column), width), dtype)
    for i, value in enumerate(_arrays(column)):
        if value is None:
            faults[i] = faults[i] or f"lacks {what}"
        elif len(value) != width:
            faults[i] = faults[i] or f"has {len(value)} values in {what}, not {width}"
        else:
            found[i] = value
    return found


def _arrays(column: Any) -> Iterator[npt.NDArray[Any] | None]:
    if not _is_list(column.type):
        for value in column.to_pylist():
            yield None if value is None else np.frombuffer(value, np.uint8)
        return
    for value in column:
        yield value.values.to_numpy(zero_copy_only=False) if value.is_valid else None


def mark(faults: list[str | None], where: Any, what: str) -> None:
    """Note what is wrong with the rows ``where`` is true, unless something is known already."""
    for i in np.flatnonzero(where).tolist():
        faults[i] = faults[i] or what


def _is_list(kind: Any) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def is_floats(kind: Any) -> bool:
    """Tell lists of floats."""
    return _is_list(kind) and pa.types.is_floating(kind.value_type)


def is_bytes(kind: Any) -> bool:
    """Tell lists of uint8, and binary."""
    lists = _is_list(kind) and pa.types.is_uint8(kind.value_type)
    return lists or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind)


def is_binary(kind: Any) -> bool:
    """Tell binary of any length."""
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def is_text(kind: Any) -> bool:
    """Tell text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_texts(kind: Any) -> bool:
    """Tell lists of text."""
    return _is_list(kind) and is_text(kind.value_type)


def is_name(kind: Any) -> bool:
    """Tell text and whole numbers."""
    return is_text(kind) or pa.types.is_integer(kind)
