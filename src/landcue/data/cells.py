"""The fixed grid ``utm``: square cells of the UTM zones, the same for all scenes and dates.

Cell (column i, row j) of a zone has its lower left corner at easting ``i * pitch`` and northing
``j * pitch`` in meters of WGS 84 / UTM (EPSG:326zz north of the equator, EPSG:327zz south of it,
with their false eastings and northings), and the side ``side``; the pitch is the side unless
``--stride`` makes cells overlap. A cell belongs to the zone and hemisphere that hold its center;
zones are 6 degrees wide everywhere. Its name, such as ``utm14N-640m-n008117-e000755``, holds zone,
side, row and column, and, where cells overlap, the pitch: ``utm14N-640m@320m-n016234-e001510``.

A scene is cut at those cells that lie in it as a whole; strips at its edges that hold no whole cell
are left out. A chip is the window of whole pixels nearest to its cell, so it is off by half a pixel
at most. In a scene of another projection windows stay parallel to its pixels: they have the cell's
center and size, and are turned against it by the convergence of the two projections.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from landcue.data.geo import window_places
from landcue.data.header import RasterFacts
from landcue.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

GRIDS = ("utm",)
"""Names of fixed grids."""

_NAME = r"utm\d{2}[NS]-[0-9.]+m(?:@[0-9.]+m)?-n\d{6,}-e\d{6,}"
_PATTERN = f"(?:^|/)(?P<cell>{_NAME})$"
_MOST = 20_000_000
_LIMITS = {"N": (0.0, 84.0), "S": (-80.0, 0.0)}
Values = npt.NDArray[np.float64]


def cell_windows(
    facts: RasterFacts, side: float, pitch: float
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the windows of a scene that are cells of the grid, row after row, and their names.

    Args:
        side: Side of a cell in meters.
        pitch: Distance from one cell to the next in meters.

    Returns:
        Windows int64 ``[n, 4]``: col, row, width, height; and n names.
    """
    if facts.crs is None:
        raise DataError("has no georeference, so that it has no place on a grid; leave --grid out")
    whole = np.array([[0, 0, facts.width, facts.height]])
    place = window_places(facts.crs, facts.transform, whole)[0]
    if place is None:
        raise DataError("reaches off the map; leave --grid out")
    box = place.bbox
    spans = (
        [(box.west, box.east)] if box.west <= box.east else [(box.west, 180.0), (-180.0, box.east)]
    )
    windows: list[npt.NDArray[np.int64]] = []
    names: list[str] = []
    for west, east in spans:
        for zone in range(_zone(west), _zone(min(east, 179.999999)) + 1):
            lon = max(west, 6.0 * zone - 186), min(east, 6.0 * zone - 180)
            for half, (low, high) in _LIMITS.items():
                lat = max(box.south, low), min(box.north, high)
                if lon[0] < lon[1] and lat[0] < lat[1]:
                    found, named = _of_zone(facts, zone, half, (*lon, *lat), side, pitch)
                    windows.append(found)
                    names += named
    if not names:
        raise DataError(
            f"holds no whole cell of {side:g} m of the grid utm; use a smaller --chip, or leave "
            "--grid out"
        )
    joined = np.concatenate(windows)
    order = np.lexsort((joined[:, 0], joined[:, 1]))
    return joined[order], [names[i] for i in order.tolist()]


