"""Label maps, label sheets and stacked bands, and what is wrong with them."""

from __future__ import annotations

import builtins
import importlib

import numpy as np
import openpyxl
import pytest
import rasterio
import scipy.io
from PIL import Image

from landcue.data.datasets import load_dataset
from landcue.data.datasets.bands import read_rgb, stack_bands
from landcue.data.datasets.bigearthnet import BANDS
from landcue.data.datasets.common import read_sheet
from landcue.data.datasets.label_maps import WHDLD_COLORS as COLORS
from landcue.data.datasets.label_maps import WHDLD_LABELS as WHDLD
from landcue.data.datasets.label_maps import mask_labels
from landcue.data.datasets.label_sheets import CLASSES, LABELS
from landcue.errors import DataError
from landcue.types import Record

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def mask(path, values, colors=None, mode="P"):
    image = Image.fromarray(np.resize(np.array(values, np.uint8), (6, 7)), mode)
    if mode == "P":
        flat = [level for level in range(256) for _ in range(3)]
        for value, color in (colors or {}).items():
            flat[3 * value : 3 * value + 3] = color
        image.putpalette(flat)
    image.save(path)
    return path


PUBLISHED = dict(enumerate(COLORS, start=1))
ALPHABETICAL = dict(enumerate(sorted(COLORS, key=lambda color: COLORS[color])))


@pytest.mark.parametrize("value", range(1, 7))
def test_published_order_with_and_without_palette(tmp_path, value):
    expected = (WHDLD[value - 1],)
    for number, (colors, mode) in enumerate([(PUBLISHED, "P"), (None, "P"), (None, "L")]):
        path = mask(tmp_path / f"{number}.png", [value], colors, mode)
        assert mask_labels(path, WHDLD, COLORS) == expected


def test_colors_go_before_renumbered_values(tmp_path):
    # a repackaged copy: alphabetical values from 0, bare soil first, and the published colors
    path = mask(tmp_path / "a.png", [0, 3, 5], ALPHABETICAL)
    assert mask_labels(path, WHDLD, COLORS) == ("road", "bare soil", "water")


def test_without_colors_the_palette_says_nothing(tmp_path):
    path = mask(tmp_path / "a.png", [2], {2: (255, 0, 0)})
    assert mask_labels(path, WHDLD) == ("road",)


@pytest.mark.parametrize(
    ("values", "colors", "word"),
    [
        ([1, 7], None, "value 7"),
        ([0, 1], None, "value 0"),
        ([1, 9], PUBLISHED, r"value 9 of color \(9, 9, 9\)"),
        ([255], None, "value 255"),
    ],
)
def test_unknown_values_name_file_and_value(tmp_path, values, colors, word):
    path = mask(tmp_path / "wh0001.png", values, colors)
    with pytest.raises(DataError, match=rf"wh0001\.png: {word}.* has no label"):
        mask_labels(path, WHDLD, COLORS)


def test_files_that_are_no_label_map(tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (4, 4)).save(photo)
    with pytest.raises(DataError, match=r"photo\.png: 4 x 4 pixels of mode RGB are no label map"):
        mask_labels(photo, WHDLD, COLORS)
    whole = mask(tmp_path / "cut.png", range(1, 7)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) - 30])
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.png", "empty.png"):
        with pytest.raises(DataError, match=f"{name}: truncated or corrupt"):
            mask_labels(tmp_path / name, WHDLD, COLORS)


def sheet(tmp_path, text):
    path = tmp_path / "sheet.csv"
    path.write_text(text)
    return path


def test_sheet_columns_may_be_in_any_order_and_spelling(tmp_path):
    path = sheet(tmp_path, "image,Trees,bare soil\na,1,0\nb,,1.0\n")
    got = read_sheet(path, ("bare-soil", "trees"))
    assert got.label_names == ("trees", "bare-soil")
    assert got.rows == {"a": ("trees",), "b": ("bare-soil",)}


