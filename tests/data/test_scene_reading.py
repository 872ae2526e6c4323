"""Chips read from scenes: windows, bands, scaling, nodata, masks, overviews, and bad files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp

import scene_files as files
from landcue.data.header import read_facts
from landcue.data.raster import open_dataset, raster_options
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length, Scale, SceneOptions, parse_bands
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import DataError, UsageError
from landcue.types import Window

CHIP = Length(50, meters=False)


def options(**changes):
    return SceneOptions(CHIP, **changes)


def read(path, window, **changes):
    chosen = options(**changes)
    reader = SceneReader(path, chosen)
    try:
        return reader.chip(Window(*window), reader.rendering())
    finally:
        reader.close()


def test_bytes_are_kept_and_bands_come_in_the_given_order(tmp_path):
    values = files.noise(0, 4, 60, 80, high=256, dtype="uint8")
    path = files.write_scene(tmp_path / "a.tif", values)
    chip = read(path, (10, 20, 30, 40), bands=(4, 1, 2))
    np.testing.assert_array_equal(chip, values[[3, 0, 1], 20:60, 10:40].transpose(1, 2, 0))
    gray = read(path, (10, 20, 30, 40), bands=(2, 2, 2))
    np.testing.assert_array_equal(gray[..., 0], values[1, 20:60, 10:40])
    assert (gray[..., 0] == gray[..., 2]).all()


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "float32", "float64"])
def test_fixed_scale(tmp_path, dtype):
    values = files.noise(1, 3, 60, 60, high=5000, dtype=dtype)
    path = files.write_scene(tmp_path / "a.tif", values)
    chip = read(path, (0, 0, 60, 60), scale=Scale.parse("fixed:500,3000"))
    expected = np.clip((values.astype(np.float64) - 500) / 2500, 0, 1) * 255
    assert np.abs(chip - expected.transpose(1, 2, 0)).max() <= 0.51
    assert chip.min() == 0
    assert chip.max() == 255


def test_reflectance_and_negative_values(tmp_path):
    values = np.linspace(-0.2, 1.2, 3 * 50 * 50).reshape(3, 50, 50).astype(np.float32)
    path = files.write_scene(tmp_path / "a.tif", values)
    chip = read(path, (0, 0, 50, 50), scale=Scale.parse("fixed:0,1"))
    expected = np.clip(values, 0, 1) * 255
    assert np.abs(chip - expected.transpose(1, 2, 0)).max() <= 0.51


@pytest.mark.parametrize("scale", ["auto", "percentile:2,98", "percentile:0,100"])
def test_percentiles_are_those_of_the_scene_and_not_of_the_chip(tmp_path, scale):
    values = files.noise(2, 3, 200, 200)
    values[:, :50, :50] //= 10  # one dark corner
    path = files.write_scene(tmp_path / "a.tif", values)
    low, high = (0, 100) if scale.endswith("100") else (2, 98)
    limits = np.percentile(values.reshape(3, -1), [low, high], axis=1)[..., None, None]
    expected = np.clip((values - limits[0]) / (limits[1] - limits[0]), 0, 1) * 255
    for col in (0, 50):
        chip = read(path, (col, 0, 50, 50), scale=Scale.parse(scale))
        part = expected[:, :50, col : col + 50].transpose(1, 2, 0)
        assert np.abs(chip - part).max() <= 0.51
    assert read(path, (0, 0, 50, 50)).mean() < 20


def test_percentiles_leave_nodata_out(tmp_path):
    values = files.noise(3, 3, 100, 100, low=1000, high=2000)
    values[:, :, :60] = 0
    path = files.write_scene(tmp_path / "a.tif", values, nodata=0)
    known = values[:, :, 60:].reshape(3, -1)
    low, high = np.percentile(known, [2, 98], axis=1)
    reader = SceneReader(path, options(bands=(1, 2, 3)))
    np.testing.assert_allclose(reader.rendering().limits, np.stack([low, high], axis=1))
    reader.close()


def test_a_scene_of_one_value_and_one_without_data(tmp_path):
    flat = files.write_scene(tmp_path / "a.tif", np.full((3, 60, 60), 700, np.uint16))
    assert read(flat, (0, 0, 50, 50)).shape == (50, 50, 3)
    empty = files.write_scene(tmp_path / "b.tif", np.full((3, 60, 60), 9, np.uint16), nodata=9)
    assert read(empty, (0, 0, 50, 50)) is None


@pytest.mark.parametrize("kind", ["value", "nan", "nan value", "mask", "alpha", "zeros"])
def test_chips_with_too_little_data(tmp_path, kind):
    """60 of 100 columns of the first chip have no data, none of the second."""
    real = "nan" in kind
    values = files.noise(4, 3, 100, 200, dtype="float32" if real else "uint16")
    blank = np.zeros((100, 200), bool)
    blank[:, :60] = True
    extra = {}
    if kind == "mask":
        extra["mask"] = ~blank
    elif kind == "alpha":
        alpha = np.where(blank, 0, 65535).astype("uint16")
        values = np.concatenate([values, alpha[None]])
        rgb = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        extra["colors"] = [*rgb, ColorInterp.alpha]
    else:
        values[:, blank] = {"value": 7, "zeros": 0}.get(kind, np.nan)
        if kind != "zeros" and kind != "nan":
            extra["nodata"] = 7 if kind == "value" else float("nan")
    path = files.write_scene(tmp_path / "a.tif", values, **extra)
    for factor in (None, 25):  # at full resolution, and read at a quarter of it
        assert read(path, (0, 0, 100, 100), nodata=0.59, side=factor) is None
        chip = read(path, (0, 0, 100, 100), nodata=0.61, side=factor)
        known = chip.shape[1] * 60 // 100
        assert not chip[:, : known - 1].any()
        assert chip[:, known + 1 :].any(axis=2).mean() > 0.9
        assert read(path, (100, 0, 100, 100), nodata=0, side=factor) is not None


def test_one_black_band_is_data(tmp_path):
    values = files.noise(5, 3, 50, 50)
    values[1] = 0
    path = files.write_scene(tmp_path / "a.tif", values)
    chip = read(path, (0, 0, 50, 50), nodata=0, scale=Scale.parse("fixed:0,3000"))
    assert chip[..., 0].any()
    assert not chip[..., 1].any()


def test_large_chips_come_from_overviews(tmp_path):
    values = files.noise(6, 3, 512, 512, high=256, dtype="uint8")
    path = files.write_scene(
        tmp_path / "a.tif", values, tiled=True, blockxsize=256, blockysize=256, overviews=[4]
    )
    with rasterio.open(path, "r+") as scene:  # nothing but the overview can look like this
        scene.write(np.zeros_like(values) + 9)
    chip = read(path, (0, 0, 512, 512), side=100)
    assert chip.shape == (103, 103, 3)
    assert 120 < chip.mean() < 136
    assert read(path, (0, 0, 512, 512)).shape == (512, 512, 3)
    assert (read(path, (0, 0, 512, 512)) == 9).all()
    assert (read(path, (0, 0, 150, 150), side=100) == 9).all()  # not twice the side: as it is


def test_without_overviews_pixels_are_averaged(tmp_path):
    values = files.noise(7, 3, 240, 240, high=256, dtype="uint8")
    path = files.write_scene(tmp_path / "a.tif", values)
    chip = read(path, (0, 0, 240, 240), side=60)
    expected = values.reshape(3, 60, 4, 60, 4).mean((2, 4)).transpose(1, 2, 0)
    assert np.abs(chip - expected).max() <= 1


@pytest.mark.parametrize("bands", [2, 5, 16])
def test_other_numbers_of_bands_name_the_option(tmp_path, bands):
    files.write_scene(tmp_path / "a.tif", files.noise(0, bands, 60, 60))
    with pytest.raises(DataError) as caught:
        cut_scenes(open_source(tmp_path), options())
    assert (
        f"a.tif: has {bands} bands of uint16, the model takes 3; choose with --bands, such as"
        in str(caught.value)
    )
    example = str(caught.value).split("--bands, such as --bands ")[1].split(")")[0]
    assert len(cut_scenes(open_source(tmp_path), options(bands=parse_bands(example))))
    with pytest.raises(DataError, match=f"has no band 17, only {bands}; change --bands"):
        cut_scenes(open_source(tmp_path), options(bands=(1, 1, 17)))
    assert len(cut_scenes(open_source(tmp_path), options(channels=bands)))


@pytest.mark.parametrize(
    "text", ["", "fixed", "fixed:1", "fixed:3,1", "percentile:-1,5", "auto:1", "fixed:nan,1"]
)
def test_scales_that_are_none(text):
    with pytest.raises(UsageError, match="--scale"):
        Scale.parse(text)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"bands": (1, 2)}, "names 2 bands, but the model takes 3"),
        ({"bands": (0, 1, 2)}, "from 1"),
        ({"bands": (1, 2, 3), "channels": 4}, "takes 4"),
        ({"nodata": 1.5}, "share in 0..1"),
        ({"nodata": float("nan")}, "share in 0..1"),
    ],
)
def test_options_that_make_no_sense(changes, word):
    with pytest.raises(UsageError, match=word):
        options(**changes)


def test_recipe_changes_with_all_that_changes_pixels():
    changes = [
        {}, {"bands": (1, 2, 3)}, {"bands": (3, 2, 1)}, {"nodata": 0.4}, {"side": 64},
        {"scale": Scale.parse("fixed:0,1")}, {"scale": Scale.parse("fixed:0,2")},
        {"scale": Scale.parse("percentile:2,98")}, {"channels": 4},
    ]  # fmt: skip
    assert len({options(**change).recipe for change in changes}) == len(changes)
    assert options().recipe == SceneOptions(Length(9, meters=True)).recipe


VRT = (
    '<VRTDataset rasterXSize="30" rasterYSize="30"><VRTRasterBand dataType="Byte" band="1">'
    "<SimpleSource><SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand>"
    "</SimpleSource></VRTRasterBand></VRTDataset>"
)


@pytest.fixture
def vrt(tmp_path):
    """A VRT that shows another file: all its pixels are 77."""
    values = np.full((1, 30, 30), 77, np.uint8)
    secret = files.write_scene(tmp_path / "elsewhere" / "secret.tif", values)
    path = tmp_path / "elsewhere" / "other.vrt"
    path.write_text(VRT.format(secret=secret))
    with rasterio.open(path) as dataset:
        assert dataset.read().mean() == 77
    return path


def test_virtual_rasters_are_refused(tmp_path, vrt):
    with pytest.raises(DataError, match="a VRT can name any other file"):
        open_source(vrt)
    shutil.copy(vrt, tmp_path / "scenes.tif")
    with pytest.raises(DataError, match=r"scenes\.tif: not a JPEG, PNG, TIFF"):
        read_facts(tmp_path / "scenes.tif")


@pytest.mark.parametrize(
    "name",
    [
        "/vsicurl/http://127.0.0.1/a.tif", "/vsizip/a.zip/a.tif", "https://127.0.0.1/a.tif",
        "GTIFF_DIR:1:a.tif", "file:///etc/passwd",
    ],
)  # fmt: skip
def test_addresses_are_refused(name):
    with pytest.raises(DataError, match=r"only files on this machine|does not exist"):
        open_dataset(Path(name))
    with pytest.raises(DataError, match=r"only files on this machine|does not exist"):
        open_source(Path(name))


def test_overviews_in_another_file_are_refused(tmp_path, vrt):
    """A GeoTIFF's own tags may name any file as its overviews; GDAL would follow them."""
    path = files.write_scene(tmp_path / "a.tif", np.zeros((1, 60, 60), np.uint8))
    with rasterio.open(path, "r+") as scene:
        scene.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(vrt))
    with rasterio.open(path) as scene:
        assert scene.read(out_shape=(1, 30, 30)).mean() == 77
    with pytest.raises(DataError, match="its overviews lie in another file"):
        open_dataset(path)


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".ovr.ovr"])
def test_files_beside_a_scene_must_be_tiffs_too(tmp_path, vrt, suffix):
    values = files.noise(0, 1, 60, 60, high=20, dtype="uint8")
    path = files.write_scene(tmp_path / "a.tif", values)
    if suffix == ".ovr.ovr":
        shutil.copy(path, tmp_path / "a.tif.ovr")
    shutil.copy(vrt, tmp_path / f"a.tif{suffix}")
    with pytest.raises(DataError, match=rf"a\.tif{suffix}: not a TIFF"):
        open_dataset(path)


