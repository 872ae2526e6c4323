"""MultiSupCon against a plain float64 loop."""

from __future__ import annotations

import pytest
import torch

from landcue.losses import MultiSupCon
from loss_batches import batch, naive_by_pair


def naive_multisupcon(z, y, temperature, threshold):
    def weight(a, b):
        overlap = len(a & b) / max(len(a | b), 1)
        return overlap if a & b and overlap >= threshold else None

    return naive_by_pair(z, y, temperature, weight)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.3, "threshold": c} for c in (0.5, 1 / 3, 0.0)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_that_of_a_plain_loop(options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[1], y[2] = y[3], torch.tensor([1, 0, 0, 0])
    expected = naive_multisupcon(z, y, **options)
    assert float(MultiSupCon(**options)(z, y)) == pytest.approx(expected, rel=1e-10)
