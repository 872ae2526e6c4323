"""Rotated and sheared rasters: resampled north up, everywhere in the same way."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import rasterio
import shapely
from fastapi.testclient import TestClient
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import Resampling
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_geom

import landcue
import raster_rule as rule
import scene_files as files
from landcue.archive import IndexOptions, index_source
from landcue.archive.archive import ArchiveFolder
from landcue.archive.export import write_geojson
from landcue.data.geo import place_of_raster
from landcue.data.header import OBLIQUE, RESAMPLED, read_facts
from landcue.data.images import read_bands, read_image, read_picture
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.search import Chip
from landcue.search.scene import read_chip
from landcue.server.app import create_app
from landcue.server.settings import Limits, Settings
from landcue.types import Window

UTM = "EPSG:32633"
ONE_DECODER = Settings(limits=Limits(decoders=1))


def rotated(degrees, across=10.0, along=-10.0, shear=0.0):
    """Affine at (500000, 5500000): a turn counterclockwise, then pixels of that size."""
    turn, size = np.radians(degrees), np.array([[across, shear], [0, along]])
    a, b, d, e = (
        np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ size
    ).flat
    return Affine(a, b, 500_000, d, e, 5_500_000)


GRIDS = {
    "a little": rotated(3), "17 degrees": rotated(17), "45 degrees": rotated(45),
    "past a quarter": rotated(110), "south up": rotated(200, along=10),
    "long pixels": rotated(31, 10, -25), "sheared": rotated(0, shear=4),
    "sheared and turned": rotated(-62, 10, -14, 5),
}  # fmt: skip


def write(path, values, transform, crs=UTM, **options):
    return files.write_scene(path, values, place={"crs": crs, "transform": transform}, **options)


def smooth(height=60, width=80):
    down, right = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([20 + 200 * down, 20 + 200 * right, 120 + 100 * down * right]).astype(np.uint8)


@pytest.mark.parametrize("name", GRIDS)
def test_pixels_are_those_of_a_warped_raster(tmp_path, name):
    """Whole, in windows that reach outside, and as stored numbers, as rasterio's WarpedVRT has."""
    values = files.noise(1, 3, 90, 130, high=256, dtype="uint8")
    path = write(tmp_path / "a.tif", values, GRIDS[name], photometric="RGB")
    facts = read_facts(path)
    assert facts.notes == (RESAMPLED,)
    assert facts.transform.b == facts.transform.d == 0
    with rasterio.open(path) as file:
        cell = abs(file.transform.determinant)
        options = {"crs": UTM, "transform": facts.transform, "add_alpha": True}
        options |= {"width": facts.width, "height": facts.height, "tolerance": 1e-6}
        with WarpedVRT(file, resampling=Resampling.nearest, **options) as warped:
            *bands, alpha = warped.read()
    wanted = np.stack(bands, axis=2)
    assert facts.transform.a * -facts.transform.e == pytest.approx(cell)
    np.testing.assert_array_equal(read_image(path), wanted)
    stored, valid = read_bands(path, [3, 1])
    np.testing.assert_array_equal(stored, wanted.transpose(2, 0, 1)[[2, 0]])
    np.testing.assert_array_equal(valid, alpha > 0)
    for col, row in ((0, 0), (facts.width - 60, facts.height - 50), (31, 17)):
        window = Window(col, row, 60, 50)
        part = np.s_[row : row + 50, col : col + 60]
        if alpha[part].any():
            np.testing.assert_array_equal(read_chip(Chip(path, window)), wanted[part])
            values, _ = read_bands(path, [2], window=window)
            np.testing.assert_array_equal(values[0], wanted[part][..., 1])


@pytest.mark.parametrize("name", GRIDS)
def test_footprints_are_the_outline_of_the_file_and_the_boxes_of_chips(tmp_path, name):
    path = write(tmp_path / "a.tif", smooth(), GRIDS[name])
    outline = [rule.at(GRIDS[name], *p) for p in ((0, 0), (80, 0), (80, 60), (0, 60))]
    whole = degrees(outline)
    place = place_of_raster(read_facts(path))
    assert place.geometry.symmetric_difference(whole).area < 1e-6 * whole.area
    assert len(place.geometry.exterior.coords) > 5  # no picture fills it
    facts = read_facts(path)
    cut = cut_scenes(open_source(path), SceneOptions(Length(30, meters=False)))
    covered = []
    for record in cut.records:
        w = record.window
        west, north = rule.at(facts.transform, w.col, w.row)
        east, south = rule.at(facts.transform, w.col + w.width, w.row + w.height)
        box = degrees([(west, south), (east, south), (east, north), (west, north)])
        assert record.geometry.symmetric_difference(box).area < 1e-6 * box.area
        assert len(record.geometry.exterior.coords) == 5
        covered.append(record.geometry)
    left = place.geometry.difference(shapely.union_all(covered))
    assert left.area < 1e-4 * whole.area


