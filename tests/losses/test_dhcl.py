"""DHCL's proxy term against a plain float64 loop, and its gradient."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from landcue.losses import DHCL
from loss_batches import DIM, N, batch, item, naive_proxy, proxies, with_proxies


def naive_dhcl(z, y, vectors, scale, margin, negatives):
    g, m = scale, margin
    d_n, o_n = (m, -m) if negatives == "circle" else (-1 + m, -1 - m)
    return naive_proxy(
        z, y, vectors,
        lambda s: -g * max(1 + m - s, 0) * (s - (1 - m)),
        lambda s: g * max(s - o_n, 0) * (s - d_n),
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 32.0, "margin": 0.25, "negatives": "circle"},
        {"scale": 8.0, "margin": 0.4, "negatives": "circle"},
        {"scale": 16.0, "margin": 0.25, "negatives": "opposite"},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_that_of_a_plain_loop(options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[:, 3] = seed  # a label that no image, then every image, carries
    y[0, 3] = 0
    expected = naive_dhcl(z, y, proxies(), **options)
    assert item(with_proxies(DHCL, **options)(z, y)) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("negatives", ["circle", "opposite"])
def test_dhcl_gradient_treats_the_weights_as_constants(negatives):
    """The gradient is that of the naive sums with the weights frozen at the point itself."""
    z, y = batch(4)
    scale, m = 8.0, 0.25
    d_n, o_n = (m, -m) if negatives == "circle" else (-1 + m, -1 - m)
    vectors = F.normalize(proxies(), dim=1)
    at = (F.normalize(z, dim=1) @ vectors.T).clone()

    def frozen(point):
        cosine = F.normalize(point, dim=1) @ vectors.T
        pull = torch.exp(-scale * (1 + m - at).clamp(min=0) * (cosine - (1 - m))) * y
        push = torch.exp(scale * (at - o_n).clamp(min=0) * (cosine - d_n)) * (1 - y)
        present = (y.sum(0) > 0).sum()
        return (1 + pull.sum(0)).log().sum() / present + (1 + push.sum(0)).log().mean()

    point = z.clone().requires_grad_()
    (got,) = torch.autograd.grad(
        with_proxies(DHCL, scale=scale, margin=m, negatives=negatives)(point, y), point
    )
    step = 1e-6
    for i in range(N):
        for k in range(DIM):
            moved = torch.zeros_like(z)
            moved[i, k] = step
            slope = (frozen(z + moved) - frozen(z - moved)) / (2 * step)
            assert float(got[i, k]) == pytest.approx(float(slope), abs=1e-6, rel=1e-5)