def test_other_files_beside_a_scene_are_ignored(tmp_path, vrt):
    values = np.zeros((3, 60, 60), np.uint8) + 5
    path = files.write_scene(tmp_path / "a.tif", values)
    (tmp_path / "a.tif.aux.xml").write_text(
        f"<PAMDataset><SRS>EPSG:3857</SRS><Metadata domain='OVERVIEWS'><MDI key='OVERVIEW_FILE'>"
        f"{vrt}</MDI></Metadata></PAMDataset>"
    )
    assert read_facts(path).crs.to_epsg() == 32633
    assert (read(path, (0, 0, 60, 60), side=30) == 5).all()


def test_overviews_and_masks_beside_a_scene_are_used(tmp_path):
    values = files.noise(8, 3, 256, 256, high=256, dtype="uint8")
    path = files.write_scene(tmp_path / "a.tif", values)
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(path, "r+") as scene:
        scene.build_overviews([2, 4])
    assert (tmp_path / "a.tif.ovr").exists()
    blank = np.zeros((256, 256), bool)
    blank[:, :200] = True
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(path, "r+") as scene:
        scene.write_mask(~blank)
    assert (tmp_path / "a.tif.msk").exists()
    dataset, beside = open_dataset(path)
    with dataset:
        assert beside
        assert dataset.overviews(1) == [2, 4]
    assert read(path, (0, 0, 200, 256)) is None
    assert read(path, (201, 0, 55, 256)) is not None


def test_broken_and_odd_files(tmp_path):
    whole = files.write_scene(tmp_path / "a.tif", files.noise(0, 3, 300, 300))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[:200_000])
    with pytest.raises(DataError, match=r"cut\.tif: truncated or corrupt") as caught:
        read(cut, (0, 200, 50, 50), scale=Scale.parse("fixed:0,1"))
    assert str(caught.value).count("cut.tif") == 1
    for name, content in {"zero.tif": b"", "text.tif": b"hello", "head.tif": b"II*\0"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name) as caught:
            read_facts(tmp_path / name)
        assert "\n" not in str(caught.value)
    files.write_scene(tmp_path / "c.tif", np.ones((3, 9, 9), np.complex64))
    with pytest.raises(DataError, match="complex values"):
        read_facts(tmp_path / "c.tif")
    with pytest.raises(DataError, match="is no file"):
        read_facts(tmp_path)


def test_blocks_are_kept_between_chips():
    """GDAL takes the size of its cache in bytes here; too small, each chip decodes blocks anew."""
    from rasterio.env import getenv

    with raster_options(False):
        assert getenv()["GDAL_CACHEMAX"] >= 64 << 20
