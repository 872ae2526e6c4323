"""Decoding: every allowed kind, every broken kind."""

from __future__ import annotations

import io
import sys
from functools import partial

import numpy as np
import pytest
from PIL import Image

from landcue.data.images import MAX_PIXELS, is_image_path, read_image
from landcue.errors import DataError
from landcue.search import Chip
from landcue.search.scene import read_chip
from landcue.types import Window

RGB = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_lossless_formats_keep_every_pixel(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(read_image(encoded(Image.fromarray(RGB), kind, **options)), RGB)


def test_jpeg_is_close():
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    got = read_image(encoded(Image.fromarray(smooth), "JPEG", quality=95))
    assert np.abs(got.astype(int) - smooth).max() <= 3


def test_gray_and_palette_become_rgb():
    gray = RGB[..., 0]
    assert np.array_equal(read_image(encoded(Image.fromarray(gray), "PNG"))[..., 2], gray)
    palette = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    assert np.array_equal(read_image(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))


def test_transparent_pixels_turn_black():
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3] = 0
    got = read_image(encoded(Image.fromarray(rgba), "PNG"))
    assert got[0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(got[1:], RGB[1:])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_is_stretched(kind):
    values = np.random.default_rng(1).integers(300, 9000, (20, 30)).astype(np.uint16)
    low, high = np.percentile(values, [2, 98])
    wanted = np.clip((values - low) / (high - low), 0, 1) * 255
    got = read_image(encoded(Image.fromarray(values), kind))
    assert np.abs(got - wanted[..., None]).max() <= 1


def test_float_tiff_is_stretched_and_nan_is_no_data():
    values = np.random.default_rng(1).normal(0, 9, (20, 30)).astype(np.float32)
    values[3, 4] = np.nan
    low, high = np.nanpercentile(values, [2, 98])
    wanted = np.nan_to_num(np.clip((values - low) / (high - low), 0, 1) * 255)
    assert (
        np.abs(read_image(encoded(Image.fromarray(values), "TIFF")) - wanted[..., None]).max() <= 1
    )


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG2000", "AVIF"])
def test_other_formats_are_read(kind):
    smooth = np.full((32, 48, 3), (200, 100, 50), np.uint8)
    options = {"irreversible": False} if kind == "JPEG2000" else {}
    got = read_image(encoded(Image.fromarray(smooth), kind, **options))
    assert got.shape == smooth.shape
    assert np.abs(got.astype(int) - smooth).max() <= 3


def heic(*images, **options):
    import pillow_heif

    pillow_heif.register_heif_opener()
    out = io.BytesIO()
    images[0].save(out, "HEIF", quality=100, save_all=True, append_images=images[1:], **options)
    return out.getvalue()


def test_heic_is_read_with_its_orientation(tmp_path):
    smooth = np.zeros((48, 64, 3), np.uint8)
    smooth[:, :32] = (200, 100, 50)
    turned = Image.Exif()
    turned[0x0112] = 6  # the right side is the top
    data = heic(Image.fromarray(smooth), exif=turned.tobytes())
    wanted = np.rot90(smooth, -1)
    for source in (data, tmp_path / "a.heic"):
        (tmp_path / "a.heic").write_bytes(data)
        got = read_image(source)
        assert got.shape == wanted.shape
        assert np.abs(got[4:28].astype(int) - wanted[4:28]).max() <= 6
        assert np.abs(got[36:].astype(int) - wanted[36:]).max() <= 6
    burst = read_image(heic(*(Image.new("RGB", (64, 48), c) for c in ("red", "blue"))))
    assert burst[20, 20, 0] > 200
    with pytest.raises(DataError, match="a: truncated or corrupt"):
        read_image(data[:200], name="a")


def test_heic_is_cut_into_chips(tmp_path):
    smooth = np.full((64, 128, 3), 20, np.uint8)
    smooth[:, 64:] = (40, 160, 90)
    (tmp_path / "a.heic").write_bytes(heic(Image.fromarray(smooth)))
    left, right = (read_chip(Chip(tmp_path / "a.heic", Window(col, 0, 64, 64))) for col in (0, 64))
    assert np.abs(left[:, :56].astype(int) - 20).max() <= 6
    assert np.abs(right[:, 8:].astype(int) - (40, 160, 90)).max() <= 6


def test_heic_without_its_decoder_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic" + bytes(100)
    with pytest.raises(DataError, match=r"HEIC images need pip install 'landcue\[formats\]'"):
        read_image(data)
    (tmp_path / "a.heic").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.heic: HEIC images need pip install"):
        read_chip(Chip(tmp_path / "a.heic", Window(0, 0, 8, 8)))


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    assert read_image(encoded(image, "JPEG")).shape == (4, 4, 3)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate 90 degrees clockwise to show
    got = read_image(encoded(Image.fromarray(RGB), "PNG", exif=exif))
    assert np.array_equal(got, np.rot90(RGB, -1))


def test_first_page_of_a_tiff_is_taken():
    pages = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.array_equal(read_image(data), RGB)


def png_header(width: int, height: int) -> bytes:
    """A valid 1-bit PNG of any size: its pixels compress to almost nothing."""
    return encoded(Image.new("1", (width, height)), "PNG")


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"hello, I am a text file\n" * 10, "not a JPEG, PNG, TIFF, WebP"),
        (encoded(Image.fromarray(RGB), "PNG")[:60], "truncated or corrupt"),
        (encoded(Image.fromarray(RGB), "JPEG")[:-40], "truncated or corrupt"),
        (animated("GIF"), "animated (2 frames)"),
        (encoded(Image.new("L", (1, 60_000)), "PNG"), "over the limit of 32,768 a side"),
        (encoded(Image.new("L", (2, 500)), "TIFF"), "more than 200 times as long as wide"),
        (animated("PNG"), "animated (2 frames)"),
        (animated("WEBP"), "animated (2 frames)"),
        (partial(png_header, 30_000, 30_000), f"larger than {MAX_PIXELS:,} pixels"),
        (partial(png_header, 9_000, 8_000), f"over the limit of {MAX_PIXELS:,}"),
    ],
    ids=[
        "empty",
        "text",
        "cut png",
        "cut jpeg",
        "gif",
        "line",
        "strip",
        "apng",
        "webp",
        "huge",
        "large",
    ],
)
def test_bad_files_are_named_in_one_line(content, word, tmp_path, recwarn):
    file = tmp_path / "field.png"
    file.write_bytes(content() if callable(content) else content)
    with pytest.raises(DataError) as caught:
        read_image(file)
    message = str(caught.value)
    assert message.startswith(str(file))
    assert word in message
    assert "\n" not in message
    assert not recwarn.list


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: cannot be read"):
        read_image(tmp_path / "gone.png")


