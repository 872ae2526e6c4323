"""MulSupCon against a plain float64 loop."""

from __future__ import annotations

import pytest
import torch

from landcue.losses import MulSupCon
from loss_batches import batch, naive_weighted, sets


def naive_mulsupcon(z, y, temperature, average):
    labels, weights, counted = sets(y), {}, 0
    for i, own in enumerate(labels):
        carriers = {c: [p for p in range(len(z)) if p != i and c in labels[p]] for c in own}
        carriers = {c: found for c, found in carriers.items() if found}
        counted += len(carriers) if average == "label" else bool(carriers)
        share = 1 if average == "label" else 1 / max(len(carriers), 1)
        for found in carriers.values():
            for p in found:
                weights[i, p] = weights.get((i, p), 0) + share / len(found)
    return naive_weighted(z, temperature, weights) / counted


@pytest.mark.parametrize(
    "options", [{"temperature": 0.2, "average": a} for a in ("label", "anchor")]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_that_of_a_plain_loop(options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[1], y[2] = y[3], torch.tensor([1, 0, 0, 0])
    expected = naive_mulsupcon(z, y, **options)
    assert float(MulSupCon(**options)(z, y)) == pytest.approx(expected, rel=1e-10)
