"""Where chips lie: against rasterio's own transforms; and how scenes are cut."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import transform as project
from rasterio.warp import transform_bounds
from rasterio.windows import Window as RasterWindow
from rasterio.windows import bounds as window_bounds
from rasterio.windows import transform as window_transform
from shapely.geometry import Polygon

import scene_files as files
from landcue.data.geo import ground_steps, place_of_raster, window_places
from landcue.data.header import read_facts
from landcue.data.places import joined_at_antimeridian
from landcue.data.scenes import Length, SceneOptions, grid, pixel_meters, pixels_of
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import DataError, UsageError

SCENES = {
    "utm north": ("EPSG:32633", from_origin(500_000, 5_500_000, 10, 10)),
    "utm south": ("EPSG:32756", from_origin(300_000, 6_250_000, 30, 30)),
    "degrees": ("EPSG:4326", from_origin(10, 50, 0.001, 0.001)),
    "degrees past 180": ("EPSG:4326", from_origin(179.93, -15, 0.001, 0.001)),
    "degrees 0 to 360": ("EPSG:4326", from_origin(200, 10, 0.01, 0.01)),
    "web mercator": ("EPSG:3857", from_origin(1_000_000, 8_000_000, 20, 20)),
    "europe": ("EPSG:3035", from_origin(4_000_000, 3_000_000, 100, 100)),
    "over the antimeridian": ("EPSG:32601", from_origin(290_000, 7_000_000, 100, 100)),
    "antimeridian, mercator": ("EPSG:3832", from_origin(3_300_000, 100_000, 200, 200)),
    "arctic": ("EPSG:3413", from_origin(-2_000_000, 1_000_000, 500, 500)),
    "antarctic": ("EPSG:3031", from_origin(500_000, 2_000_000, 300, 300)),
    "feet": ("EPSG:2263", from_origin(980_000, 200_000, 5, 5)),
}


def turn(lon):
    """Longitudes as points on a circle, so that 180 and -180 are one."""
    return np.exp(1j * np.radians(lon))


@pytest.mark.parametrize("name", SCENES)
def test_footprints_equal_rasterios(name):
    crs, transform = CRS.from_string(SCENES[name][0]), SCENES[name][1]
    windows = grid(400, 140, (200, 70), (150, 70))
    for window, place in zip(windows, window_places(crs, transform, windows), strict=True):
        col, row, width, height = (int(value) for value in window)
        chip = window_transform(RasterWindow(col, row, width, height), transform)
        corners = [chip @ corner for corner in ((0, 0), (width, 0), (width, height), (0, height))]
        lon, lat = project(crs, "EPSG:4326", *zip(*corners, strict=True))
        ours = shapely.get_coordinates(place.geometry)
        for corner in zip(lon, lat, strict=True):  # all four are corners of the footprint
            off = np.abs(turn(ours[:, 0]) - turn(corner[0])) + np.abs(ours[:, 1] - corner[1])
            assert off.min() < 1e-9
        assert np.abs(ours[:, 0]).max() <= 180

        theirs = transform_bounds(
            crs, "EPSG:4326", *window_bounds(RasterWindow(col, row, width, height), transform)
        )
        box = place.bbox
        # Both follow the edges in steps; theirs are finer.
        size = max(theirs[3] - theirs[1], (theirs[2] - theirs[0]) % 360)
        for ours_, theirs_ in ((box.west, theirs[0]), (box.east, theirs[2])):
            assert abs(turn(ours_) - turn(theirs_)) < np.radians(0.02 * size) + 1e-9
        assert box.south == pytest.approx(theirs[1], abs=0.02 * size)
        assert box.north == pytest.approx(theirs[3], abs=0.02 * size)
        crosses = place.geometry.geom_type == "MultiPolygon"
        assert (box.west > box.east) == crosses or 180 in (abs(box.west), abs(box.east))


def test_a_scene_over_the_antimeridian_has_chips_on_both_sides_and_across():
    crs, transform = SCENES["over the antimeridian"]
    windows = grid(1000, 100, (100, 100), (100, 100))
    boxes = [p.bbox for p in window_places(CRS.from_string(crs), transform, windows)]
    assert any(box.west > box.east for box in boxes)
    assert any(0 < box.west < box.east for box in boxes)
    assert any(box.west < box.east < 0 for box in boxes)
    widths = [(box.east - box.west) % 360 for box in boxes]
    assert max(widths) < 1


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3413", 1), ("EPSG:3031", -1)])
def test_a_chip_around_a_pole_takes_all_longitudes(crs, sign):
    transform = from_origin(-30_000, 30_000, 100, 100)
    window = np.array([[200, 200, 200, 200], [0, 0, 100, 100], [300, 300, 50, 50]])
    around, beside, corner = window_places(CRS.from_string(crs), transform, window)
    for box in (around.bbox, corner.bbox):
        assert (box.north if sign > 0 else box.south) == 90 * sign
    assert (around.bbox.west, around.bbox.east) == (-180, 180)
    # The pole is a corner of the third chip, which takes a quarter of all longitudes.
    assert (corner.bbox.east - corner.bbox.west) % 360 == pytest.approx(90)
    assert (beside.bbox.east - beside.bbox.west) % 360 < 90
    polygon = around.geometry
    assert polygon.geom_type == "Polygon"
    assert polygon.is_valid
    assert polygon.bounds[0::2] == (-180, 180)


def test_whole_earth_and_its_top_row():
    crs, transform = CRS.from_string("EPSG:4326"), from_bounds(-180, -90, 180, 90, 360, 180)
    whole, top = window_places(crs, transform, np.array([[0, 0, 360, 180], [190, 0, 10, 10]]))
    assert (whole.bbox.west, whole.bbox.south) == (-180, -90)
    assert (whole.bbox.east, whole.bbox.north) == (180, 90)
    assert (top.bbox.west, top.bbox.east, top.bbox.north) == (10, 20, 90)


def test_rotated_and_sheared_scenes():
    crs = CRS.from_string("EPSG:32633")
    transform = (
        Affine.translation(500_000, 5_500_000) @ Affine.rotation(30) @ Affine.shear(5)
        @ Affine.scale(10, -10)
    )  # fmt: skip
    (place,) = window_places(crs, transform, np.array([[40, 60, 100, 80]]))
    pixels = [(40, 60), (140, 60), (140, 140), (40, 140)]
    lon, lat = project(crs, "EPSG:4326", *zip(*(transform @ p for p in pixels), strict=True))
    corners = Polygon(np.stack([lon, lat], 1))
    assert place.geometry.symmetric_difference(corners).area < 1e-12
    assert place.geometry.exterior.is_ccw
    assert place.bbox.west == pytest.approx(min(lon), abs=1e-5)
    assert place.bbox.north == pytest.approx(max(lat), abs=1e-5)


def test_off_the_map_is_no_place():
    crs = CRS.from_string("EPSG:32633")
    far = from_origin(1e12, 1e12, 1, 1)
    assert window_places(crs, far, np.array([[0, 0, 10, 10]])) == [None]
    # The full disk of a geostationary satellite: its corners look past the Earth.
    disk = CRS.from_string("+proj=geos +h=35785831 +lon_0=0 +sweep=y")
    step = 5_500_000 * 2 / 30
    windows = np.array([[0, 0, 10, 10], [10, 10, 10, 10], [20, 20, 10, 10]])
    corner, center, other = window_places(disk, from_origin(-5.5e6, 5.5e6, step, step), windows)
    assert corner is other is None
    assert center.bbox.west == pytest.approx(-center.bbox.east)
    assert 10 < center.bbox.north < 30


@pytest.mark.parametrize("name", ["over the antimeridian", "degrees past 180"])
def test_split_rings_hold_the_same_area(name):
    crs, transform = SCENES[name]
    windows = grid(1000, 100, (100, 100), (100, 100))
    split = 0
    for place in window_places(CRS.from_string(crs), transform, windows):
        parts = shapely.get_parts(place.geometry)
        split += len(parts) == 2
        whole = joined_at_antimeridian(place.geometry)
        assert sum(part.area for part in parts) == pytest.approx(whole.area)
        assert whole.bounds[2] - whole.bounds[0] < 1
        for part in parts:
            assert part.is_valid
            assert -180 <= part.bounds[0] < part.bounds[2] <= 180
    assert split


def test_meters_on_the_ground():
    crs, transform = CRS.from_string("EPSG:4326"), from_origin(10, 60, 0.001, 0.001)
    across, along = ground_steps(crs, transform, 0, 0)
    # A degree at 60 degrees north on WGS 84: 55,800.0 m by 111,412.2 m.
    assert across * 1000 == pytest.approx(55_800, rel=1e-4)
    assert along * 1000 == pytest.approx(111_412, rel=1e-4)
    mercator = CRS.from_string("EPSG:3857")
    across, along = pixel_meters(mercator, from_origin(0, 8_399_737, 20, 20), 10, 10)
    assert across == pytest.approx(10.03, abs=0.05)  # its meters are twice too long at 60 degrees
    # Projections that are nearly true keep their word.
    utm = CRS.from_string("EPSG:32633")
    assert pixel_meters(utm, from_origin(200_000, 5e6, 10, 10), 10, 10) == (10, 10)
    feet = pixel_meters(CRS.from_string("EPSG:2263"), from_origin(980_000, 2e5, 5, 5), 9, 9)
    assert feet == pytest.approx((5 * 1200 / 3937,) * 2)
    assert pixels_of(Length(120, meters=True), (10.0, 20.0)) == (12, 6)


def test_a_pole_is_no_obstacle_to_meters():
    crs, transform = CRS.from_string("EPSG:3413"), from_origin(-500, 500, 100, 100)
    # The scale of this projection at the pole is 0.969.
    assert ground_steps(crs, transform, 5, 5) == pytest.approx((103.2, 103.2), abs=0.2)


@given(
    width=st.integers(1, 90), height=st.integers(1, 90),
    chip=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    stride=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)  # fmt: skip
def test_grid_covers_a_scene_with_whole_chips(width, height, chip, stride):
    windows = grid(width, height, chip, stride)
    assert len({tuple(window) for window in windows.tolist()}) == len(windows)
    side = min(chip[0], width), min(chip[1], height)
    seen = np.zeros((height, width), bool)
    for col, row, w, h in windows.tolist():
        assert (w, h) == side
        assert 0 <= col <= width - w
        assert 0 <= row <= height - h
        assert col % stride[0] == 0 or col == width - w
        assert row % stride[1] == 0 or row == height - h
        seen[row : row + h, col : col + w] = True
    if stride[0] <= side[0] and stride[1] <= side[1]:
        assert seen.all()
    assert seen[0, 0]
    assert seen[-1, -1]
    order = [(row, col) for col, row, _, _ in windows.tolist()]
    assert order == sorted(order)


@pytest.mark.parametrize("text", ["", "256", "0px", "2.5px", "-3m", "1e3m", "12 parsec", "nanm"])
def test_lengths_that_are_none(text):
    with pytest.raises(UsageError, match="--chip"):
        Length.parse(text, "--chip")


def test_lengths():
    assert Length.parse("256px", "--chip") == Length(256, meters=False)
    assert Length.parse("1.2km", "--chip") == Length(1200, meters=True)
    with pytest.raises(DataError, match="no georeference"):
        pixels_of(Length(100, meters=True), None)
    with pytest.raises(DataError, match="less than one of its pixels"):
        pixels_of(Length(4, meters=True), (10.0, 10.0))
    with pytest.raises(UsageError, match="too long"):
        SceneOptions(Length(9000, meters=False))


def test_chips_as_records(tmp_path):
    """Ids, group, time and sensor; the source's word goes before the file's tags."""
    tags = {"TIFFTAG_DATETIME": "2024:05:06 07:08:09", "SATELLITEID": "WV02"}
    files.write_scene(tmp_path / "north" / "a.tif", files.noise(0, 3, 30, 40), tags=tags)
    (tmp_path / "notes.png").write_bytes(b"")
    cut = cut_scenes(open_source(tmp_path), SceneOptions(Length(20, meters=False)))
    assert [r.id for r in cut.records] == [
        "north/a/r000000-c000000-20x20", "north/a/r000000-c000020-20x20",
        "north/a/r000010-c000000-20x20", "north/a/r000010-c000020-20x20",
    ]  # fmt: skip
    record = cut.records[3]
    assert (record.window.col, record.window.row) == (20, 10)
    assert (record.group, record.sensor, record.labels) == ("north/a", "WV02", None)
    assert record.datetime.isoformat() == "2024-05-06T07:08:09+00:00"
    assert [str(p) for p in cut.problems] == ["notes.png: the file is empty (0 bytes)"]
    (tmp_path / "t.csv").write_text(
        "path,time,sensor\nnorth/a.tif,2020-01-02T03:04:05Z,Sentinel-2\n"
    )
    cut = cut_scenes(open_source(tmp_path / "t.csv"), SceneOptions(Length(200, meters=True)))
    assert len(cut) == 4
    assert cut.records[0].datetime.year == 2020
    assert cut.records[0].sensor == "Sentinel-2"


def test_one_scene_as_a_source_and_its_whole_footprint(tmp_path):
    path = files.write_scene(tmp_path / "a.tif", files.noise(0, 3, 30, 40))
    cut = cut_scenes(open_source(path), SceneOptions(Length(500, meters=False)))
    assert [r.id for r in cut.records] == ["a/r000000-c000000-40x30"]
    assert place_of_raster(read_facts(path)).bbox == cut.records[0].bbox


def test_scene_without_geo_reference(tmp_path):
    files.write_scene(tmp_path / "a.tif", files.noise(0, 3, 30, 40), place={})
    cut = cut_scenes(open_source(tmp_path), SceneOptions(Length(20, meters=False)))
    assert {(r.bbox, r.geometry) for r in cut.records} == {(None, None)}
    assert [str(p) for p in cut.problems] == [
        "a.tif: has no georeference; its chips have no footprint"
    ]
    with pytest.raises(DataError, match=r"a\.tif: has no georeference, so that 100m"):
        cut_scenes(open_source(tmp_path), SceneOptions(Length(100, meters=True)))


def test_a_photo_with_broken_exif_data_costs_one_scene(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    for name in ("good.jpg", "broken.jpg"):
        Image.new("RGB", (64, 64), (90, 120, 30)).save(tmp_path / name, exif=exif)
    data = (tmp_path / "broken.jpg").read_bytes()
    start = data.index(b"Exif\0\0") + 6
    (tmp_path / "broken.jpg").write_bytes(data[: start + 2] + b"\xce\xce" + data[start + 4 :])
    cut = cut_scenes(open_source(tmp_path), SceneOptions(Length(32, meters=False)))
    assert {record.path.name for record in cut.records} == {"good.jpg"}
    assert any(p.where == "broken.jpg" and "corrupt" in p.what for p in cut.problems)


def test_time_of_a_tag_outside_of_the_calendar_is_left_out(tmp_path):
    tags = {"ACQUISITIONDATETIME": "0001-01-01T00:00:00+14:00"}
    files.write_scene(tmp_path / "a.tif", files.noise(0, 3, 30, 40), tags=tags)
    assert read_facts(tmp_path / "a.tif").time is None
