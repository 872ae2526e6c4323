"""Every dataset reader on a small fake of the exact published layout."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

from landcue.data.datasets import DATASETS, FACTS, detect_source, load_dataset
from landcue.data.datasets import bigearthnet as ben
from landcue.data.datasets.label_sheets import LABELS as UCM
from landcue.data.splits import apply_split
from landcue.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def photo(path, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((side, side, 3), 90, np.uint8)).save(path)


def label_map(path, values, palette=None):
    """Save a palette PNG in which each of ``values`` occurs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.resize(np.array(values, np.uint8), (8, 8)), "P")
    flat = [0] * 768
    for value, color in (palette or {}).items():
        flat[3 * value : 3 * value + 3] = color
    image.putpalette(flat)
    image.save(path)


def table(path, names, rows, first="IMAGE\\LABEL", sep=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [sep.join([first, *names])]
    lines += [sep.join([name, *("01"[n in on] for n in names)]) for name, on in rows.items()]
    path.write_text("\n".join(lines) + "\n")


def geotiff(path, bands, side, dtype="uint16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": len(bands)}
    with rasterio.open(path, "w", dtype=dtype, **profile) as file:
        for number, value in enumerate(bands, start=1):
            file.write(np.full((side, side), value, dtype), number)


def classes(root, names, pattern, count=3, save=photo):
    for name in names:
        for number in range(1, count + 1):
            save(root / name / pattern.format(name=name, lower=name.lower(), n=number))
    return root


def summary(images):
    return {record.id: record.labels for record in images.records}


def test_every_dataset_has_facts_that_add_up():
    assert set(FACTS) == set(DATASETS) - {"folder"}
    for name, facts in FACTS.items():
        assert len(set(facts.labels)) == len(facts.labels), name
        assert facts.images == sum(facts.classes.values()) or not facts.classes
        assert facts.images == sum(facts.parts.values()) or not facts.parts
        assert set(facts.positives) in (set(), set(facts.labels))
        assert facts.citation
        assert facts.homepage
        assert facts.layout
    sizes = {name: (f.images, len(f.labels), len(f.classes)) for name, f in FACTS.items()}
    assert sizes == {
        "ucmerced": (2100, 17, 21), "dlrsd": (2100, 17, 21), "aid": (10_000, 30, 30),
        "ml_aid": (3000, 17, 30), "whdld": (4940, 6, 0), "mlrsnet": (109_161, 60, 46),
        "bigearthnet": (480_038, 19, 0), "eurosat": (27_000, 10, 10),
        "resisc45": (31_500, 45, 45), "patternnet": (30_400, 38, 38),
    }  # fmt: skip
    assert {"baresoil", "mobilehome"} < set(FACTS["dlrsd"].labels)
    assert {"habor", "snowberg"} < set(FACTS["mlrsnet"].labels)


@pytest.mark.parametrize(
    ("name", "below", "pattern", "first"),
    [
        ("aid", "AID", "{lower}_{n}.jpg", "airport_1"),
        ("resisc45", "NWPU-RESISC45", "{name}_{n:03}.jpg", "airplane_001"),
        ("patternnet", "PatternNet/images", "{name}{n:03}.jpg", "airplane001"),
        ("eurosat", "2750", "{name}_{n}.jpg", "AnnualCrop_1"),
    ],
)
def test_scene_classes(tmp_path, name, below, pattern, first):
    root = classes(tmp_path / below, FACTS[name].classes, pattern)
    (root / "Thumbs").mkdir()
    images = load_dataset(name, tmp_path)
    assert len(images) == 3 * len(FACTS[name].classes)
    assert images.records[0].id == first
    assert images.label_names == FACTS[name].labels
    assert all(record.labels == (record.group,) for record in images.records)
    assert set(Counter(r.group for r in images.records)) == set(FACTS[name].classes)
    assert [str(p) for p in images.problems] == [
        f"{root / 'Thumbs'}: is no class of {FACTS[name].title}; skipped"
    ]
    assert summary(load_dataset(name, root)) == summary(images)  # the class folders' own folder
    (root / "Thumbs").rmdir()
    assert detect_source(root).name == name


def test_scene_classes_keep_all_label_names_of_a_partial_copy(tmp_path):
    classes(tmp_path, ["Beach", "Viaduct"], "{lower}_{n}.jpg")
    images = load_dataset("aid", tmp_path)
    assert images.label_matrix().sum(0).tolist() == [
        3 if name in ("Beach", "Viaduct") else 0 for name in FACTS["aid"].labels
    ]
    assert detect_source(tmp_path).name == "folder"
    with pytest.raises(DataError, match=r"no class folder of PatternNet \(airplane"):
        load_dataset("patternnet", tmp_path)


def test_unpadded_numbers_are_split_by_value(tmp_path):
    classes(tmp_path, ["Airport"], "{lower}_{n}.jpg", count=12)
    parts = apply_split(load_dataset("aid", tmp_path), "files-50-50").records
    train = {record.id for record in parts if record.part == "train"}
    assert train == {f"airport_{n}" for n in range(1, 7)}


def test_eurosat_with_13_bands(tmp_path):
    base = tmp_path / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
    classes(base, ["Forest"], "{name}_{n}.tif", save=lambda p: geotiff(p, range(13), 4))
    images = load_dataset("eurosat", tmp_path)
    assert [r.id for r in images.records] == ["Forest_1", "Forest_2", "Forest_3"]
    assert {record.sensor for record in images.records} == {"sentinel-2"}
    classes(tmp_path / "2750", ["Forest"], "{name}_{n}.jpg", count=1)
    assert [r.path.suffix for r in load_dataset("eurosat", tmp_path).records] == [".jpg"]


DLRSD = FACTS["dlrsd"].labels
MAPS = {"beach00": (12, 13), "beach01": (2, 10), "river00": (16, 17)}
FROM_MAPS = {"beach00": ("sand", "sea"), "beach01": ("baresoil", "mobilehome"),
             "river00": ("trees", "water")}  # fmt: skip


def dlrsd_maps(folder):
    for name, values in MAPS.items():
        label_map(folder / name[:5] / f"{name}.png", values)


def dlrsd_photos(folder):
    for name in MAPS:
        photo(folder / name[:5] / f"{name}.tif")


@pytest.mark.parametrize(
    ("beside", "given"), [(".", "."), ("DLRSD", "DLRSD"), (".", "DLRSD"), ("DLRSD", ".")]
)
def test_dlrsd_original(tmp_path, beside, given):
    dlrsd_maps(tmp_path / "DLRSD" / "Images")
    with pytest.raises(DataError, match=r"label maps only.*put the folder UCMerced_LandUse beside"):
        load_dataset("dlrsd", tmp_path / given)
    dlrsd_photos(tmp_path / beside / "UCMerced_LandUse" / "Images")
    images = load_dataset("dlrsd", tmp_path / given)
    assert summary(images) == FROM_MAPS
    assert {record.path.suffix for record in images.records} == {".tif"}
    assert images.records[2].group == "river"
    assert images.label_names == DLRSD
    assert images.problems == ()


def test_dlrsd_repacked_and_its_sheet(tmp_path):
    root = tmp_path / "DLRSD"
    dlrsd_maps(root / "Labels")
    dlrsd_photos(root / "Images")
    assert load_dataset("dlrsd", tmp_path).problems == ()
    sheet = {**FROM_MAPS, "beach00": ("sand", "sea", "trees"), "river00": ("water",)}
    table(root / "multilabels.csv", DLRSD, sheet, "image")
    images = load_dataset("dlrsd", tmp_path)
    assert summary(images) == FROM_MAPS
    assert [str(problem) for problem in images.problems] == [
        "multilabels.csv: 'trees' differs from the label maps, which hold: 1 images in the maps "
        "only, 1 in the sheet only (first: beach00)"
    ]
    assert detect_source(tmp_path).name == detect_source(root).name == "dlrsd"


def test_dlrsd_sheet_in_the_spelling_of_2018(tmp_path):
    dlrsd_maps(tmp_path / "Labels")
    dlrsd_photos(tmp_path / "Images")
    spelled = {"baresoil": "bare-soil", "mobilehome": "mobile home"}
    rows = {f"{name}.tif": [spelled.get(n, n) for n in on] for name, on in FROM_MAPS.items()}
    table(tmp_path / "multilabels.csv", [spelled.get(n, n) for n in DLRSD], rows)
    assert load_dataset("dlrsd", tmp_path).problems == ()


def test_dlrsd_reports_lonely_maps_and_photos_and_refuses_unknown_values(tmp_path):
    dlrsd_maps(tmp_path / "Labels")
    dlrsd_photos(tmp_path / "Images")
    (tmp_path / "Labels" / "beach" / "beach01.png").unlink()
    (tmp_path / "Images" / "river" / "river00.tif").unlink()
    found = [str(problem) for problem in load_dataset("dlrsd", tmp_path).problems]
    assert len(found) == 2
    assert "beach01.tif: image without a label map" in found[0]
    assert "river00.png: label map without an image" in found[1]
    label_map(tmp_path / "Labels" / "beach" / "beach00.png", (1, 18))
    with pytest.raises(DataError, match=r"beach00\.png: value 18 has no label"):
        load_dataset("dlrsd", tmp_path)


def ml_aid(root):
    rows = {}
    for number, scene in enumerate(("Airport", "Forest", "RailwayStation")):
        for n in (2, 10):
            folder = "images_test" if number == 1 else "images_tr"
            photo(root / folder / scene / f"{scene.lower()}_{n}.jpg")
            rows[f"{scene.lower()}_{n}"] = () if (scene, n) == ("Forest", 2) else ("cars", "trees")
    table(root / "multilabel.csv", UCM, rows)
    return root


def test_ml_aid(tmp_path):
    images = load_dataset("ml_aid", ml_aid(tmp_path))
    assert [(r.id, r.part, r.group) for r in images.records[:3]] == [
        ("airport_10", "train", "airport"), ("airport_2", "train", "airport"),
        ("forest_10", "test", "forest"),
    ]  # fmt: skip
    assert summary(images)["forest_2"] == ()
    assert images.label_names == UCM
    assert {r.group for r in images.records} < set(FACTS["ml_aid"].classes)
    assert detect_source(tmp_path).name == "ml_aid"
    assert apply_split(images, "published").records == images.records


def test_ml_aid_half_downloaded(tmp_path):
    root = ml_aid(tmp_path)
    (root / "images_tr" / "Airport" / "airport_2.jpg").unlink()
    photo(root / "images_tr" / "Airport" / "airport_3.jpg")
    for path in (root / "images_test").rglob("*.jpg"):
        path.unlink()
    (root / "images_test" / "Forest").rmdir()
    (root / "images_test").rmdir()
    found = [str(problem) for problem in load_dataset("ml_aid", root).problems]
    assert found[0].endswith("airport_3.jpg: has no row in multilabel.csv")
    assert found[1].endswith("images_test: is missing")
    assert found[2:] == [
        f"multilabel.csv: label row without an image: '{name}'"
        for name in ("airport_2", "forest_10", "forest_2")
    ]


def test_published_split_must_come_with_the_dataset(tmp_path):
    classes(tmp_path, ["Beach"], "{lower}_{n}.jpg")
    with pytest.raises(DataError, match=r"aid comes with no split .'beach_1' has no part"):
        apply_split(load_dataset("aid", tmp_path), "published")


COLORS = {1: (255, 0, 0), 2: (255, 255, 0), 3: (192, 192, 0), 4: (0, 255, 0),
          5: (128, 128, 128), 6: (0, 0, 255)}  # fmt: skip


@pytest.mark.parametrize("folder", ["ImagesPNG", "Labels", "Images"])
def test_whdld(tmp_path, folder):
    root = tmp_path / "WHDLD"
    for n, values in ((1, (1, 5)), (2, (6, 2, 3)), (3, (4,))):
        photo(root / "Images" / f"wh{n:04}.jpg")
        label_map(root / folder / f"wh{n:04}.png", values, COLORS)
    images = load_dataset("whdld", tmp_path)
    assert summary(images) == {
        "wh0001": ("building", "bare soil"),
        "wh0002": ("road", "pavement", "water"),
        "wh0003": ("vegetation",),
    }
    assert summary(load_dataset("whdld", root)) == summary(images)
    if folder == "ImagesPNG":
        assert detect_source(root).name == "whdld"


def mlrsnet(root, sheets="Labels"):
    names = FACTS["mlrsnet"].labels
    for category, on in (("harbor&port", ("habor", "ships")), ("storage_tank", ("tanks",))):
        rows = {}
        for n in (1, 2, 33):
            photo(root / "Images" / category / f"{category}_{n:05}.jpg")
            rows[f"{category}_{n:05}.jpg"] = on
        table(root / sheets / f"{category}.csv", names, rows, "image")
    return root


@pytest.mark.parametrize("sheets", ["Labels", "labels"])
def test_mlrsnet(tmp_path, sheets):
    root = mlrsnet(tmp_path, sheets)
    path = root / sheets / "storage_tank.csv"  # published with one blank column name
    path.write_text(path.read_text().replace("snow,snowberg,", "snow,  ,"))
    images = load_dataset("mlrsnet", root)
    assert len(images) == 6
    assert images.records[0].labels == ("habor", "ships")
    assert images.records[5].id == "storage_tank_00033"
    assert images.records[5].group == "storage_tank"
    assert images.label_names == FACTS["mlrsnet"].labels
    assert images.problems == ()
    assert detect_source(root).name == "mlrsnet"


def test_mlrsnet_half_downloaded(tmp_path):
    root = mlrsnet(tmp_path)
    (root / "Labels" / "harbor&port.csv").unlink()
    (root / "Images" / "storage_tank" / "storage_tank_00002.jpg").unlink()
    images = load_dataset("mlrsnet", root)
    assert len(images) == 2
    found = [str(problem) for problem in images.problems]
    assert found[0].endswith("harbor&port: no label sheet harbor&port.csv; skipped")
    assert found[1] == "storage_tank.csv: label row without an image: 'storage_tank_00002.jpg'"


PATCHES = ("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57",
           "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_58",
           "S2B_MSIL2A_20180204T94160_N9999_R036_T35VNK_00_01")  # fmt: skip
SIDES = {**dict.fromkeys(ben.BANDS, 60), "B01": 20, "B09": 20,
         **dict.fromkeys(("B02", "B03", "B04", "B08"), 120)}  # fmt: skip


def bigearthnet(root, labels=(["Marine waters", "Urban fabric"], ["Pastures"], ["Mixed forest"]),
                splits=("train", "validation", "test")):  # fmt: skip
    for patch in PATCHES:
        folder = root / "BigEarthNet-S2" / patch.rsplit("_", 2)[0] / patch
        for number, band in enumerate(ben.BANDS, start=1):
            geotiff(folder / f"{patch}_{band}.tif", [number * 250], SIDES[band])
    columns = {"patch_id": PATCHES, "labels": list(labels), "split": splits, "country": ["x"] * 3}
    pq.write_table(pa.table(columns), root / "metadata.parquet")
    return root


def test_bigearthnet(tmp_path):
    images = load_dataset("bigearthnet", bigearthnet(tmp_path))
    first = images.records[0]
    assert [record.id for record in images.records] == list(PATCHES)
    assert first.labels == ("Urban fabric", "Marine waters")
    assert [record.part for record in images.records] == ["train", "val", "test"]
    assert first.group == "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP"
    assert first.datetime == datetime(2017, 6, 13, 10, 10, 31, tzinfo=UTC)
    assert first.path.is_dir()
    assert first.sensor == "sentinel-2"
    assert len(images.label_names) == 19
    assert detect_source(tmp_path).name == "bigearthnet"


def test_bigearthnet_half_downloaded(tmp_path):
    root = bigearthnet(tmp_path)
    (root / "BigEarthNet-S2" / PATCHES[1].rsplit("_", 2)[0] / PATCHES[1]).rename(root / "away")
    images = load_dataset("bigearthnet", root)
    assert [record.id for record in images.records] == [PATCHES[0], PATCHES[2]]
    assert [str(problem) for problem in images.problems] == [
        f"metadata.parquet row 2: no folder of patch '{PATCHES[1]}'"
    ]
    table_path = root / "metadata.parquet"
    table_path.write_bytes(table_path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"metadata\.parquet is no readable Parquet table"):
        load_dataset("bigearthnet", root)
    table_path.unlink()
    with pytest.raises(DataError, match=r"metadata\.parquet is missing"):
        load_dataset("bigearthnet", root)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"labels": (["Airports"], ["Pastures"], ["Mixed forest"])}, "row 1 .*label 'Airports'"),
        ({"splits": ("train", "dev", "test")}, "row 2 .*split 'dev'"),
    ],
)
def test_bigearthnet_of_another_version(tmp_path, change, word):
    with pytest.raises(DataError, match=word):
        load_dataset("bigearthnet", bigearthnet(tmp_path, **change))


@pytest.mark.parametrize("name", sorted(FACTS))
def test_empty_and_missing_folders_are_one_line(tmp_path, name):
    with pytest.raises(DataError, match="does not exist"):
        load_dataset(name, tmp_path / "gone")
    with pytest.raises(DataError) as caught:
        load_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
