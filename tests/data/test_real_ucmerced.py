"""The real copy of UC Merced: its published counts, and what its README warns of."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from landcue.data.datasets import load_dataset
from landcue.data.datasets.check import image_size
from landcue.data.images import read_image
from landcue.data.splits import apply_split

pytestmark = pytest.mark.real_data

POSITIVES = {
    "airplane": 100, "bare-soil": 718, "buildings": 691, "cars": 886, "chaparral": 115,
    "court": 105, "dock": 100, "field": 103, "grass": 975, "mobile-home": 102, "pavement": 1300,
    "sand": 294, "sea": 100, "ship": 102, "tanks": 100, "trees": 1009, "water": 203,
}  # fmt: skip


def test_images_and_labels_are_the_published_ones(real_data):
    images = load_dataset("ucmerced", real_data / "uc_merced")
    assert len(images) == 2100
    assert images.problems == ()
    counts = dict(zip(images.label_names, images.label_matrix().sum(0).tolist(), strict=True))
    assert counts == POSITIVES
    assert set(Counter(record.group for record in images.records).values()) == {100}


def test_odd_sizes_and_the_identical_pair(real_data):
    """By the headers of all and the pixels of some; test_audit_cli.py decodes all of them."""
    images = load_dataset("ucmerced", real_data / "uc_merced")
    sizes = {record.path: image_size(record) for record in images.records}
    odd = [path for path, size in sizes.items() if size != (256, 256)]
    assert len(odd) == 44
    assert all(242 <= side <= 257 for size in sizes.values() for side in size)
    pair = [r.path for r in images.records if r.id in ("airplane01", "airplane02")]
    for path in (*odd, *pair):
        assert read_image(path).shape == (*sizes[path][::-1], 3)
    assert np.array_equal(read_image(pair[0]), read_image(pair[1]))


def test_splits_have_the_published_sizes(real_data):
    images = load_dataset("ucmerced", real_data / "uc_merced")
    for split, sizes in (
        ("per-class-70-10-20-seed42", (1470, 210, 420)),
        ("files-80-20", (1680, 0, 420)),
    ):
        divided = apply_split(images, split)
        assert tuple(len(divided.part(p)) for p in ("train", "val", "test")) == sizes
