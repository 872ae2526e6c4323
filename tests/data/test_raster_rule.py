"""Hundreds of kinds of rasters, whole and in chips, against the rule in rasterio and NumPy."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

import raster_rule as rule
from landcue.data.images import read_image
from landcue.errors import DataError, UsageError
from landcue.search import Chip
from landcue.search.scene import read_chip
from landcue.types import Window

HEIGHT, WIDTH = 40, 56
WINDOWS = ((0, 0, 24, 16), (17, 9, 30, 31))
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
RGBA = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
TURNS = {
    "north up": Affine(10, 0, 0, 0, -10, 0), "south up": Affine(10, 0, 0, 0, 10, 0),
    "east left": Affine(-10, 0, 0, 0, -10, 0), "half turn": Affine(-10, 0, 0, 0, 10, 0),
    "quarter turn": Affine(0, 10, 0, 10, 0, 0), "three quarters": Affine(0, -10, 0, -10, 0, 0),
    "transposed": Affine(0, -10, 0, 10, 0, 0), "crossed": Affine(0, 10, 0, -10, 0, 0),
    "oblique": Affine(9, 3, 0, 3, -9, 0), "oblique south up": Affine(9, -3, 0, 3, 9, 0),
}  # fmt: skip


def made(seed, bands, dtype):
    """Smooth fields with some noise, over a good part of the type's range, never 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] / max(HEIGHT, WIDTH)
    fields = [np.sin(3 * x * (i + 1)) + np.cos(2 * y + i) for i in range(bands)]
    unit = np.stack(fields) / 4 + 0.5 + rng.normal(0, 0.02, (bands, HEIGHT, WIDTH))
    unit = np.clip(unit, 0.02, 0.98)
    if dtype.startswith("float"):
        return (unit * 3 - 1 if seed % 2 else unit).astype(dtype)
    info = np.iinfo(dtype)
    low = info.min if seed % 2 else 0
    values = low / 2 + unit * (info.max / 2 - low / 2)
    return np.where(values.astype(dtype) == 0, 1, values.astype(dtype)).astype(dtype)


def write(path, values, *, mask=None, turn=None, colors=None, table=None, gcps=None, **options):
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore")
        bands, height, width = values.shape
        with rasterio.open(
            path, "w", driver="GTiff", count=bands, height=height, width=width,
            dtype=values.dtype, **options,
        ) as file:  # fmt: skip
            if colors:
                file.colorinterp = colors
            file.write(values)
            if table:
                file.write_colormap(1, table)
            if gcps:
                file.gcps = gcps
            if mask is not None:
                file.write_mask(mask)
    if turn:
        rule.set_orientation(path, turn)
    return path


def check(path):
    """Compare the whole raster and two chips with the rule."""
    windows = (None, *WINDOWS)
    for window, wanted in zip(windows, rule.expected_windows(path, windows), strict=True):
        if not wanted.any():  # of a rotated grid, a window may lie outside the file
            with pytest.raises(UsageError, match="holds no data"):
                read_chip(Chip(path, Window(*window)))
            continue
        got = read_image(path) if window is None else read_chip(Chip(path, Window(*window)))
        assert got.shape == wanted.shape
        assert np.abs(got.astype(float) - wanted).max() <= 2, window


def missing():
    blank = np.zeros((HEIGHT, WIDTH), bool)
    blank[5:20, :25] = True
    return blank


KINDS = ("none", "zeros", "value", "mask", "alpha", "not alpha")


def with_kind(seed, bands, dtype, kind):
    """Return values with one kind of missing data, and the options to write them with."""
    values, options = made(seed, bands, dtype), {}
    if kind == "zeros":
        values[:, missing()] = 0
    elif kind == "value":
        options["nodata"] = np.nan if dtype.startswith("float") else 7
        values[:, missing()] = options["nodata"]
    elif kind == "mask":
        options["mask"] = ~missing()
    elif "alpha" in kind:
        top = np.iinfo(dtype).max if not dtype.startswith("float") else 1
        alpha = np.where(missing(), 0, top).astype(dtype)
        extra = made(seed + 7, 1, dtype) if kind == "not alpha" else alpha[None]
        values = np.concatenate([values, extra])
        color = RGBA[:3] if bands >= 3 else [ColorInterp.gray]
        fill = [ColorInterp.undefined] * (bands - len(color))
        options["colors"] = [*color, *fill, ColorInterp.alpha]
        options["photometric"] = "RGB" if bands >= 3 else "MINISBLACK"
    return values, options