def test_flipped_bytes_never_escape_as_another_error():
    data = bytearray(
        encoded(Image.fromarray(np.tile(RGB, (8, 8, 1))), "TIFF", compression="tiff_lzw")
    )
    rng = np.random.default_rng(1)
    outcomes = set()
    for _ in range(300):
        broken = bytearray(data)
        broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
        try:
            outcomes.add(read_image(bytes(broken), name="x").ndim)
        except DataError as error:
            outcomes.add(str(error).startswith("x: "))
    assert outcomes == {3, True}


@pytest.mark.parametrize(
    ("name", "answer"), [("a.TIF", True), ("a.webp", True), ("._a.png", False), ("a.psd", False)]
)
def test_is_image_path(name, answer, tmp_path):
    assert is_image_path(tmp_path / name) is answer


@pytest.mark.parametrize("quality", [50, 95])
@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}]
)
@pytest.mark.parametrize("size", [(64, 64), (37, 53), (1, 1)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_fast_jpeg_path_gives_pillows_pixels(mode, size, options, quality):
    noise = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), np.uint8)
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", quality=quality, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)


def test_jpeg_of_several_pictures_is_refused_as_animated():
    pictures = [Image.fromarray(RGB), Image.fromarray(RGB)]
    out = io.BytesIO()
    pictures[0].save(out, "MPO", save_all=True, append_images=pictures[1:])
    with pytest.raises(DataError, match=r"not a JPEG|animated"):
        read_image(out.getvalue(), name="two.jpg")


def test_a_jpeg_header_that_promises_too_much_is_refused_before_decoding():
    data = bytearray(encoded(Image.fromarray(RGB), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = b"\xea\x60\xea\x60"
    with pytest.raises(DataError, match="60000 x 60000 pixels, over the limit"):
        read_image(bytes(data), name="lie.jpg")


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes only on Linux")
@pytest.mark.parametrize("where", ["caf\udce9.tif", "\udcff\udcfe/a.tif", "a\udce9.jp2"])
def test_rasters_of_names_that_are_not_utf8(tmp_path, where):
    path = tmp_path / where
    path.parent.mkdir(exist_ok=True)
    kind, options = ("TIFF", {}) if path.suffix == ".tif" else ("JPEG2000", {"irreversible": False})
    path.write_bytes(encoded(Image.fromarray(RGB), kind, **options))
    assert np.array_equal(read_image(path), RGB)
    assert np.array_equal(read_chip(Chip(path, Window(2, 1, 6, 5))), RGB[1:6, 2:8])
    path.with_name(path.name + ".msk").write_bytes(encoded(Image.new("L", (12, 9)), "TIFF"))
    with pytest.raises(DataError, match="its name is not UTF-8, so that overviews and masks"):
        read_image(path)
