"""World files, EXIF data, and chips cut from images that are no rasters."""

from __future__ import annotations

import io

import numpy as np
import pytest
import rasterio
from PIL import Image

from landcue.data.images import SceneOptions, read_picture
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import DataError
from landcue.search import Chip
from landcue.search.scene import read_chip
from landcue.types import Window

SMOOTH = np.stack(
    [np.add.outer(np.arange(60) * 2, np.arange(80)) + 20 * i for i in range(3)], axis=2
).astype(np.uint8)
CHIP = SceneOptions(Length(40, meters=False))
WORLD = "10\n0\n0\n-10\n500005\n5499995\n"
LOSSLESS = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "JPEG2000": {"irreversible": False}}


@pytest.mark.parametrize("kind", [*LOSSLESS, "JPEG", "GIF"])
def test_chips_are_cut_from_any_image(tmp_path, kind):
    suffix = {"JPEG2000": "jp2"}.get(kind, kind.lower())
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(SMOOTH if kind != "GIF" else SMOOTH // 64 * 64)
    image.save(path, kind, **LOSSLESS.get(kind, {}))
    cut = cut_scenes(open_source(tmp_path), CHIP)
    corners = [(r.window.col, r.window.row) for r in cut.records]
    assert corners == [(0, 0), (40, 0), (0, 20), (40, 20)]
    assert all(r.bbox is None for r in cut.records)
    whole = read_picture(path).pixels.astype(int)
    for record in cut.records:
        window = record.window
        part = whole[window.row : window.row + 40, window.col : window.col + 40]
        assert np.abs(read_chip(Chip(path, window)) - part).max() <= 2


def test_a_large_photo_is_refused_whole_and_cut_into_chips(tmp_path):
    Image.new("L", (9000, 7200), 77).save(tmp_path / "large.jpg")
    with pytest.raises(DataError, match="9000 x 7200 pixels, over the limit of 64,000,000; cut it"):
        read_picture(tmp_path / "large.jpg")
    cut = cut_scenes(open_source(tmp_path / "large.jpg"), SceneOptions(Length(4000, meters=False)))
    assert len(cut) == 6
    assert (read_chip(Chip(tmp_path / "large.jpg", Window(8990, 7190, 10, 10))) == 77).all()


def test_an_orientation_of_a_photo_turns_its_chips(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(tmp_path / "a.png", exif=exif)
    chip = read_chip(Chip(tmp_path / "a.png", Window(10, 20, 30, 40)))
    np.testing.assert_array_equal(chip, np.rot90(SMOOTH[20:60, 10:40], -1))


@pytest.mark.parametrize(
    "names", ["jpg jgw", "jpg jpgw", "png pgw", "png wld", "tif tfw", "avif wld"]
)
def test_world_files_with_a_prj_place_images_and_their_chips(tmp_path, names):
    suffix, world = names.split()
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(SMOOTH).save(path)
    (tmp_path / f"a.{world}").write_text(WORLD)
    picture = read_picture(path)
    assert picture.bbox is None
    assert any("add a .prj file" in rule for rule in picture.reading["rules"])
    cut = cut_scenes(open_source(path), CHIP)
    assert "add a .prj file" in cut.problems[0].what
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_epsg(32633).to_wkt("WKT1_ESRI"))
    picture = read_picture(path)
    wanted = rasterio.warp.transform_bounds(
        "EPSG:32633", "EPSG:4326", 500_000, 5_500_000 - 600, 500_800, 5_500_000
    )
    found = picture.bbox
    assert (found.west, found.south, found.east, found.north) == pytest.approx(wanted, abs=1e-6)
    cut = cut_scenes(open_source(path), SceneOptions(Length(400, meters=True)))
    assert len(cut) == 4
    assert cut.problems == ()
    assert cut.records[0].bbox.north == pytest.approx(wanted[3], abs=1e-6)


def test_south_up_world_files_turn_whole_images_and_chips(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(SMOOTH).save(path)
    (tmp_path / "a.pgw").write_text("10\n0\n0\n10\n500005\n5499995\n")
    (tmp_path / "a.prj").write_text(rasterio.crs.CRS.from_epsg(32633).to_wkt())
    np.testing.assert_array_equal(read_picture(path).pixels, SMOOTH[::-1])
    chip = read_chip(Chip(path, Window(0, 0, 80, 60)))
    np.testing.assert_array_equal(chip, SMOOTH[::-1])


def test_a_broken_world_file_is_named(tmp_path):
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg")
    (tmp_path / "a.jgw").write_text("10\nx\n")
    with pytest.raises(DataError, match=r"a\.jgw: a world file holds six numbers"):
        read_picture(tmp_path / "a.jpg")


def test_place_and_time_of_a_photo(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "S", 2: (33.0, 51.0, 36.0), 3: "E", 4: (151.0, 12.0, 36.0)})
    exif.get_ifd(0x8769).update({0x9003: "2021:02:03 04:05:06", 0x9011: "+11:00"})
    Image.fromarray(SMOOTH).save(tmp_path / "a.jpg", exif=exif)
    picture = read_picture(tmp_path / "a.jpg")
    assert (picture.bbox.west, picture.bbox.north) == pytest.approx((151.21, -33.86))
    assert picture.datetime.isoformat() == "2021-02-02T17:05:06+00:00"
    exif.get_ifd(0x8825).update({2: (99.0, 0.0, 0.0)})
    exif.get_ifd(0x8769).update({0x9003: "soon"})
    out = io.BytesIO()
    Image.fromarray(SMOOTH).save(out, "JPEG", exif=exif)
    picture = read_picture(out.getvalue())
    assert (picture.bbox, picture.datetime) == (None, None)


@pytest.mark.parametrize("alpha", [False, True])
def test_an_avif_is_cut_into_chips(tmp_path, alpha):
    pixels = np.dstack([SMOOTH, np.full(SMOOTH.shape[:2], 255, np.uint8)]) if alpha else SMOOTH
    Image.fromarray(pixels).save(tmp_path / "a.avif", quality=100, subsampling="4:4:4")
    whole = read_picture(tmp_path / "a.avif").pixels
    assert whole.shape == SMOOTH.shape
    chip = read_chip(Chip(tmp_path / "a.avif", Window(2, 1, 5, 4)))
    np.testing.assert_array_equal(chip, whole[1:5, 2:7])


def test_an_avif_that_cannot_be_cut_is_named(tmp_path):
    frames = [Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[::-1].copy())]
    frames[0].save(tmp_path / "moving.avif", save_all=True, append_images=frames[1:])
    whole = (tmp_path / "moving.avif").read_bytes()
    (tmp_path / "cut.avif").write_bytes(whole[: len(whole) // 2])
    for name, what in (("moving", "is animated"), ("cut", "truncated or corrupt")):
        with pytest.raises(DataError, match=rf"{name}\.avif: {what}"):
            SceneReader(tmp_path / f"{name}.avif", SceneOptions())