@pytest.mark.parametrize("dtype", DTYPES)
def test_types_bands_layouts_and_missing_data(tmp_path, dtype):
    """8 types x 3 numbers of bands x 2 layouts x 6 kinds of missing data: 288 rasters."""
    for seed, (bands, layout, kind) in enumerate(
        itertools.product((1, 3, 4), ("pixel", "band"), KINDS)
    ):
        values, options = with_kind(seed, bands, dtype, kind)
        check(write(tmp_path / f"{seed}.tif", values, interleave=layout, **options))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rotated_grids_of_each_type_and_kind_of_missing_data(tmp_path, dtype):
    """8 types x 2 numbers of bands x 6 kinds of missing data: 96 rasters, resampled north up."""
    for seed, (bands, kind) in enumerate(itertools.product((1, 4), KINDS)):
        values, options = with_kind(seed, bands, dtype, kind)
        turn = np.radians(20 + 4 * seed + 180 * (seed % 2))
        a, b = 10 * np.cos(turn), 10 * np.sin(turn)
        place = {"crs": "EPSG:32633", "transform": Affine(a, b, 500_000, b, -a, 5_500_000)}
        check(write(tmp_path / f"{seed}.tif", values, **place, **options))


LOSSLESS = ("none", "lzw", "deflate", "packbits", "zstd", "lzma")


@pytest.mark.parametrize("compression", LOSSLESS)
def test_compressions_photometrics_and_tiles(tmp_path, compression):
    """6 compressions x 7 kinds of color x 2 blockings, half of them rotated: 84 rasters."""
    table = {i: (i, 255 - i, (i * 7) % 256, 255) for i in range(256)} | {3: (1, 2, 3, 0)}
    kinds = {
        "black": (1, "uint8", {"photometric": "MINISBLACK"}),
        "white": (1, "uint8", {"photometric": "MINISWHITE"}),
        "white 16": (1, "uint16", {"photometric": "MINISWHITE"}),
        "palette": (1, "uint8", {"photometric": "PALETTE", "table": table}),
        "rgb": (3, "uint8", {"photometric": "RGB"}),
        "rgb 16": (3, "uint16", {"photometric": "RGB"}),
        "bgr": (3, "uint16", {"colors": RGBA[2::-1]}),
    }
    for seed, ((name, (bands, dtype, options)), tiled) in enumerate(
        itertools.product(kinds.items(), (False, True))
    ):
        blocks = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {}
        if compression != "none":
            blocks["compress"] = compression
        if tiled:
            blocks |= {"crs": "EPSG:32633", "transform": Affine(9, 5, 5e5, 5, -9, 5.5e6)}
        path = tmp_path / f"{name} {tiled}.tif"
        check(write(path, made(seed, bands, dtype), **options, **blocks))


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_few_bits(tmp_path, bits):
    values = np.random.default_rng(bits).integers(0, 2**bits, (1, HEIGHT, WIDTH), np.uint8)
    check(write(tmp_path / "a.tif", values, nbits=bits))
    check(write(tmp_path / "b.tif", values.repeat(3, 0), nbits=bits, photometric="RGB"))


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "jpeg", "photometric": "YCBCR"}, {"compress": "jpeg", "photometric": "RGB"},
        {"compress": "webp", "webp_lossless": True}, {"compress": "webp", "tiled": True},
        {"compress": "lerc"}, {"photometric": "CMYK"}, {"photometric": "CIELAB"},
        {"BIGTIFF": "YES"}, {"ENDIANNESS": "BIG"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)  # fmt: skip
