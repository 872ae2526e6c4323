"""Proxy-Anchor against a plain float64 loop."""

from __future__ import annotations

import pytest

from landcue.losses import ProxyAnchor
from loss_batches import batch, item, naive_proxy, proxies, with_proxies


def naive_proxy_anchor(z, y, vectors, alpha, margin):
    return naive_proxy(
        z, y, vectors, lambda s: -alpha * (s - margin), lambda s: alpha * (s + margin)
    )


@pytest.mark.parametrize(
    "options", [{"alpha": 32.0, "margin": 0.1}, {"alpha": 8.0, "margin": -0.2}]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_value_is_that_of_a_plain_loop(options, seed):
    z, y = batch(seed)
    y[0] = 0
    y[:, 3] = seed  # a label that no image, then every image, carries
    y[0, 3] = 0
    expected = naive_proxy_anchor(z, y, proxies(), **options)
    assert item(with_proxies(ProxyAnchor, **options)(z, y)) == pytest.approx(expected, rel=1e-10)
