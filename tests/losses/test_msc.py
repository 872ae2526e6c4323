"""MSC against a plain float64 loop."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from landcue.losses import MSC
from loss_batches import DIM, C, N, batch, item, naive_weighted, proxies, sets, with_proxies


def naive_msc(z, y, prototypes, temperature, alpha, beta):
    labels, unit = sets(y), F.normalize(prototypes, dim=1)
    total, anchors = 0.0, 0
    for i, own in enumerate(labels):
        if not own:
            continue
        anchors += 1
        image = {j: float(z[i] @ z[j]) / temperature for j in range(len(z)) if j != i}
        proto = [float(z[i] @ unit[c]) / temperature for c in range(C)]
        norm = math.log(beta * sum(map(math.exp, image.values())) + sum(math.exp(v) for v in proto))
        for c in own:
            weights = {j: alpha / len(own | labels[j]) for j in image if c in labels[j]}
            mass = 1 + sum(weights.values())
            pulled = (norm - proto[c]) + sum(w * (norm - image[j]) for j, w in weights.items())
            total += pulled / mass / len(own)
    return total / anchors


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.2, "alpha": 1.0, "beta": 1.0},
        {"temperature": 0.3, "alpha": 0.4, "beta": 0.1},
        {"temperature": 0.3, "alpha": 0.0, "beta": 2.0},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_that_of_a_plain_loop(options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[:, 3] = seed  # a label that no image, then every image, carries
    y[0, 3] = 0
    expected = naive_msc(z, y, proxies(), **options)
    assert item(with_proxies(MSC, **options)(z, y)) == pytest.approx(expected, rel=1e-10)


def test_msc_without_labels_is_zero_and_moves_no_prototype():
    z = F.normalize(torch.randn(4, DIM), dim=1).requires_grad_()
    msc = with_proxies(MSC)
    loss = msc(z, torch.zeros(4, C))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert float(z.grad.abs().sum()) == float(msc.proxies.grad.abs().sum()) == 0.0


def test_msc_with_one_label_per_image_is_supcon_over_images_and_prototypes():
    """With alpha 1 and one label, the prototype is one more positive of weight 1."""
    z, _ = batch(2)
    y = F.one_hot(torch.arange(N) % C, C)
    unit = F.normalize(proxies(), dim=1)
    joint = torch.cat([z, unit])
    labels = torch.cat([y, torch.eye(C)])
    anchors = [
        naive_weighted(joint, 0.1, {(i, p): 1 / len(found) for p in found})
        for i in range(N)
        if (found := [p for p in range(len(joint)) if p != i and bool(labels[i] @ labels[p])])
    ]
    got = item(with_proxies(MSC)(z, y))
    assert got == pytest.approx(sum(anchors) / N, rel=1e-10)
