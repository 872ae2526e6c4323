"""``landcue datasets``: whole, half-downloaded and altered copies."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from commands import landcue
from landcue.data.datasets import DATASETS, FACTS, check_dataset, load_dataset
from landcue.data.datasets.check import check_images
from landcue.data.datasets.label_sheets import LABELS
from landcue.errors import DataError, UsageError


@pytest.fixture(scope="module")
def aid(tmp_path_factory):
    """All 10,000 file names of AID; the files are hard links to one image of 600 x 600."""
    root = tmp_path_factory.mktemp("aid")
    image = root / "one.jpg"
    Image.new("RGB", (600, 600)).save(image)
    for name, count in FACTS["aid"].classes.items():
        (root / "AID" / name).mkdir(parents=True)
        for number in range(1, count + 1):
            os.link(image, root / "AID" / name / f"{name.lower()}_{number}.jpg")
    image.unlink()
    return root


def test_a_whole_copy_is_complete(aid):
    report = check_dataset("aid", aid)
    assert report.complete
    assert report.images == 10_000
    assert report.sizes == {"600x600": 10_000}
    assert report.groups == FACTS["aid"].classes
    assert report.positives == FACTS["aid"].classes


def test_a_half_downloaded_copy_says_what_is_missing(aid, tmp_path):
    names = ("Beach", "Bridge", "Port")
    for name in names:
        shutil.copytree(aid / "AID" / name, tmp_path / "AID" / name, copy_function=os.link)
    (tmp_path / "AID" / "Bridge" / "bridge_7.jpg").unlink()
    done = landcue("datasets", "check", "aid", tmp_path)
    listed = landcue("datasets", "check", "aid", tmp_path, "--json")
    assert done.returncode == listed.returncode == 1
    assert "1,139 of 10,000 images, 30 labels" in done.stdout
    assert "missing: AID: 1,139 of 10,000 images\nmissing: Airport has 0 of 360\n" in done.stdout
    assert "\nmissing: and 9 more (--json lists all)\n" in done.stdout
    assert done.stdout.endswith("not complete\n")
    got = json.loads(listed.stdout)
    published = FACTS["aid"].classes
    wanted = [f"{name} has 0 of {n}" for name, n in published.items() if name not in names]
    assert got["missing"][0] == "AID: 1,139 of 10,000 images"
    assert sorted(got["missing"][1:]) == sorted([*wanted, "Bridge has 359 of 360"])
    assert not got["complete"]
    assert (got["images"], got["published"]) == (1139, 10_000)
    assert got["groups"] == {"Beach": 400, "Bridge": 359, "Port": 380}


def test_empty_and_additional_files_are_wrong(aid, tmp_path):
    square = aid / "AID" / "Square"
    shutil.copytree(square, tmp_path / "Square", copy_function=os.link)
    extra, empty = square / "square_331.jpg", square / "square_7.jpg"
    os.link(square / "square_1.jpg", extra)
    empty.unlink()
    empty.touch()
    try:
        report = check_dataset("aid", aid)
    finally:
        shutil.rmtree(square)
        (tmp_path / "Square").rename(square)
    assert report.missing == ()
    assert report.wrong == (
        f"{empty}: the file is empty (UnidentifiedImageError)",
        "AID: 10,001 images, 10,000 are published",
        "Square has 331, 330 are published",
    )


def ucmerced(root, sides=(256, 256, 250), flags="100"):
    names = [f"beach{n:02}" for n in range(3)]
    lines = ["\t".join(["IMAGE\\LABEL", *LABELS])]
    for name, side, flag in zip(names, sides, flags, strict=True):
        path = root / "UCMerced_LandUse" / "Images" / "beach" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (side, side)).save(path)
        lines.append("\t".join([name, flag, *"1" * 16]))
    (root / "LandUse_Multilabeled.txt").write_text("\n".join(lines))
    return root


SMALL = replace(
    FACTS["ucmerced"], images=3, classes={"beach": 3}, odd_sizes=1,
    positives={name: 1 if name == LABELS[0] else 3 for name in LABELS},
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ()),
        ({"sides": (256, 250, 250)}, ("2 images are not 256x256; 1 are published so",)),
        ({"flags": "110"}, ("label 'airplane': 2 images, 1 are published",)),
    ],
)
def test_labels_and_sizes_are_compared_with_the_published_ones(tmp_path, change, wrong):
    report = check_images(load_dataset("ucmerced", ucmerced(tmp_path, **change)), SMALL)
    assert report.missing == ()
    assert report.wrong == wrong


def test_sizes_of_a_partial_copy_are_wrong_only_beyond_the_published_oddities(tmp_path):
    images = load_dataset("ucmerced", ucmerced(tmp_path, sides=(256, 250, 250)))
    partial = replace(SMALL, images=9, classes={"beach": 9})
    assert check_images(images, replace(partial, odd_sizes=3)).wrong == ()
    assert check_images(images, partial).wrong == ("2 images are not 256x256; 1 are published so",)


def test_published_images_without_a_label_are_expected(tmp_path):
    root = ucmerced(tmp_path)
    table = root / "LandUse_Multilabeled.txt"
    table.write_text(re.sub(r"(beach02)(\t\d)+", r"\1" + "\t0" * 17, table.read_text()))
    images = load_dataset("ucmerced", root)
    known = replace(SMALL, positives={}, unlabeled=("beach02",))
    assert check_images(images, known).complete
    assert check_images(images, replace(SMALL, positives={})).wrong == (
        "1 images have no label (first: beach02)",
    )
    assert check_images(images, replace(known, unlabeled=("beach01", "beach02"))).wrong == (
        "beach01 has a label, none is published",
    )


def test_a_patch_without_one_band_is_wrong(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from landcue.data.datasets.bigearthnet import BANDS

    patch = "S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_26_57"
    folder = tmp_path / "BigEarthNet-S2" / patch.rsplit("_", 2)[0] / patch
    folder.mkdir(parents=True)
    for name in BANDS:
        side = 120 if name in ("B02", "B03", "B04", "B08") else 60
        Image.fromarray(np.zeros((side, side), np.uint16)).save(folder / f"{patch}_{name}.tif")
    rows = {"patch_id": [patch], "labels": [["Pastures"]], "split": ["train"]}
    pq.write_table(pa.table(rows), tmp_path / "metadata.parquet")
    report = check_dataset("bigearthnet", tmp_path)
    assert report.sizes == {"120x120": 1}
    assert report.missing[0] == "BigEarthNet v2: 1 of 480,038 images"
    assert report.missing[1] == "part train has 1 of 237,871"
    assert report.wrong == ()
    (folder / f"{patch}_B8A.tif").unlink()
    wrong = check_dataset("bigearthnet", tmp_path).wrong
    assert wrong == (f"{folder} has 11 of 12 band files; no B8A",)


def test_labels_alone_are_checked_when_there_is_no_image(tmp_path):
    (tmp_path / "multilabel.csv").write_text(
        ",".join(["x", *LABELS]) + "\n" + ",".join(["forest_2", *"0" * 17]) + "\n"
    )
    report = check_dataset("ml_aid", tmp_path)
    assert report.missing[0] == "ML-AID: 0 of 3,000 images"
    assert report.wrong[0].endswith("multilabel.csv: 1 rows, 3,000 are published")
    assert "label 'airplane': 0 images, 99 are published" in report.wrong
    assert report.unlabeled == ("forest_2",)


def test_an_own_folder_lacks_nothing(tmp_path):
    (tmp_path / "forest").mkdir()
    Image.new("RGB", (9, 8)).save(tmp_path / "forest" / "a.png")
    (tmp_path / "forest" / "b.png").write_text("no image")
    report = check_dataset("folder", tmp_path)
    assert report.complete
    assert report.sizes == {"9x8": 1}
    assert len(report.problems) == 1
    assert "b.png: not a readable image" in str(report.problems[0])
    assert landcue("datasets", "check", "folder", tmp_path).returncode == 0


def test_what_cannot_be_checked_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'patternnet'"):
        check_dataset("paternnet", tmp_path)
    with pytest.raises(DataError, match="no class folder of AID"):
        check_dataset("aid", tmp_path)
    done = landcue("datasets", "check", "dlrsd", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_list_shows_facts_and_citations():
    text = landcue("datasets", "list").stdout
    facts = json.loads(landcue("datasets", "list", "--json").stdout)
    assert list(facts) == list(DATASETS)
    assert "mlrsnet: MLRSNet, 109,161 images, 60 labels, 46 groups" in text
    assert "aid: AID, 10,000 images, 30 classes, one per image" in text
    for name, published in FACTS.items():
        assert published.citation in text
        assert facts[name]["images"] == published.images
        assert facts[name]["labels"] == list(published.labels)