def degrees(points):
    shape = transform_geom(UTM, "EPSG:4326", shapely.geometry.mapping(shapely.Polygon(points)))
    return shapely.geometry.shape(shape)


def test_coarse_chips_are_resampled_from_coarse_pixels(tmp_path):
    """Read at a quarter of the resolution, also from overviews; nothing mixes with the outside."""
    values = np.full((3, 512, 640), 200, np.uint8)
    values[1] = files.noise(2, 1, 512, 640, high=256, dtype="uint8")
    path = write(tmp_path / "a.tif", values, rotated(25), overviews=[4], photometric="RGB")
    facts = read_facts(path)
    width, height = facts.width // 4 * 4, facts.height // 4 * 4
    with rasterio.open(path) as file:
        coarse = file.read(out_shape=(3, 128, 160), resampling=Resampling.average)
    stored, grid = facts.stored.transform, facts.transform
    wanted = np.zeros((3, height // 4, width // 4), np.uint8)
    rasterio.warp.reproject(
        coarse, wanted, src_transform=stored @ Affine.scale(4), src_crs=UTM, dst_crs=UTM,
        dst_transform=grid @ Affine.scale(4), resampling=Resampling.nearest, tolerance=1e-6,
    )  # fmt: skip
    side = min(width, height) // 4
    got = read_chip(Chip(path, Window(0, 0, width, height)), side)
    np.testing.assert_array_equal(got, wanted.transpose(1, 2, 0))
    assert set(np.unique(got[..., 0])) == {0, 200}


@pytest.mark.parametrize(
    "transform",
    [rotated(45), rotated(0, shear=4e4), Affine(10, 10, 5e5, -10, -10.000001, 5.5e6)],
    ids=["long strip", "extreme shear", "nearly a line"],
)
def test_what_would_grow_too_much_is_turned_by_quarters_and_says_so(tmp_path, transform):
    values = files.noise(0, 3, 20, 900, high=256, dtype="uint8")
    path = write(tmp_path / "a.tif", values, transform, photometric="RGB")
    facts = read_facts(path)
    assert facts.notes == (OBLIQUE,)
    assert (facts.width, facts.height, facts.stored) == (900, 20, None)
    picture = read_picture(path)
    assert OBLIQUE in picture.reading["rules"]
    np.testing.assert_array_equal(picture.pixels, values.transpose(1, 2, 0))


def test_a_long_strip_that_is_nearly_straight_is_resampled(tmp_path):
    path = write(
        tmp_path / "a.tif", files.noise(0, 1, 20, 900, dtype="uint8", high=200), rotated(5)
    )
    assert read_facts(path).notes == (RESAMPLED,)


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e-200, 1e200, 0.0])
def test_georeferences_without_area_are_not_used_and_say_so(tmp_path, number):
    path = write(tmp_path / "a.tif", smooth(), Affine(number, 0, 5e5, 0, -number, 5.5e6))
    facts = read_facts(path)
    assert (facts.crs, facts.transform) == (None, None)
    assert facts.notes == ("georeference not used: its pixels have no area",)
    assert place_of_raster(facts) is None
    np.testing.assert_array_equal(read_image(path), smooth().transpose(1, 2, 0))


def test_a_transform_without_reference_system_is_not_used_and_says_so(tmp_path):
    path = write(tmp_path / "a.tif", smooth(), rotated(20), crs=None)
    picture = read_picture(path)
    assert "transform not used: there is no coordinate reference system" in picture.reading["rules"]
    assert picture.geometry is None
    np.testing.assert_array_equal(picture.pixels, smooth().transpose(1, 2, 0))


