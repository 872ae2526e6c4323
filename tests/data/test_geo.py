"""Places: areas and containment against rasterio and shapely, on rasters of every kind."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.transform import from_bounds, from_origin
from rasterio.warp import transform as project
from shapely.geometry import Polygon, box, mapping

from landcue.data.geo import window_places
from landcue.data.places import area_of, box_of, normalize, place_of
from landcue.errors import DataError
from landcue.search.place import inside, touches
from landcue.types import Bounds

SIZE = 120
RASTERS = {
    "globe": ("EPSG:4326", from_bounds(-180, -90, 180, 90, SIZE, SIZE)),
    "globe from 0": ("EPSG:4326", from_bounds(0, -90, 360, 90, SIZE, SIZE)),
    "globe, half a pixel off": ("EPSG:4326", from_bounds(-180.5, -89, 179.5, 89, SIZE, SIZE)),
    "340 degrees": ("EPSG:4326", from_bounds(-170, -60, 170, 60, SIZE, SIZE)),
    "340 degrees from 10": ("EPSG:4326", from_bounds(10, -60, 350, 60, SIZE, SIZE)),
    "200 degrees over 180": ("EPSG:4326", from_bounds(80, -30, 280, 30, SIZE, SIZE)),
    "181 degrees": ("EPSG:4326", from_bounds(-90.5, 10, 90.5, 30, SIZE, SIZE)),
    "south-up": ("EPSG:4326", Affine(0.1, 0, 20, 0, 0.1, 40)),
    "utm tile": ("EPSG:32633", from_origin(300_000, 5_600_040, 915, 915)),
    "utm tile over 180": ("EPSG:32601", from_origin(200_000, 7_000_000, 915, 915)),
    "utm rotated": ("EPSG:32756", Affine.translation(4e5, 6e6) @ Affine.rotation(40)
                    @ Affine.scale(300, -300)),
    "mercator globe": ("EPSG:3857", from_bounds(-2.003e7, -2e7, 2.003e7, 2e7, SIZE, SIZE)),
    "sinusoidal": ("+proj=sinu +R=6371007.181", from_origin(-1_111_950, 5_559_752, 9266, 9266)),
    "equal area": ("EPSG:6933", from_bounds(-1.73e7, -7e6, 1.73e7, 7e6, SIZE, SIZE)),
    "around the north pole": ("EPSG:3413", from_origin(-3e6, 3e6, 50_000, 50_000)),
    "around the south pole": ("EPSG:3031", from_origin(-3e6, 3e6, 50_000, 50_000)),
    "beside the pole": ("EPSG:3413", from_origin(200_000, 900_000, 5000, 5000)),
    "the pole on its edge": ("EPSG:3031", from_origin(-3e5, 6e5, 5000, 5000)),
    "the pole in its corner": ("EPSG:3413", from_origin(0, 6e5, 5000, 5000)),
    "pacific mercator": ("EPSG:3832", from_origin(2_000_000, 3_000_000, 20_000, 20_000)),
}  # fmt: skip
WINDOWS = np.array([[0, 0, SIZE, SIZE], [10, 20, 64, 64], [70, 30, 50, 90], [0, 60, SIZE, 1]])


def covers(footprint, lon, lat):
    """Whether a point lies in a footprint, on whichever side of the antimeridian it is named."""
    return any(footprint.intersects(shapely.Point(lon + turn, lat)) for turn in (-360, 0, 360))


@pytest.mark.parametrize("name", RASTERS)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_pixels_lie_in_the_footprint_of_their_window_alone(name):
    """Centers of pixels, projected by rasterio one by one, against the footprints."""
    text, transform = RASTERS[name]
    crs = CRS.from_string(text)
    rng = np.random.default_rng(0)
    for window, place in zip(WINDOWS, window_places(crs, transform, WINDOWS), strict=True):
        col, row, width, height = window.tolist()
        pixels = rng.integers(0, SIZE, (300, 2)) + 0.5
        xs, ys = zip(*(transform @ tuple(pixel) for pixel in pixels), strict=True)
        lon, lat = project(crs, "EPSG:4326", xs, ys)
        shape = place.geometry
        assert shape.is_valid
        assert all(part.exterior.is_ccw for part in shapely.get_parts(shape))
        bounds = shape.bounds
        assert -180 <= bounds[0] < bounds[2] <= 180
        margin = 0.02
        for (x, y), at, up in zip(pixels, lon, lat, strict=True):
            off = max(col - x, x - col - width, row - y, y - row - height)
            if abs(off) > margin * max(width, height):  # not at the very edge
                assert covers(shape, at, up) == (off < 0), (x, y, at, up)
            if off < 0:
                west, east = place.bbox.west, place.bbox.east
                assert place.bbox.south - 1e-6 <= up <= place.bbox.north + 1e-6
                assert (at - west) % 360 <= (east - west) % 360 + 1e-6 or east - west == 360


@pytest.mark.parametrize("name", [name for name, (crs, _) in RASTERS.items() if crs == "EPSG:4326"])
def test_areas_of_rasters_in_degrees_are_exact(name):
    text, transform = RASTERS[name]
    for window, place in zip(
        WINDOWS, window_places(CRS.from_string(text), transform, WINDOWS), strict=True
    ):
        width, height = window[2] * abs(transform.a), window[3] * abs(transform.e)
        assert place.geometry.area == pytest.approx(width * height, rel=1e-9)
        box_width = (place.bbox.east - place.bbox.west) % 360 or 360
        assert box_width == pytest.approx(min(width, 360), rel=1e-9)


@pytest.mark.parametrize(
    "name", ["utm tile", "beside the pole", "around the north pole", "equal area"]
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_areas_on_the_ground(name):
    """The area on the ellipsoid, through an equal-area projection, against the pixels' own."""
    text, transform = RASTERS[name]
    crs = CRS.from_string(text)
    (place,) = window_places(crs, transform, WINDOWS[:1])
    equal = "EPSG:6933" if crs.to_epsg() == 6933 else "+proj=laea +lat_0=90 +lon_0=0 +ellps=WGS84"
    if name == "utm tile":
        equal = "+proj=laea +lat_0=50 +lon_0=13 +ellps=WGS84"

    def flat(shape, source):
        dense = shapely.segmentize(shape, 0.25 if source == "EPSG:4326" else 5000)
        ring = np.array(dense.exterior.coords)
        return Polygon(np.stack(project(source, equal, *ring.T), axis=1))

    corners = [transform @ corner for corner in ((0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE))]
    expected = flat(Polygon(corners), crs).area
    ours = sum(abs(flat(part, "EPSG:4326").area) for part in shapely.get_parts(place.geometry))
    assert ours == pytest.approx(expected, rel=2e-3)