def test_colors_that_gdal_converts(tmp_path, options):
    bands = 4 if options.get("photometric") == "CMYK" else 3
    path = write(tmp_path / "a.tif", made(0, bands, "uint8"), interleave="pixel", **options)
    with rasterio.open(path) as file:
        wanted = file.read()[:3].transpose(1, 2, 0).astype(float)
    assert np.abs(read_image(path) - wanted).max() <= 2
    col, row, width, height = WINDOWS[1]
    chip = read_chip(Chip(path, Window(*WINDOWS[1])))
    assert np.abs(chip - wanted[row : row + height, col : col + width]).max() <= 2


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_tags(tmp_path, turn):
    """8 tags x 2 types x 2 numbers of bands: 32 rasters; a place goes before the tag."""
    for seed, (dtype, bands) in enumerate(itertools.product(("uint8", "int16"), (1, 3))):
        values = made(seed, bands, dtype)
        check(write(tmp_path / f"{seed}.tif", values, turn=turn))
        place = {"crs": "EPSG:32633", "transform": from_origin(500_000, 5_500_000, 10, 10)}
        placed = write(tmp_path / f"{seed}-placed.tif", values, turn=turn, **place)
        plain = write(tmp_path / f"{seed}-plain.tif", values, **place)
        np.testing.assert_array_equal(read_image(placed), read_image(plain))


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:4326", "EPSG:3031"])
def test_grids_are_shown_north_up(tmp_path, crs):
    """4 reference systems x 10 grids x 2 types: 80 rasters."""
    for seed, ((name, grid), dtype) in enumerate(
        itertools.product(TURNS.items(), ("uint8", "float32"))
    ):
        size = 1e-4 if crs == "EPSG:4326" else 1
        start = Affine.translation(15, 50) if size < 1 else Affine.translation(500_000, 5_500_000)
        transform = (
            Affine(*start) @ Affine.scale(size) @ grid
            if hasattr(Affine, "__matmul__")
            else start * Affine.scale(size) * grid
        )
        check(write(tmp_path / f"{name}.tif", made(seed, 3, dtype), crs=crs, transform=transform))


@pytest.mark.parametrize("name", TURNS)
def test_ground_control_points_place_and_turn(tmp_path, name):
    grid = Affine.translation(500_000, 5_500_000) * TURNS[name]
    gcps = []
    for row, col in itertools.product((0, HEIGHT // 2, HEIGHT), (0, WIDTH // 2, WIDTH)):
        x, y = grid * (col, row)
        gcps.append(GroundControlPoint(row=row, col=col, x=x, y=y, z=0))
    crs = rasterio.crs.CRS.from_epsg(32633)
    check(write(tmp_path / "a.tif", made(1, 3, "uint8"), gcps=(gcps, crs)))


@pytest.mark.parametrize(
    ("bands", "dtype"), [(2, "uint8"), (5, "int16"), (13, "uint16"), (31, "float32")]
)
def test_unclear_bands_are_named_with_what_to_add(tmp_path, bands, dtype):
    path = write(tmp_path / "a.tif", made(0, bands, dtype))
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert f"a.tif: has {bands} bands of {dtype}, the model takes 3; choose with --bands" in str(
        caught.value
    )
    chosen = read_image(path, bands=[2, 1, 2])
    assert chosen.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(chosen[..., 0], chosen[..., 2])


def test_bands_by_their_names_in_the_file(tmp_path):
    path = write(tmp_path / "a.tif", made(0, 5, "uint8"))
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("B02", "B03", "B04", "B08", "")
    np.testing.assert_array_equal(
        read_image(path, bands=["b04", "B03", "B02"]), read_image(path, bands=[3, 2, 1])
    )
    with pytest.raises(DataError, match=r"no band named 'B05' \(B02, B03, B04, B08\)"):
        read_image(path, bands=["B05", "B03", "B02"])


def test_complex_values_and_rasters_without_data_say_so(tmp_path):
    with pytest.raises(DataError, match=r"a\.tif: complex values; save amplitudes first"):
        read_image(write(tmp_path / "a.tif", made(0, 1, "float32").astype(np.complex64)))
    empty = np.full((3, HEIGHT, WIDTH), 9, np.uint16)
    with pytest.raises(DataError, match=r"b\.tif: holds too little data"):
        read_image(write(tmp_path / "b.tif", empty, nodata=9))
