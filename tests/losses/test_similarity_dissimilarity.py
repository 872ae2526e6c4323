"""The Similarity-Dissimilarity loss against a plain float64 loop."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from landcue.losses import SimilarityDissimilarity
from loss_batches import C, batch, naive_by_pair


def naive_similarity_dissimilarity(z, y, temperature):
    def weight(a, b):
        return len(a & b) / len(a) / (1 + len(b - a)) if a & b else None

    return naive_by_pair(z, y, temperature, weight)


@pytest.mark.parametrize("options", [{"temperature": 0.3}])
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_that_of_a_plain_loop(options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[1], y[2] = y[3], torch.tensor([1, 0, 0, 0])
    expected = naive_similarity_dissimilarity(z, y, **options)
    assert float(SimilarityDissimilarity(**options)(z, y)) == pytest.approx(expected, rel=1e-10)


def test_extra_labels_lower_the_weight_of_a_positive():
    def pull(second):
        """How hard the first image pulls its only positive."""
        z = F.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0], [-1.0, 0.1]]), dim=1).double()
        y = torch.zeros(3, C)
        y[0, :2], y[1, second] = 1, 1
        return float(SimilarityDissimilarity()(z, y))

    assert pull([0, 1]) > pull([0, 1, 2]) > pull([0, 1, 2, 3])
    assert pull([0, 1]) > pull([0])
