"""MSC: supervised contrast with one learned prototype per label."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.pairs import (
    check_inputs,
    check_temperature,
    clear_self,
    full_precision,
    mean_over_anchors,
    shared_labels,
    union_size,
    without_self,
)
from landcue.losses.proxies import check_proxies


@dataclass(frozen=True, slots=True)
class MscOptions:
    """Options.

    Attributes:
        temperature: tau > 0.
        alpha: Weight >= 0 of images among the positives; a prototype weighs 1.
        beta: Weight > 0 of images in the normalizer; a prototype weighs 1.
    """

    temperature: float = 0.1
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not (self.alpha >= 0 and self.beta > 0):
            raise UsageError(
                f"alpha must be >= 0 and beta above 0, not {self.alpha} and {self.beta}"
            )


@full_precision
def msc_loss(z: Tensor, y: Tensor, prototypes: Tensor, options: MscOptions | None = None) -> Tensor:
    """Pull an image to its labels' prototypes and to the images that share its labels.

    For each label c of anchor i, the prototype of c has weight 1 and every other image j that
    carries c weight ``alpha / |y_i or y_j|``; these weights are divided by their sum. The weighted
    mean of ``log(beta sum_{j != i} exp(s_ij / tau) + sum_k exp(s_ik / tau)) - s_ip / tau`` is
    averaged over the labels of i, then over the images with a label. After A. Audibert et al.,
    arXiv 2404.08720, and a public program that implements it. Reconstructed: without its memory
    queue, alpha and beta 1 where the authors tune them, and images without labels left out of the
    mean.

    Args:
        z: Unit-norm embeddings ``[n, d]``.
        y: Labels ``[n, C]`` of 0 and 1.
        prototypes: ``[C, d]``, scaled to unit norm here.
        options: Temperature and the weights of images beside prototypes.

    Returns:
        A scalar; 0 with a zero gradient when no image has a label.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or MscOptions()
    z, y = check_inputs(z, y)
    check_proxies(z, y, prototypes)
    prototypes = F.normalize(prototypes.to(z), dim=1)
    log_beta = math.log(options.beta)

    def term(rows: slice, z: Tensor, prototypes: Tensor) -> tuple[Tensor, Tensor]:
        own = y[rows]
        n_labels = own.sum(1, keepdim=True).clamp(min=1)
        union = union_size(own, y, shared_labels(own, y)).clamp(min=1)
        images = clear_self(options.alpha / union, rows)
        to_prototypes = own / (1 + own * (images @ y)) / n_labels
        to_images = images * (to_prototypes @ y.T)
        image_logits = without_self(z[rows] @ z.T / options.temperature, rows)
        prototype_logits = z[rows] @ prototypes.T / options.temperature
        both = torch.cat([image_logits + log_beta, prototype_logits], 1)
        normalizer = torch.logsumexp(both, dim=1)
        pulled = (to_images * image_logits).sum(1) + (to_prototypes * prototype_logits).sum(1)
        total = to_images.sum(1) + to_prototypes.sum(1)
        return total * normalizer - pulled, own.sum(1) > 0

    return mean_over_anchors(term, z, prototypes)
