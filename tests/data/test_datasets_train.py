"""Training takes every dataset by name, and says what a copy lacks."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from landcue.data.datasets import DATASETS, dataset_warnings, load_dataset
from landcue.errors import DataError, UsageError
from landcue.training.adapt import adapt
from landcue.training.config import make_config
from landcue.training.images import read_split
from landcue.training.loop import train


def dlrsd(root):
    """Twenty images in the original layout: label maps in DLRSD, photos beside it."""
    rng = np.random.default_rng(0)
    for n in range(20):
        name = f"beach{n:02}.png"
        for folder in ("DLRSD/Images/beach", "UCMerced_LandUse/Images/beach"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        values = np.resize(np.array([(12, 13), (2, 16), (2, 12)][n % 3], np.uint8), (8, 8))
        Image.fromarray(values, "L").save(root / "DLRSD/Images/beach" / name)
        photo = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        Image.fromarray(photo).save(root / "UCMerced_LandUse/Images/beach" / name)
    return root


def config(root, dataset, split="files-80-20"):
    return make_config(
        {
            "data": {"dataset": dataset, "root": str(root), "split": split},
            "model": {"backbone": "mobilenetv2_folded", "init": "none", "image_size": 32,
                      "dim": 8, "n_bits": 8},
            "optimizer": {"epochs": 1, "batch_size": 8},
        }
    )  # fmt: skip


def test_training_on_dlrsd_by_name(tmp_path):
    said = []
    summary = train(config(dlrsd(tmp_path), "dlrsd"), tmp_path / "run", message=said.append)
    assert (summary.folder / "model.safetensors").exists()
    assert said[0].startswith("warning: DLRSD: 20 of 2,100 images; agricultural has 0 of 100; ")
    assert f"landcue datasets check dlrsd {tmp_path}" in said[0]


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_name_of_the_list_is_a_value_of_the_config(tmp_path, name):
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        read_split(config(tmp_path, name))


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"unknown dataset 'dlrds' .did you mean 'dlrsd'"):
        read_split(config(tmp_path, "dlrds"))


def test_warnings_name_what_is_missing_and_what_is_odd(tmp_path):
    images = load_dataset("dlrsd", dlrsd(tmp_path))
    assert len(dataset_warnings("dlrsd", images)) == 1
    assert dataset_warnings("folder", images) == []
    (tmp_path / "DLRSD/Images/beach/beach03.png").unlink()
    lines = dataset_warnings("dlrsd", load_dataset("dlrsd", tmp_path))
    assert len(lines) == 2
    assert lines[1].startswith("in the data: ")


def test_bad_rows_of_a_label_table_are_named_and_left_out(tmp_path):
    rows = ["path,labels,time", *(f"{i}.png,{'ab'[i % 2]}," for i in range(8))]
    for i in range(8):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
    rows[3:3] = ["2.png", ",a,", "gone.png,a,", "7.png,a,yesterday", "0.png,b,"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    images = read_split(config(tmp_path, "folder"))
    assert sorted(record.id for record in images.records) == [f"{i}.png" for i in range(8)]
    lines = "\n".join(dataset_warnings("folder", images))
    for row in ("4: 1 cells", "5: no path", "6: no image", "7: 'yesterday'", "8: '0.png' stands"):
        assert f"labels.csv line {row}" in lines
    lines = []
    with pytest.raises(DataError, match="20"):
        adapt(tmp_path, tmp_path / "out", message=lines.append)
    assert sum("labels.csv line" in line for line in lines) == 5
