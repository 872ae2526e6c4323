"""Losses of pytorch-metric-learning for images with exactly one label each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.pairs import check_inputs

INSTALL = "pip install 'landcue[rivals]'"


@dataclass(frozen=True, slots=True)
class TripletOptions:
    """Margin >= 0 between the distances to positives and to negatives."""

    margin: float = 0.05

    def __post_init__(self) -> None:
        _at_least_zero("margin", self.margin)


@dataclass(frozen=True, slots=True)
class MultiSimilarityOptions:
    """Scales > 0 of positives (``alpha``) and negatives (``beta``), and the ``base`` similarity."""

    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5

    def __post_init__(self) -> None:
        _above_zero("alpha", self.alpha)
        _above_zero("beta", self.beta)
        if not -1 <= self.base <= 1:
            raise UsageError(f"base must lie in -1..1, not {self.base}")


@dataclass(frozen=True, slots=True)
class NPairOptions:
    """No options; the first pair of each class in the batch is used."""


@dataclass(frozen=True, slots=True)
class ContrastiveOptions:
    """Distances >= 0 below which positives, and above which negatives, cost nothing."""

    pos_margin: float = 0.0
    neg_margin: float = 1.0

    def __post_init__(self) -> None:
        _at_least_zero("pos_margin", self.pos_margin)
        _at_least_zero("neg_margin", self.neg_margin)


@dataclass(frozen=True, slots=True)
class ProxyNcaOptions:
    """Scale > 0 of the squared distances."""

    softmax_scale: float = 1.0

    def __post_init__(self) -> None:
        _above_zero("softmax_scale", self.softmax_scale)


class SingleLabelLoss(nn.Module):
    """Hands class numbers, read from one-hot labels, to a loss of pytorch-metric-learning.

    Attributes:
        inner: That loss; proxies are its parameters.
    """

    def __init__(self, make: Callable[[Any, Any], nn.Module], options: object) -> None:
        """Build the inner loss: ``make`` takes the library's ``losses`` module and the options.

        Raises:
            UsageError: pytorch-metric-learning is not installed.
        """
        super().__init__()
        try:
            library = importlib.import_module("pytorch_metric_learning.losses")
        except ImportError:
            raise UsageError(
                f"this loss needs pytorch-metric-learning; install it with {INSTALL}"
            ) from None
        self.inner = make(library, options)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss of embeddings ``[n, d]`` and labels ``[n, C]``, each with one label.

        Raises:
            UsageError: An image has no label or several.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, y = check_inputs(z, y)
            return self.inner(z, class_numbers(y))


def class_numbers(y: Tensor, instead: str = "a multi-label loss such as marc") -> Tensor:
    """Return the class of each image, int64 ``[n]``, from one-hot labels ``[n, C]``.

    Args:
        y: The labels.
        instead: What the message recommends for others.

    Raises:
        UsageError: An image has no label or several.
    """
    wrong = (y.sum(1) != 1).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise UsageError(
            f"this loss needs exactly one label per image; image {row} of the batch has "
            f"{int(y[row].sum())} ({len(wrong)} of {len(y)} images are such); use {instead}"
        )
    return y.argmax(1)


def triplet(options: TripletOptions) -> SingleLabelLoss:
    """All triplets of the batch."""
    return SingleLabelLoss(lambda pml, o: pml.TripletMarginLoss(margin=o.margin), options)


def multi_similarity(options: MultiSimilarityOptions) -> SingleLabelLoss:
    """Multi-similarity loss, without its miner."""
    return SingleLabelLoss(
        lambda pml, o: pml.MultiSimilarityLoss(alpha=o.alpha, beta=o.beta, base=o.base), options
    )


def n_pair(options: NPairOptions) -> SingleLabelLoss:
    """N-pair loss."""
    return SingleLabelLoss(lambda pml, _: pml.NPairsLoss(), options)


def contrastive(options: ContrastiveOptions) -> SingleLabelLoss:
    """Contrastive loss on Euclidean distances of unit vectors."""
    return SingleLabelLoss(
        lambda pml, o: pml.ContrastiveLoss(pos_margin=o.pos_margin, neg_margin=o.neg_margin),
        options,
    )


def proxy_nca(options: ProxyNcaOptions, n_labels: int, dim: int) -> SingleLabelLoss:
    """Proxy-NCA with ``n_labels`` learned proxies of length ``dim``."""
    return SingleLabelLoss(
        lambda pml, o: pml.ProxyNCALoss(n_labels, dim, softmax_scale=o.softmax_scale), options
    )


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise UsageError(f"{name} must be above 0, not {value}")


def _at_least_zero(name: str, value: float) -> None:
    if not value >= 0:
        raise UsageError(f"{name} must be at least 0, not {value}")
