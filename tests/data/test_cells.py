"""The fixed grid: cells of scenes of any date, resolution and projection."""

import math

import numpy as np
import pyarrow as pa
import pytest
import shapely
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform, transform_bounds

from landcue.data.cells import cell_windows, cells_of, grid_of
from landcue.data.header import RasterFacts
from landcue.data.scenes import Length, SceneOptions
from landcue.errors import DataError, UsageError


def scene(crs, west, north, step, width, height):
    across, down = step if isinstance(step, tuple) else (step, step)
    return RasterFacts(
        width, height, 3, (1, 2, 3), CRS.from_user_input(crs),
        from_origin(west, north, across, down), None, None,
    )  # fmt: skip


def box(facts, window):
    col, row, width, height = window
    a = facts.transform
    x0, y0, x1, y1 = (
        a.c + a.a * col,
        a.f + a.e * row,
        a.c + a.a * (col + width),
        a.f + a.e * (row + height),
    )
    return shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))


def test_windows_are_the_whole_cells_of_a_scene():
    facts = scene("EPSG:32614", 485_903.0, 5_209_248.0, 5, 934, 724)
    windows, names = cell_windows(facts, 320, 320)
    east, south = 485_903 + 934 * 5, 5_209_248 - 724 * 5
    columns = range(math.ceil(485_903 / 320), east // 320)
    rows = range(math.ceil(south / 320), 5_209_248 // 320)
    wanted = {f"utm14N-320m-n{j:06}-e{i:06}" for j in rows for i in columns}
    assert set(names) == wanted
    assert len(names) == len(wanted)
    for window, name in zip(windows.tolist(), names, strict=True):
        j, i = int(name[13:19]), int(name[21:27])
        left, bottom, *_ = box(facts, window).bounds
        assert abs(left - i * 320) <= 2.5
        assert abs(bottom - j * 320) <= 2.5
        assert window[2:] == [64, 64]
    assert (np.diff(windows[:, 1]) >= 0).all()


def test_overlapping_cells_are_named_by_their_pitch():
    facts = scene("EPSG:32714", 320_000, 9_000_320 + 640, 10, 96, 96)
    windows, names = cell_windows(facts, 640, 320)
    assert sorted(names)[0] == "utm14S-640m@320m-n028125-e001000"
    assert len(names) == 4
    assert windows[:, 2:].tolist() == [[64, 64]] * 4
    assert grid_of(names[0]) == "utm 640m@320m"


@pytest.mark.parametrize(
    ("crs", "step"), [("EPSG:3857", 10.0), ("EPSG:4326", (0.00013, 0.00009)), ("EPSG:32615", 6.0)]
)
def test_cells_are_the_same_in_other_projections(crs, step):
    home = scene("EPSG:32614", 700_000, 5_260_000, 5, 2000, 2000)
    bounds = transform_bounds(home.crs, crs, 700_000, 5_250_000, 710_000, 5_260_000)
    across, down = step if isinstance(step, tuple) else (step, step)
    size = [round((bounds[2] - bounds[0]) / across), round((bounds[3] - bounds[1]) / down)]
    other = scene(crs, bounds[0], bounds[3], step, *size)
    ours, theirs = (dict(zip(*cell_windows(f, 640, 640)[::-1], strict=True)) for f in (home, other))
    assert len(ours.keys() & theirs.keys()) > 150
    for name in ours.keys() & theirs.keys():
        area = box(other, theirs[name])
        x, y = transform(other.crs, home.crs, *np.array(area.exterior.coords).T)
        moved, cell = shapely.Polygon(np.stack([x, y], 1)), box(home, ours[name])
        assert moved.intersection(cell).area / moved.union(cell).area > 0.85
        assert moved.centroid.distance(cell.centroid) < 10


def test_cells_change_their_zone_at_its_border_and_at_the_antimeridian():
    x, y = transform(CRS.from_epsg(4326), CRS.from_epsg(32614), [-96.0], [45.0])
    names = cell_windows(scene("EPSG:32614", x[0] - 9000, y[0] + 5000, 10, 1800, 1000), 500, 500)[1]
    assert {name[:6] for name in names} == {"utm14N", "utm15N"}
    x, y = transform(CRS.from_epsg(4326), CRS.from_epsg(32660), [180.0], [-17.0])
    names = cell_windows(scene("EPSG:32660", x[0] - 9000, y[0] + 5000, 10, 1800, 1000), 500, 500)[1]
    assert {name[:6] for name in names} == {"utm60S", "utm01S"}


def test_cells_of_ids():
    ids = ["a/b/utm14N-640m-n008117-e000755", "utm01S-0.5m@0.25m-n012345678-e000001",
           "x-utm14N-640m-n008117-e000755", "utm14N-640m-n008117-e000755.tif", None]  # fmt: skip
    found = cells_of(pa.chunked_array([pa.array(ids, pa.large_string())])).to_pylist()
    assert found == [ids[0][4:], ids[1], None, None, None]


@pytest.mark.parametrize(
    ("facts", "word"),
    [
        (scene("EPSG:32614", 500_010, 5_000_000, 10, 70, 70), "holds no whole cell of 640 m"),
        (scene("EPSG:4326", -180, 90, 0.5, 720, 360), "less than one of its pixels"),
        (scene("EPSG:3413", -50_000, 50_000, 100, 1000, 1000), "holds no whole cell"),
        (RasterFacts(9, 9, 3, (1, 2, 3), None, None, None, None), "has no georeference"),
    ],
)
def test_scenes_without_cells_say_why(facts, word):
    with pytest.raises(DataError, match=word):
        cell_windows(facts, 640, 640)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"grid": "mgrs"}, "unknown grid 'mgrs'"),
        ({}, "add their side: --chip 640m"),
        ({"chip": Length(64, meters=False)}, "--chip 64px: a grid needs meters"),
        ({"chip": Length(64, True), "stride": Length(9, False)}, "--stride 9px: a grid needs"),
        ({"chip": Length(64, True), "stride": Length(90, True)}, "is longer than --chip"),
    ],
)
def test_bad_grid_options(options, word):
    with pytest.raises(UsageError, match=word):
        SceneOptions(**{"grid": "utm", **options})