def test_a_raster_off_the_map_says_that_it_has_no_footprint(tmp_path):
    path = write(tmp_path / "a.tif", smooth(), Affine(0.1, 0, 10, 0, -0.1, 91), crs="EPSG:4326")
    picture = read_picture(path)
    assert picture.bbox is None
    assert "reaches off the map of its reference system: no footprint" in picture.reading["rules"]


@pytest.mark.parametrize("points", [[(0, 0), (10, 10), (30, 30)], [(5, 5)] * 4])
def test_ground_control_points_on_a_line_are_not_used_and_say_so(tmp_path, points):
    path = write(tmp_path / "a.tif", smooth(), None, crs=None)
    gcps = [GroundControlPoint(row, col, 500_000 + 10 * col, 5e6 - 10 * row) for col, row in points]
    with rasterio.open(path, "r+") as file:
        file.gcps = gcps, rasterio.crs.CRS.from_string(UTM)
    facts = read_facts(path)
    assert facts.crs is None
    assert facts.notes == ("ground control points not used: they lie on a line",)


def test_a_photo_with_a_rotated_world_file(tmp_path):
    """The whole photo, which Pillow reads, and its chips, which GDAL reads, show the same."""
    transform = rotated(30)
    a, b, c, d, e, f = tuple(transform)[:6]
    Image.fromarray(smooth().transpose(1, 2, 0)).save(tmp_path / "a.png")
    lines = [a, d, b, e, c + (a + b) / 2, f + (d + e) / 2]
    (tmp_path / "a.pgw").write_text("\n".join(map(repr, map(float, lines))))
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_string(UTM).to_wkt("WKT1_ESRI"))
    picture = read_picture(tmp_path / "a.png")
    raster = read_picture(write(tmp_path / "b.tif", smooth(), transform, photometric="RGB"))
    assert picture.reading["rules"] == ["placed by a world file", RESAMPLED]
    np.testing.assert_array_equal(picture.pixels, raster.pixels)
    chip = read_chip(Chip(tmp_path / "a.png", Window(20, 20, 40, 30)))
    np.testing.assert_array_equal(chip, raster.pixels[20:50, 20:60])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("rotated") / "data"
    for i, degrees_ in enumerate((20, 75)):
        values = smooth(300, 360)[[i, 1, 2]]
        write(root / f"{i}.tif", values, rotated(degrees_), photometric="RGB")
    return root


@pytest.mark.parametrize("chip", [None, "128px"])
def test_index_search_view_and_export_agree(folder, tmp_path, chip):
    report = index_source(folder, tmp_path / "a", options=IndexOptions(chip=chip))
    assert report.assumed[RESAMPLED] == 2
    with landcue.open(tmp_path / "a") as archive:
        ids = [hit.id for hit in archive.search(k=100)]
        records = {id_: archive.record(id_) for id_ in ids}
        for record in records.values():
            assert RESAMPLED in record.reading["rules"]
            query = folder / record.path
            if record.window is not None:
                query = Chip(query, record.window)
            assert archive.search(query, k=1)[0].distance < 1e-5
        whole = archive.search(folder / "1.tif", k=1)[0]
        assert chip is not None or (whole.id == "1.tif" and whole.distance < 1e-5)
        upload = archive.search((folder / "1.tif").read_bytes(), k=1)[0]
        assert (upload.id, upload.distance) == (whole.id, whole.distance)
    with TestClient(create_app([tmp_path / "a"], ONE_DECODER), "http://127.0.0.1") as client:
        for id_, record in records.items():
            answer = client.get(f"/v1/records/{id_}/chip")
            shown = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
            wanted = read_chip(Chip(folder / record.path, record.window))
            assert shown.shape == wanted.shape
            assert np.abs(shown - wanted).mean() < 3  # a JPEG
    write_geojson(ArchiveFolder.open(tmp_path / "a"), tmp_path / "a.geojson")
    for feature in json.loads((tmp_path / "a.geojson").read_text())["features"]:
        exported = shapely.geometry.shape(feature["geometry"])
        record = records[feature["id"]]
        if record.window is None:
            wanted = place_of_raster(read_facts(folder / record.path)).geometry
        else:
            cut = cut_scenes(
                open_source(folder / record.path), SceneOptions(Length(128, meters=False))
            )
            (wanted,) = (r.geometry for r in cut.records if r.window == record.window)
        assert exported.symmetric_difference(wanted).area < 1e-9 * wanted.area
