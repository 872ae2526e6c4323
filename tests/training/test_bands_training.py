"""Training on named bands: what is read, what the backbone takes, what a run is evaluated on."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from landcue.data.datasets.bands import EUROSAT_BANDS as BANDS
from landcue.data.datasets.bands import read_bands, read_rgb
from landcue.data.sources import open_source
from landcue.errors import DataError, UsageError
from landcue.models.checkpoint import load_checkpoint
from landcue.training.augment import create_transform
from landcue.training.config import AugmentSection, make_config
from landcue.training.evaluation import study_run
from landcue.training.images import ImageDataset, read_split
from landcue.training.loop import train

rasterio = pytest.importorskip("rasterio")
CHOSEN = ["B08", "B02", "B11"]


@pytest.fixture(scope="module")
def eurosat(tmp_path_factory):
    """Two classes of ten 13-band files that differ in B08 alone."""
    root = tmp_path_factory.mktemp("eurosat")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("Forest", "River")):
        (root / name).mkdir()
        for i in range(1, 11):
            values = rng.integers(200, 900, (13, 40, 40)).astype(np.uint16)
            values[BANDS.index("B08")] += 1500 * number
            with rasterio.open(
                root / name / f"{name}_{i}.tif", "w", driver="GTiff", width=40, height=40,
                count=13, dtype="uint16",
            ) as file:  # fmt: skip
                file.write(values)
    return root


def config(root, bands=CHOSEN, **sections):
    return make_config(
        {
            "data": {"dataset": "eurosat", "root": str(root), "target": "group",
                     "split": "files-70-10-20", "bands": bands},
            "model": {"backbone": "resnet10t", "init": "none", "image_size": 32, "dim": 8,
                      "n_bits": 8},
            "loss": {"classification": "softmax"},
            "optimizer": {"epochs": 1, "batch_size": 8},
            "loggers": ["csv"],
            **sections,
        }
    )  # fmt: skip


def test_bands_are_read_by_name_and_scaled(eurosat):
    record = read_split(config(eurosat)).records[0]
    with rasterio.open(record.path) as file:
        stack = file.read()
    expected = [np.rint(np.clip(stack[BANDS.index(b)] * (255 / 3000), 0, 255)) for b in CHOSEN]
    assert np.array_equal(read_bands(record, CHOSEN), np.stack(expected, axis=2).astype(np.uint8))
    assert np.array_equal(read_rgb(record), read_bands(record, ["B04", "B03", "B02"]))
    pixels = ImageDataset([record], ["Forest", "River"], 40, bands=CHOSEN[:2]).pixels(0)
    assert np.array_equal(pixels, read_bands(record, CHOSEN)[..., :2])


def test_a_model_of_named_bands_trains_and_is_evaluated(eurosat, tmp_path):
    train(config(eurosat, [*CHOSEN, "B12"]), tmp_path / "run")
    encoder = load_checkpoint(tmp_path / "run").encoder
    assert encoder.config.in_chans == 4
    assert next(encoder.backbone.parameters()).shape[1] == 4
    subject = study_run(tmp_path / "run", part="test", resamples=0)
    assert set(subject.spaces) == {"embedding", "features", "code"}
    assert len(subject.query.ids) == 4
    name = subject.query.ids[0]
    assert subject.pictures([name])[name][:2] == b"\xff\xd8"  # a JPEG of three of the bands


@pytest.mark.parametrize(("changed", "same"), [("B05", True), ("B08", False)])
def test_the_named_bands_are_all_that_a_model_learns_from(eurosat, tmp_path, changed, same):
    copy = tmp_path / "copy"
    shutil.copytree(eurosat, copy)
    for file in copy.rglob("*.tif"):
        with rasterio.open(file, "r+") as raster:
            number = 1 + BANDS.index(changed)
            raster.write(raster.read(number)[::-1], number)
    marks = [
        train(config(root, ["B08", "B02"]), tmp_path / name).fingerprint
        for name, root in (("a", eurosat), ("b", copy))
    ]
    assert (marks[0] == marks[1]) == same


def test_color_of_other_bands_keeps_a_plain_image_plain():
    image = torch.full((5, 16, 16), 100, dtype=torch.uint8)
    transform = create_transform(AugmentSection(color=0.3), 16, bands=5)
    torch.manual_seed(0)
    means = set()
    for _ in range(20):
        got = transform(image)
        assert got.shape == (5, 16, 16)
        assert int(got.max() - got.min()) == 0
        assert 69 < float(got.float().mean()) < 131
        means.add(int(got.max()))
    assert len(means) > 5


def test_mistakes_are_named(eurosat, tmp_path):
    with pytest.raises(UsageError, match=r"data.bands: no band 'B8' .did you mean"):
        train(config(eurosat, ["B8"]), tmp_path / "a")
    model = {"backbone": "mobilenetv2_folded", "init": "none", "image_size": 32}
    with pytest.raises(UsageError, match="mobilenetv2_folded takes 3 bands, not 1"):
        train(config(eurosat, ["B08"], model=model), tmp_path / "b")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    record = next(iter(open_source(tmp_path).records))
    with pytest.raises(DataError, match=r"has no bands named B08; leave data\.bands out"):
        read_bands(record, ["B08"])
