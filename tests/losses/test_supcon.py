"""SupCon against a plain float64 loop."""

from __future__ import annotations

import math

import pytest

from landcue.losses import SupCon
from loss_batches import batch, sets


def naive_supcon(z, y, tau, positives):
    labels, n = sets(y), len(z)
    total, anchors = 0.0, 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        if positives == "any":
            pos = [j for j in others if labels[i] & labels[j]]
        else:
            pos = [j for j in others if labels[i] and labels[i] == labels[j]]
        if not pos:
            continue
        norm = math.log(sum(math.exp(float(z[i] @ z[a]) / tau) for a in others))
        total += sum(norm - float(z[i] @ z[p]) / tau for p in pos) / len(pos)
        anchors += 1
    return total / anchors if anchors else 0.0


@pytest.mark.parametrize("positives", ["any", "all"])
@pytest.mark.parametrize("seed", [0, 1])
def test_supcon_equals_double_loop(positives, seed):
    z, y = batch(seed)
    y[3] = y[4]
    got = SupCon(temperature=0.2, positives=positives)(z, y)
    assert float(got) == pytest.approx(naive_supcon(z, y, 0.2, positives), abs=1e-10)
