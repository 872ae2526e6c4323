"""Losses of pytorch-metric-learning for images with exactly one label each."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.inputs import (
    check_batch,
    check_range,
    check_reference,
    class_indices,
    count_classes,
    is_class_indices,
    one_hot,
)

INSTALL = "pip install 'landcue[rivals]'"


class SingleLabelLoss(nn.Module):
    """Gives classes, read from one-hot labels or class indices, to a loss of that library.

    Attributes:
        inner: That loss; proxies are its parameters. It scales embeddings to unit norm.
        n_classes: Classes that it has proxies of; ``None`` where it has none.
    """

    n_classes: int | None = None

    def __init__(self, name: str, *args: Any, **options: Any) -> None:
        """Make the inner loss ``pytorch_metric_learning.losses.<name>``.

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
        self.inner: nn.Module = getattr(library, name)(*args, **options)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: tuple[Tensor, ...] | None = None,
        ref_emb: Tensor | None = None,
        ref_labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar, computed in float32 or, of float64 embeddings, in float64.

        Args:
            embeddings: ``[n, d]``, any float type.
            labels: One-hot ``[n, C]`` of any type, or class indices, integer ``[n]``.
            indices_tuple: Pairs or triplets to use, as the library's miners return them.
            ref_emb: Embeddings ``[m, d]`` to compare with instead of the batch.
            ref_labels: Their labels, given as ``labels`` are.

        Raises:
            UsageError: Wrong shapes, embeddings that are not finite, a class without a proxy, or
                an image with no label or several.
        """
        check_reference(ref_emb, ref_labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            z, classes = _classes(embeddings, labels)
            if self.n_classes is not None:
                one_hot(classes, self.n_classes)  # refuses classes without a proxy
            if ref_emb is None or ref_labels is None:
                return self.inner(z, classes, indices_tuple)
            return self.inner(z, classes, indices_tuple, *_classes(ref_emb, ref_labels))


class Triplet(SingleLabelLoss):
    """All triplets of the batch: distances to negatives exceed those to positives by a margin.

    Args:
        margin: At least 0.

    >>> import torch
    >>> Triplet()(torch.eye(3), torch.tensor([0, 0, 1]))
    tensor(0.0500)
    """

    def __init__(self, *, margin: float = 0.05) -> None:
        check_range("margin", margin, 0)
        super().__init__("TripletMarginLoss", margin=margin)


class MultiSimilarity(SingleLabelLoss):
    """Multi-similarity loss, without its miner.

    Args:
        alpha: Scale > 0 of positives.
        beta: Scale > 0 of negatives.
        base: Similarity in -1..1 from which both are counted.

    >>> import torch
    >>> MultiSimilarity()(torch.eye(3), torch.tensor([0, 0, 1]))
    tensor(0.4378)
    """

    def __init__(self, *, alpha: float = 2.0, beta: float = 50.0, base: float = 0.5) -> None:
        check_range("alpha", alpha, 0, above=True)
        check_range("beta", beta, 0, above=True)
        check_range("base", base, -1, 1)
        super().__init__("MultiSimilarityLoss", alpha=alpha, beta=beta, base=base)


class NPair(SingleLabelLoss):
    """N-pair loss; the first pair of each class in the batch is used.

    >>> import torch
    >>> NPair()(torch.eye(4), torch.tensor([0, 0, 1, 1]))
    tensor(0.6931)
    """

    def __init__(self) -> None:
        super().__init__("NPairsLoss")


class Contrastive(SingleLabelLoss):
    """Contrastive loss on Euclidean distances of unit vectors.

    Args:
        pos_margin: Distance, at least 0, below which positives cost nothing.
        neg_margin: Distance, at least 0, above which negatives cost nothing.

    >>> import torch
    >>> Contrastive()(torch.eye(3), torch.tensor([0, 0, 1]))
    tensor(1.4142)
    """

    def __init__(self, *, pos_margin: float = 0.0, neg_margin: float = 1.0) -> None:
        check_range("pos_margin", pos_margin, 0)
        check_range("neg_margin", neg_margin, 0)
        super().__init__("ContrastiveLoss", pos_margin=pos_margin, neg_margin=neg_margin)


class ProxyNCA(SingleLabelLoss):
    """Proxy-NCA: a soft-max over squared distances to one learned proxy per class.

    Args:
        n_classes: C.
        dim: Length d of the embeddings.
        softmax_scale: Scale > 0 of the squared distances.

    >>> import torch
    >>> loss = ProxyNCA(n_classes=3, dim=8)
    >>> loss(torch.randn(4, 8), torch.tensor([0, 1, 1, 2])).item() > 0
    True
    """

    def __init__(self, n_classes: int, dim: int, *, softmax_scale: float = 1.0) -> None:
        check_range("softmax_scale", softmax_scale, 0, above=True)
        super().__init__("ProxyNCALoss", n_classes, dim, softmax_scale=softmax_scale)
        self.n_classes = n_classes

    @classmethod
    def from_labels(cls, labels: Any, dim: int, **options: float) -> ProxyNCA:
        """Make the loss for labels of a training split, ``[M, C]`` or class indices ``[M]``."""
        return cls(count_classes(labels), dim, **options)


def _classes(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    z, y = check_batch(embeddings, labels)
    return z, labels.long() if is_class_indices(labels) else class_indices(y)
