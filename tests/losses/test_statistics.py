"""Label statistics: counts, frequencies, rarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landcue.errors import ModelError, UsageError
from landcue.losses import MARC, LabelStatistics, ProxyAnchor


def test_statistics_count_labels_and_pairs():
    stats = LabelStatistics.from_labels(torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 0]]))
    assert stats.frequency.tolist() == pytest.approx([4 / 4, 3 / 4, 1 / 4])
    assert float(stats.joint[0, 1]) == pytest.approx(3 / 4)
    again = LabelStatistics.from_json(stats.to_json())
    assert torch.equal(again.counts, stats.counts)
    assert again.rarity_range == stats.rarity_range
    assert float(stats.rarity(torch.tensor([[0, 0, 0]]))) == 0.0


def test_rarity_is_zero_when_all_anchors_are_equally_rare():
    stats = LabelStatistics.from_labels(torch.eye(3))
    assert stats.rarity(torch.eye(3)).tolist() == [0, 0, 0]


def test_class_indices_are_counted_as_one_hot_labels():
    classes = torch.tensor([0, 2, 2, 1])
    wanted = LabelStatistics.from_labels(torch.eye(4)[classes])
    got = LabelStatistics.from_labels(classes.numpy(), n_classes=4)
    assert torch.equal(got.counts, wanted.counts)
    assert got.rarity_range == wanted.rarity_range
    assert len(LabelStatistics.from_labels(classes).counts) == 3


@pytest.mark.parametrize("labels", [torch.zeros(0, 3), torch.zeros(3), torch.full((2, 2), 0.5)])
def test_other_labels_are_refused(labels):
    with pytest.raises(UsageError, match="label statistics need labels"):
        LabelStatistics.from_labels(labels)


@pytest.mark.parametrize("value", [{}, {"n_images": 3, "counts": [[1, 2]], "rarity_range": [1]}])
def test_a_broken_value_is_refused(value):
    with pytest.raises(ModelError, match="broken label statistics"):
        LabelStatistics.from_json(value)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64", "int16"])
def test_class_indices_may_be_of_any_whole_type(dtype):
    classes = np.array([0, 2, 2, 1], dtype)
    assert LabelStatistics.from_labels(classes).counts.diagonal().tolist() == [1, 1, 2]
    assert len(ProxyAnchor.from_labels(classes, 4).proxies) == 3
    embeddings = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    expected = MARC()(embeddings, torch.tensor([0, 2, 2, 1]))
    assert torch.equal(MARC()(embeddings, torch.from_numpy(classes)), expected)