GEOMETRIES = {
    "over 180, the short way": ([(179, 0), (-179, 0), (-179, 1), (179, 1)], 2, (179, -179)),
    "past 180": ([(179, 0), (181, 0), (181, 1), (179, 1)], 2, (179, -179)),
    "all past 180": ([(190, 0), (200, 0), (200, 1), (190, 1)], 10, (-170, -160)),
    "before -180": ([(-190, 0), (-175, 0), (-175, 1), (-190, 1)], 15, (170, -175)),
    "0 to 360": ([(0, 0), (360, 0), (360, 1), (0, 1)], 360, (-180, 180)),
    "10 to 350": ([(10, 0), (350, 0), (350, 1), (10, 1)], 340, (10, -10)),
    "the globe": ([(-180, 0), (180, 0), (180, 1), (-180, 1)], 360, (-180, 180)),
    "clockwise": ([(0, 0), (0, 1), (1, 1), (1, 0)], 1, (0, 1)),
    "a ring around the pole": ([(0, 80), (90, 80), (180, 80), (-90, 80)], 3600, (-180, 180)),
    "touching 180": ([(170, 0), (180, 0), (180, 1), (170, 1)], 10, (170, 180)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_geometries_are_normalized(name):
    corners, area, (west, east) = GEOMETRIES[name]
    for geometry in (
        Polygon(corners),
        mapping(Polygon(corners)),
        shapely.to_wkb(Polygon(corners)),
        Polygon(corners).wkt,
        shapely.MultiPolygon([Polygon(corners)]),
        shapely.force_3d(Polygon(corners), 12.0),
    ):
        place = place_of(geometry)
        assert place.geometry.area == pytest.approx(area)
        assert (place.bbox.west, place.bbox.east) == (west, east)
        again = normalize(place.geometry)  # what an export writes is read back as it was
        assert again.geometry.equals(place.geometry)
        assert again.bbox == place.bbox


def test_a_box_tells_how_a_wide_edge_is_meant():
    wide = box(-170, -10, 170, 10)
    assert place_of(wide).geometry.area == 20 * 20
    assert place_of(wide, [-170, -10, 170, 10]).geometry.area == 340 * 20
    assert place_of(wide, [170, -10, -170, 10]).geometry.area == 20 * 20
    # Otherwise the geometry wins, also over a box that is no box.
    for other in ([0, 0, 1, 1], [1, 2], ["a"] * 4):
        assert place_of(box(5, 5, 6, 6), other).bbox == Bounds(5, 5, 6, 6)
    assert place_of(None, [190, 0, 200, 1]).bbox == Bounds(-170, 0, -160, 1)
    assert place_of(None, [1, 2, 50, 3, 4, 60]).bbox == Bounds(1, 2, 3, 4)
    assert place_of(None) is None


def test_parts_on_both_sides_and_holes():
    split = shapely.MultiPolygon([box(178, 0, 180, 1), box(-180, 0, -177, 1)])
    assert place_of(split).bbox == Bounds(178, 0, -177, 1)
    assert place_of(split).geometry.area == 5
    apart = shapely.MultiPolygon([box(-5, 42, 9, 51), box(55, -22, 56, -20)])
    assert place_of(apart).bbox == Bounds(-5, -22, 56, 51)
    assert len(place_of(apart).geometry.geoms) == 2
    holed = Polygon([(178, 0), (-178, 0), (-178, 4), (178, 4)], [[(179, 1), (-179, 1), (-179, 2)]])
    assert place_of(holed).geometry.area == pytest.approx(16 - 1)
    assert place_of(shapely.Point(200, 3)).bbox == Bounds(-160, 3, -160, 3)
    line = shapely.LineString([(179, 0), (-179, 2)])
    assert place_of(line).bbox == Bounds(179, 0, -179, 2)


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (box(10, 100, 20, 120), r"latitude 120, not -90..90 \(are longitude and latitude swapped"),
        (box(500_000, 0, 500_001, 1), "longitude 500001; use degrees"),
        (box(0, 5_000_000, 1, 5_000_001), "latitude 5e.06, not -90..90"),
        (Polygon(), "geometry is empty"),
        (Polygon([(0, 0), (1, 1), (0, 0)]), "not a polygon with an area"),
        ({"type": "Polygon"}, "cannot be read"),
        ({"type": "Blob", "coordinates": []}, "cannot be read"),
        (b"no wkb", "cannot be read"),
        ("POLYGON ((", "cannot be read"),
        (Polygon([(0, 0), (np.nan, 0), (1, 1)]), "not finite"),
    ],
)
def test_places_that_cannot_be(geometry, message):
    with pytest.raises(DataError, match=message):
        place_of(geometry)


