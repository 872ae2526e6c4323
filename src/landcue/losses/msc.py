"""MSC: supervised contrast with one learned prototype per label."""

from __future__ import annotations

import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.losses.inputs import check_range, count_classes
from landcue.losses.pairs import PairLoss, Pairs
from landcue.losses.proxies import add_proxies, fit_proxies, known_classes


class MSC(PairLoss):
    """Pull an image to its labels' prototypes and to the images that share its labels.

    For each label c of anchor i, the prototype of c has weight 1 and every other image j that
    carries c weight ``alpha / |y_i or y_j|``; these weights are divided by their sum. The weighted
    mean of ``log(beta sum_{j != i} exp(s_ij / tau) + sum_k exp(s_ik / tau)) - s_ip / tau`` is
    averaged over the labels of i, then over the images with a label. After A. Audibert et al.,
    arXiv 2404.08720, and a public program that implements it. Reconstructed: without its memory
    queue, alpha and beta 1 where the authors tune them, and images without labels left out of the
    mean. Embeddings and prototypes are scaled to unit norm. The loss is 0 with a zero gradient
    when no image has a label.

    Args:
        n_classes: C. Without it, or without ``dim``, the prototypes are drawn at the first call.
        dim: Length d of the embeddings.
        temperature: tau > 0.
        alpha: Weight >= 0 of images among the positives; a prototype weighs 1.
        beta: Weight > 0 of images in the normalizer; a prototype weighs 1.

    Attributes:
        proxies: The prototypes, a parameter ``[C, d]``.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> loss = MSC(n_classes=3, dim=8)
    >>> loss(torch.randn(3, 8), torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 1]])).item() > 0
    True
    """

    def __init__(
        self,
        n_classes: int | None = None,
        dim: int | None = None,
        *,
        temperature: float = 0.1,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        super().__init__()
        check_range("temperature", temperature, 0, above=True)
        check_range("alpha", alpha, 0)
        check_range("beta", beta, 0, above=True)
        self.temperature, self.alpha, self.beta = temperature, alpha, beta
        self.proxies = add_proxies(self, n_classes, dim)

    @classmethod
    def from_labels(cls, labels: Any, dim: int | None = None, **options: float) -> Self:
        """Make the loss for labels of a training split, ``[M, C]`` or class indices ``[M]``."""
        return cls(count_classes(labels), dim, **options)

    def classes_of(self, labels: Tensor) -> int:
        """Return C for class indices ``[n]``."""
        return known_classes(self.proxies)

    def compute(self, pairs: Pairs) -> Tensor:
        """Return the loss of checked embeddings and labels."""
        fit_proxies(self.proxies, pairs.z, pairs.y)
        return msc_loss(pairs, self.proxies, self.temperature, self.alpha, self.beta)


def msc_loss(
    pairs: Pairs, prototypes: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Return the loss of :class:`MSC`; prototypes ``[C, d]`` of any norm."""
    log_beta = math.log(beta)

    def term(rows: slice, z: Tensor, other: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        own = pairs.y[rows]
        n_labels = own.sum(1, keepdim=True).clamp(min=1)
        union = pairs.union(rows, pairs.shared(rows)).clamp(min=1)
        images = pairs.clear_left_out(alpha / union, rows)
        to_prototypes = own / (1 + own * (images @ pairs.other_y)) / n_labels
        to_images = images * (to_prototypes @ pairs.other_y.T)
        image_logits = pairs.without_left_out(z[rows] @ other.T / temperature, rows)
        prototype_logits = z[rows] @ prototypes.T / temperature
        both = torch.cat([image_logits + log_beta, prototype_logits], 1)
        normalizer = torch.logsumexp(both, dim=1)
        pulled = (to_images * image_logits).sum(1) + (to_prototypes * prototype_logits).sum(1)
        total = to_images.sum(1) + to_prototypes.sum(1)
        return total * normalizer - pulled, own.sum(1) > 0

    return pairs.mean(term, F.normalize(prototypes.to(pairs.z), dim=1))
