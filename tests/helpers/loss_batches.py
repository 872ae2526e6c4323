"""Small batches for tests of losses, and plain loops that several of them share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from landcue.losses import LabelStatistics

N, DIM, C = 12, 5, 4


def batch(seed=0, n=N, p=0.4):
    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(n, DIM, generator=g, dtype=torch.float64), dim=1)
    return z, (torch.rand(n, C, generator=g) < p).long()


def proxies(seed=3, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(C, DIM, generator=g, dtype=torch.float64)


def with_proxies(loss, **options):
    """Return a loss whose proxies are :func:`proxies`."""
    made = loss(C, DIM, **options).double()
    with torch.no_grad():
        made.proxies.copy_(proxies())
    return made


def item(loss):
    return float(loss.detach())


def sets(y):
    return [frozenset(row.nonzero().flatten().tolist()) for row in y]


def naive_weighted(z, tau, weights):
    """Sum over pairs of w_ip (log sum_{a != i} exp(s_ia / tau) - s_ip / tau)."""
    total = 0.0
    for (i, p), w in weights.items():
        others = [float(z[i] @ z[a]) / tau for a in range(len(z)) if a != i]
        total += w * (math.log(sum(map(math.exp, others))) - float(z[i] @ z[p]) / tau)
    return total


def naive_by_pair(z, y, tau, weight):
    """Mean over anchors of the mean over positives; ``weight`` is None for the others."""
    labels, weights, anchors = sets(y), {}, 0
    for i, own in enumerate(labels):
        found = {p: weight(own, labels[p]) for p in range(len(z)) if p != i}
        found = {p: w for p, w in found.items() if w is not None}
        anchors += bool(found)
        weights |= {(i, p): w / len(found) for p, w in found.items()}
    return naive_weighted(z, tau, weights) / anchors


def statistics(seed: int = 9) -> LabelStatistics:
    g = torch.Generator().manual_seed(seed)
    rates = torch.tensor([0.6, 0.4, 0.15, 0.05])
    return LabelStatistics.from_labels((torch.rand(200, C, generator=g) < rates).long())


def naive_proxy(z, y, vectors, pull, push):
    """Proxy-Anchor's sums over exponents that ``pull`` and ``push`` give for a cosine."""
    unit, vectors = F.normalize(z, dim=1), F.normalize(vectors, dim=1)
    attraction, repulsion, present = 0.0, 0.0, 0
    for c in range(C):
        cosine = [float(unit[i] @ vectors[c]) for i in range(len(z))]
        near = [math.exp(pull(s)) for s, on in zip(cosine, y[:, c], strict=True) if on]
        far = [math.exp(push(s)) for s, on in zip(cosine, y[:, c], strict=True) if not on]
        present += bool(near)
        attraction += math.log1p(sum(near))
        repulsion += math.log1p(sum(far))
    return attraction / max(present, 1) + repulsion / C