def cells_of(ids: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return the cells in the last part of ids, ``None`` for other ids.

    >>> import pyarrow
    >>> cells_of(pyarrow.array(["a/utm14N-640m-n008117-e000755", "b.tif"])).to_pylist()
    ['utm14N-640m-n008117-e000755', None]
    """
    import pyarrow.compute  # here, since decoders need none of it

    pc: Any = pyarrow.compute
    found = pc.struct_field(pc.extract_regex(ids, _PATTERN), "cell")
    return found.combine_chunks() if isinstance(found, pyarrow.ChunkedArray) else found


def grid_of(cell: str) -> str:
    """Return what cells must share to pair: the grid's name with side and pitch.

    >>> grid_of("utm14N-640m@320m-n016234-e001510")
    'utm 640m@320m'
    """
    return f"utm {re.split('-', cell)[1]}"


def _zone(longitude: float) -> int:
    return min(max(int((longitude + 180) // 6) + 1, 1), 60)


def _of_zone(
    facts: RasterFacts,
    zone: int,
    half: str,
    box: tuple[float, float, float, float],
    side: float,
    pitch: float,
) -> tuple[npt.NDArray[np.int64], list[str]]:
    from rasterio.crs import CRS

    utm, degrees = CRS.from_epsg((32600 if half == "N" else 32700) + zone), CRS.from_epsg(4326)
    x, y = _projected(degrees, utm, *_outline(*box))
    low = np.floor(np.array([x.min(), y.min()]) / pitch).astype(np.int64) - 1
    high = np.ceil(np.array([x.max(), y.max()]) / pitch).astype(np.int64) + 1
    shape = high - np.maximum(low, 0)
    if shape.min() < 1:
        return np.empty((0, 4), np.int64), []
    if int(shape[0]) * int(shape[1]) > _MOST:
        raise DataError(f"would be cut into more than {_MOST:,} cells; use a larger --chip")
    low, first, last = np.maximum(low, 0), *_LIMITS[half]
    i = j = center = middle = size = np.empty(0)
    for every in (1 + int(shape.max()) // 64, 1):  # cells too small are noticed on a few of them
        j, i = (a.ravel() for a in np.mgrid[low[1] : high[1] : every, low[0] : high[0] : every])
        center = np.stack([i * pitch + side / 2, j * pitch + side / 2])
        lon, lat = _projected(utm, degrees, *center)
        mine = (lon >= 6 * zone - 186) & (lon < 6 * zone - 180) & (lat >= first) & (lat < last)
        middle = _pixels(facts, utm, *center)
        mine &= (middle > 0).all(axis=0) & (middle[0] < facts.width) & (middle[1] < facts.height)
        i, j, center, middle = i[mine], j[mine], center[:, mine], middle[:, mine]
        across, along = (
            _pixels(facts, utm, *(center + step)) - _pixels(facts, utm, *(center - step))
            for step in np.array([[side / 2, 0], [0, side / 2]])[:, :, None]
        )
        size = np.rint(np.hypot(across, along))
        if size.size and size.min() < 1:
            raise DataError(f"{side:g} m are less than one of its pixels; use a larger --chip")
    # Half a pixel is rounded one way for all cells, whatever the last digits of coordinates.
    corner = np.floor(middle - size / 2 + 0.5 + 1e-6)
    fits = (corner >= 0).all(axis=0) & (corner[0] + size[0] <= facts.width)
    fits &= corner[1] + size[1] <= facts.height
    windows = np.concatenate([corner, size])[:, fits].T.astype(np.int64)
    step = f"{side:g}m" if pitch == side else f"{side:g}m@{pitch:g}m"
    kind = f"utm{zone:02}{half}-{step}"
    rows, columns = j[fits].tolist(), i[fits].tolist()
    names = [f"{kind}-n{row:06}-e{column:06}" for row, column in zip(rows, columns, strict=True)]
    return windows, names


def _outline(west: float, east: float, south: float, north: float) -> tuple[Values, Values]:
    """Return points along the edges of a box in degrees."""
    lon, lat = np.linspace(west, east, 33), np.linspace(south, north, 33)
    ends = np.full(33, south), np.full(33, north)
    sides = np.full(33, west), np.full(33, east)
    return np.concatenate([lon, lon, *sides]), np.concatenate([*ends, lat, lat])


def _pixels(facts: RasterFacts, crs: Any, x: Values, y: Values) -> Values:
    """Return columns and rows float64 ``[2, n]`` of coordinates; NaN where there are none."""
    x, y = _projected(crs, facts.crs, x, y)
    a, b, c, d, e, f = tuple(~facts.transform)[:6]
    return np.stack([a * x + b * y + c, d * x + e * y + f])


def _projected(source: Any, target: Any, x: Values, y: Values) -> tuple[Values, Values]:
    from rasterio.warp import transform

    if not len(x):
        return x, y
    try:
        first, second, *_ = transform(source, target, x, y)
    except Exception:  # GDAL's own family
        raise DataError("its coordinates cannot be projected; leave --grid out") from None
    return np.asarray(first, np.float64), np.asarray(second, np.float64)