def test_a_blank_column_name_is_filled_in_only_where_it_is_certain(tmp_path):
    path = sheet(tmp_path, "image,sand, ,sea\na,1,1,0\n")
    assert read_sheet(path, ("sand", "ship", "sea")).rows == {"a": ("sand", "ship")}
    with pytest.raises(DataError, match="header must name the 3 labels"):
        read_sheet(path, ("sand", "sea", "ship"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("image,sand,see\na,1,0\n", "these differ: sea, see"),
        ("image,sand,sea,sea\na,1,0,0\n", "one stands there twice"),
        ("image,sand,sea\na,1,2\n", "line 2, sea: '2' is not 0, 1 or blank"),
        ("image,sand,sea\na,1,0\nb,1\n", "line 3: 2 cells, the header has 3; is the file cut off"),
        ("image,sand,sea\na,1,0,1\n", "line 2: 4 cells"),
        ("image,sand,sea\na,1,0\na,1,0\n", "line 3: a second row for 'a'"),
        ("", "the header must name the 2 labels"),
    ],
)
def test_broken_sheets_name_file_and_line(tmp_path, text, word):
    path = sheet(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_sheet(path, ("sand", "sea"))
    assert word in str(caught.value)
    assert str(path) in str(caught.value)


def ucmerced(root, kinds):
    """A copy of one image whose tables disagree: text says sand, Excel sea, MATLAB field."""
    photo = root / "UCMerced_LandUse" / "Images" / "tenniscourt" / "tenniscourt97.tif"
    photo.parent.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(photo)
    folder = root / "multilabel"
    folder.mkdir()
    header = ["IMAGE\\LABEL", *LABELS]
    if "txt" in kinds:
        row = ["tenniscourt97", *("01"[name == "sand"] for name in LABELS)]
        text = "\t".join(header) + "\n" + "\t".join(row) + "\n"
        (folder / "LandUse_Multilabeled.txt").write_text(text)
    if "xlsx" in kinds:
        book = openpyxl.Workbook()
        book.active.append(header)
        book.active.append(["tenniscourt97", *(int(name == "sea") for name in LABELS)])
        book.save(folder / "LandUse_Multilabeled.xlsx")
    if "mat" in kinds:
        matrix = np.zeros((17, 2100), np.uint8)
        matrix[LABELS.index("field"), 100 * CLASSES.index("tenniscourt") + 97] = 1
        scipy.io.savemat(folder / "LandUse_multilabels.mat", {"labels": matrix})
    return root


@pytest.mark.parametrize(
    ("kinds", "label"),
    [(("txt", "xlsx", "mat"), "sand"), (("xlsx", "mat"), "sea"), (("mat",), "field")],
)
def test_ucmerced_takes_the_text_file_then_excel_then_matlab(tmp_path, kinds, label):
    images = load_dataset("ucmerced", ucmerced(tmp_path, kinds))
    assert [record.labels for record in images.records] == [(label,)]
    assert images.label_names == LABELS


@pytest.mark.parametrize(("kind", "package"), [("xlsx", "openpyxl"), ("mat", "scipy")])
def test_a_missing_extra_is_named(tmp_path, monkeypatch, kind, package):
    def without(name, *args, **kwargs):
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(name)
        return importlib.__import__(name, *args, **kwargs)

    root = ucmerced(tmp_path, (kind,))
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(DataError, match=rf"needs {package}; install .*'landcue\[formats\]'"):
        load_dataset("ucmerced", root)


@pytest.mark.parametrize("kind", ["xlsx", "mat"])
def test_broken_tables_of_other_formats(tmp_path, kind):
    root = ucmerced(tmp_path, (kind,))
    path = next((root / "multilabel").iterdir())
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"{path.name} is no readable"):
        load_dataset("ucmerced", root)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"labels": np.zeros((2100, 17))}, "no variable 'labels' of shape 17 x 2100"),
        ({"other": np.zeros((17, 2100))}, "no variable 'labels'"),
        ({"labels": np.full((17, 2100), 2)}, "values other than 0 and 1"),
    ],
)
def test_matlab_files_of_another_content(tmp_path, content, word):
    root = ucmerced(tmp_path, ("mat",))
    scipy.io.savemat(root / "multilabel" / "LandUse_multilabels.mat", content)
    with pytest.raises(DataError, match=word):
        load_dataset("ucmerced", root)


