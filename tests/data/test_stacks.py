"""Scenes of one file a band: SAFE products, BigEarthNet patches, Landsat and plain names."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

import scene_files as files
from landcue.archive import IndexOptions, index_source
from landcue.data.images import read_bands, read_image, read_picture
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.data.stacks import band_files
from landcue.errors import DataError
from landcue.search import Chip
from landcue.search.scene import read_chip
from landcue.types import Window

SAFE = "S2A_MSIL2A_20200304T101021_N0214_R022_T33UUP.SAFE/GRANULE/L2A_T33UUP/IMG_DATA"
TILE = "T33UUP_20200304T101021"


def write_bands(folder, names, size=60, kind="GTiff", seed=0):
    """Write one file a band; return the values of each."""
    made = {}
    for i, (band, name) in enumerate(names.items()):
        values = files.noise(seed + i, 1, size, size, low=100 * i + 1, high=100 * i + 3000)
        place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5.5e6, 600 / size, 600 / size)}
        options = {"QUALITY": 100, "REVERSIBLE": "YES"} if kind == "JP2OpenJPEG" else {}
        if kind == "GTiff":
            files.write_scene(folder / name, values, place=place)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            profile = {"width": size, "height": size, "count": 1, "dtype": "uint16"}
            with rasterio.open(folder / name, "w", driver=kind, **profile, **place, **options) as f:
                f.write(values)
        made[band] = values[0]
    return made


def stretched(bands):
    limits = [np.percentile(band, [2, 98]) for band in bands]
    pairs = zip(bands, limits, strict=True)
    return np.stack([np.clip((b - lo) / (hi - lo), 0, 1) * 255 for b, (lo, hi) in pairs], axis=2)


@pytest.mark.parametrize(
    ("names", "rgb"),
    [
        ({b: f"S2A_20200304_x_{b}.tif" for b in ("B02", "B03", "B04", "B08")}, "B04 B03 B02"),
        ({b: f"LC08_L2SP_193026_20200304_SR_{b}.TIF" for b in ("B2", "B3", "B4")}, "B4 B3 B2"),
        ({b: f"LT05_L1TP_193026_19900304_{b}.TIF" for b in ("B1", "B2", "B3", "B4")}, "B3 B2 B1"),
    ],
    ids=["sentinel-2", "landsat 8", "landsat 5"],
)
def test_band_files_are_one_scene_in_true_color(tmp_path, names, rgb):
    made = write_bands(tmp_path, names)
    images = open_source(tmp_path)
    (record,) = images.records
    assert str(images.problems[0].what) == f"{len(names)} files of one band each stacked to scenes"
    assert record.path.name == names[rgb.split()[0]]
    assert record.datetime.strftime("%m-%d") == "03-04"
    wanted = stretched([made[band] for band in rgb.split()])
    picture = read_picture(record.path)
    assert np.abs(picture.pixels - wanted).max() <= 1
    assert "one file a band, stacked" in picture.reading["rules"]
    assert picture.bbox is not None
    (chip, *_) = cut_scenes(images, SceneOptions(Length(40, meters=False))).records
    shown = read_chip(Chip(record.path, chip.window))
    assert np.abs(shown - wanted[:40, :40]).max() <= 1
    chosen = read_image(record.path, bands=[rgb.split()[2], rgb.split()[0]])
    assert np.abs(chosen - wanted[..., [2, 0]]).max() <= 1


def test_a_safe_product_takes_the_finest_file_of_each_band(tmp_path):
    data = tmp_path / SAFE
    fine = {b: f"{TILE}_{b}_10m.jp2" for b in ("B02", "B03", "B04", "B08")}
    coarse = {b: f"{TILE}_{b}_20m.jp2" for b in ("B02", "B03", "B04", "B05", "B8A")}
    made = write_bands(data / "R10m", fine, 64, "JP2OpenJPEG")
    made_coarse = write_bands(data / "R20m", coarse, 32, "JP2OpenJPEG", seed=9)
    write_bands(data / "R10m", {"TCI": f"{TILE}_TCI_10m.jp2"}, 64, "JP2OpenJPEG")
    write_bands(data / "R20m", {"SCL": f"{TILE}_SCL_20m.jp2"}, 32, "JP2OpenJPEG")
    images = open_source(tmp_path)
    (record,) = images.records
    assert record.id.endswith(f"IMG_DATA/{TILE}")
    assert record.datetime.isoformat() == "2020-03-04T10:10:21+00:00"
    assert {p.what for p in images.problems} == {
        "left out: 2 other layers of scenes whose bands are stacked",
        "9 files of one band each stacked to scenes",
    }
    assert list(band_files(record.path)) == ["B04", "B03", "B02", "B05", "B08", "B8A"]
    wanted = stretched([made[band] for band in ("B04", "B03", "B02")])
    assert np.abs(read_image(record.path).astype(float) - wanted).max() <= 2
    picture = read_picture(record.path, SceneOptions(bands=("B8A", "B05", "B04")))
    assert picture.pixels.shape == (64, 64, 3)
    swir = picture.pixels[..., 0].reshape(32, 2, 32, 2).mean((1, 3))
    assert np.corrcoef(swir.ravel(), made_coarse["B8A"].ravel())[0, 1] > 0.9


def test_stacks_are_indexed_and_searched_whole_and_in_chips(tmp_path):
    names = {b: f"patch_{b}.tif" for b in ("B02", "B03", "B04")}
    for i in range(3):
        write_bands(tmp_path / "data" / f"p{i}", names, seed=10 * i)
    report = index_source(tmp_path / "data", tmp_path / "archive")
    assert (report.added, report.skipped) == (3, ())
    assert report.assumed["one file a band, stacked"] == 3
    import landcue

    with landcue.open(tmp_path / "archive") as archive:
        (hit,) = archive.search(tmp_path / "data/p1/patch_B04.tif", k=1)
        assert hit.id == "p1/patch"
        assert hit.distance < 1e-6
    report = index_source(tmp_path / "data", tmp_path / "archive")
    assert report.unchanged == 3
    chips = index_source(
        tmp_path / "data",
        tmp_path / "chips",
        options=IndexOptions(chip="30px", bands="B02,B03,B04"),
    )
    assert chips.added == 12


def test_bands_alone_stay_what_they_are(tmp_path):
    names = {b: f"x_{b}.tif" for b in ("B03", "B04", "B08")}
    write_bands(tmp_path, names)
    assert len(open_source(tmp_path)) == 3  # no blue: no scene
    assert band_files(tmp_path / "x_B04.tif") == {}
    write_bands(tmp_path, {"B02": "x_B02.tif"})
    assert list(band_files(tmp_path / "x_B04.tif")) == ["B04", "B03", "B02", "B08"]
    assert band_files(tmp_path / "x_B03.tif") == {}
    gray = read_image(tmp_path / "x_B03.tif")
    np.testing.assert_array_equal(gray[..., 0], gray[..., 1])


def test_bands_of_other_places_are_refused(tmp_path):
    write_bands(tmp_path, {b: f"x_{b}.tif" for b in ("B02", "B03", "B04")})
    other = {"crs": "EPSG:32633", "transform": from_origin(9e5, 5.5e6, 10, 10)}
    files.write_scene(tmp_path / "x_B02.tif", files.noise(0, 1, 60, 60), place=other)
    with pytest.raises(DataError, match=r"x_B02\.tif: covers another area than the other bands"):
        read_image(tmp_path / "x_B04.tif")
    with pytest.raises(DataError, match="covers another area"):
        read_chip(Chip(tmp_path / "x_B04.tif", Window(0, 0, 9, 9)))


def test_stored_numbers_of_bands_by_name(tmp_path):
    made = write_bands(tmp_path, {b: f"x_{b}.tif" for b in ("B02", "B03", "B04", "B08")})
    values, valid = read_bands(tmp_path / "x_B04.tif", ["B08", "B04"])
    np.testing.assert_array_equal(values, [made["B08"], made["B04"]])
    assert values.dtype == np.uint16
    assert valid.all()
    part, _ = read_bands(tmp_path / "x_B04.tif", [1, "B02"], window=Window(5, 9, 20, 10))
    np.testing.assert_array_equal(part, [made["B04"][9:19, 5:25], made["B02"][9:19, 5:25]])
    coarse, _ = read_bands(tmp_path / "x_B04.tif", ["B03"], side=20)
    assert coarse.shape == (1, 20, 20)
    with pytest.raises(DataError, match=r"no band named 'B11' \(B04, B03, B02, B08\)"):
        read_bands(tmp_path / "x_B04.tif", ["B11"])


def test_items_of_one_asset_a_band_are_stacked(tmp_path):
    names = {b: f"{b}.tif" for b in ("B02", "B03", "B04", "B08", "B12")}
    made = write_bands(tmp_path / "scene", names)
    hrefs = {
        "red": "B04", "green": "B03", "blue": "B02", "nir": "B08", "swir22": "B12",
    }  # fmt: skip
    assets = {
        name: {"href": f"scene/{band}.tif", "type": "image/tiff; application=geotiff"}
        for name, band in hrefs.items()
    }
    assets["red-jp2"] = {"href": "s3://elsewhere/B04.jp2", "type": "image/jp2"}
    item = {"type": "Feature", "id": "s", "properties": {"datetime": "2020-03-04T00:00:00Z"}}
    (tmp_path / "items.json").write_text(json.dumps({**item, "assets": assets}))
    (record,) = open_source(tmp_path / "items.json").records
    assert (record.id, record.path.name) == ("s", "B04.tif")
    wanted = stretched([made[band] for band in ("B04", "B03", "B02")])
    assert np.abs(read_image(record.path) - wanted).max() <= 1
    (record,) = open_source(tmp_path / "items.json", asset="nir").records
    assert record.path.name == "B08.tif"
    (tmp_path / "scene" / "TCI.tif").write_bytes((tmp_path / "scene" / "B03.tif").read_bytes())
    assets["visual"] = {"href": "scene/TCI.tif"}
    (tmp_path / "items.json").write_text(json.dumps({**item, "assets": assets}))
    (record,) = open_source(tmp_path / "items.json").records
    assert record.path.name == "TCI.tif"


@pytest.mark.parametrize("chip", [None, "32px"])
def test_a_band_that_is_replaced_is_noticed(tmp_path, chip):
    root, archive = tmp_path / "data", tmp_path / "a"
    names = {band: f"X_{band}.tif" for band in ("B02", "B03", "B04")}
    write_bands(root, names, size=32)
    options = IndexOptions(chip=chip)
    assert index_source(root, archive, options=options).added == 1
    write_bands(root, {"B03": names["B03"]}, size=32, seed=7)
    assert index_source(root, archive, options=options).updated == 1
    assert index_source(root, archive, options=options).unchanged == 1