@pytest.mark.parametrize("values", [[1, 2, 3], [0, 91, 1, 92], [0, 5, 1, 4], [0, 0, "x", 1],
                                    [9e9, 0, 9e9, 1], [float("nan"), 0, 1, 1]])  # fmt: skip
def test_boxes_that_cannot_be(values):
    with pytest.raises(DataError):
        box_of(values)


degrees = st.integers(-18, 18).map(lambda n: n * 10)


@settings(max_examples=150)
@given(
    sides=st.lists(st.tuples(degrees, degrees, st.integers(-8, 7)), min_size=1, max_size=8),
    west=degrees, east=degrees, south=st.integers(-8, 7),
)  # fmt: skip
def test_a_polygon_finds_what_its_box_finds(sides, west, east, south):
    """Boxes of all widths, as footprints and as a polygon that goes on past 180."""
    flat = [(end, end) for end in range(-180, 181, 10)] + [(180, -180)]  # of no width
    boxes = [Bounds(w, 10 * s, e, 10 * s + 10) for w, e, s in sides if (w, e) not in flat]
    wanted = Bounds(west, 10 * south, east, 10 * south + 10)
    if not boxes or (west, east) in flat:
        return
    footprints = np.array([(b.west, b.south, b.east, b.north) for b in boxes], np.float64)
    exact = np.empty(len(boxes), object)
    exact[:] = [area_of(b) for b in boxes]
    past = box(west, 10 * south, east + 360 * (west > east), 10 * south + 10)
    expected = touches(footprints, wanted)
    for polygon in (past, area_of(wanted)):
        np.testing.assert_array_equal(inside(polygon, footprints), expected)
        found = inside(polygon, footprints, lambda rows: exact[rows])
        np.testing.assert_array_equal(found, expected)