def band(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.asarray(values)
    values = values if values.ndim == 3 else values[None]
    count, height, width = values.shape
    profile = {"driver": "GTiff", "width": width, "height": height, "count": count}
    with rasterio.open(path, "w", dtype=values.dtype, **profile) as file:
        file.write(values)
    return path


def test_bands_are_stacked_at_the_largest_size(tmp_path):
    fine = np.arange(16, dtype=np.uint16).reshape(4, 4) * 100
    coarse = np.full((2, 2), 700, np.uint16)
    got = stack_bands([band(tmp_path / "a.tif", fine), band(tmp_path / "b.tif", coarse)])
    assert got.dtype == np.uint16
    assert got.shape == (2, 4, 4)
    assert np.array_equal(got[0], fine)
    assert (got[1] == 700).all()


def test_rgb_of_a_patch_folder(tmp_path):
    patch = tmp_path / "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"
    values = {"B04": 3000, "B03": 1500, "B02": 0}
    for name in BANDS:
        side = {"B01": 20, "B09": 20}.get(name, 120)
        pixels = np.full((side, side), values.get(name, 9999), np.uint16)
        band(patch / f"{patch.name}_{name}.tif", pixels)
    image = read_rgb(Record("a", patch))
    assert image.shape == (120, 120, 3)
    assert image.dtype == np.uint8
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[255, 128, 0]]
    (patch / f"{patch.name}_B03.tif").unlink()
    with pytest.raises(DataError, match=r"_B03\.tif is missing"):
        read_rgb(Record("a", patch))


def test_rgb_of_a_13_band_file_and_of_a_photo(tmp_path):
    pixels = np.zeros((13, 64, 64), np.uint16)
    pixels[3], pixels[2], pixels[1] = 600, 9000, 300  # B04, B03 (saturates), B02
    image = read_rgb(Record("a", band(tmp_path / "Forest_1.tif", pixels), sensor="sentinel-2"))
    assert np.unique(image.reshape(-1, 3), axis=0).tolist() == [[51, 255, 26]]
    photo = np.random.default_rng(0).integers(0, 255, (5, 6, 3)).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.tif")
    assert np.array_equal(read_rgb(Record("b", tmp_path / "photo.tif")), photo)


def test_bands_that_cannot_be_read_name_the_file(tmp_path):
    with pytest.raises(DataError, match="no band files"):
        stack_bands([])
    with pytest.raises(DataError, match=r"8\.tif: holds uint8 values, need 16-bit"):
        stack_bands([band(tmp_path / "8.tif", np.zeros((2, 2), np.uint8))])
    cut = band(tmp_path / "cut.tif", np.arange(40_000, dtype=np.uint16).reshape(200, 200))
    cut.write_bytes(cut.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"cut\.tif: truncated or corrupt"):
        stack_bands([cut])
    (tmp_path / "text.tif").write_text("hello")
    with pytest.raises(DataError, match=r"text\.tif: not a JPEG"):
        read_rgb(Record("a", tmp_path / "text.tif"))
    with pytest.raises(DataError, match=r"text\.tif: not a JPEG"):
        read_rgb(Record("a", tmp_path / "text.tif", sensor="sentinel-2"))
    few = band(tmp_path / "few.tif", np.zeros((3, 2, 2), np.uint16))
    with pytest.raises(DataError, match=r"few\.tif: has 3 bands, need 1 per file or 13 in one"):
        read_rgb(Record("a", few, sensor="sentinel-2"))
