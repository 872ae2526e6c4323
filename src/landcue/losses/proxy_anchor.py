"""Proxy-Anchor for images with several labels."""

from __future__ import annotations

from torch import Tensor

from landcue.losses.inputs import check_range
from landcue.losses.proxies import ProxyLoss, aggregate


class ProxyAnchor(ProxyLoss):
    """Pull the images of a label to its proxy and push all others away from it.

    ``1/|P+| sum_{c in P+} log(1 + sum_{i with c} exp(-alpha (cos_ic - margin))) + 1/C sum_c log(1 +
    sum_{i without c} exp(alpha (cos_ic + margin)))``, S. Kim et al., "Proxy Anchor Loss for Deep
    Metric Learning", CVPR 2020. Ours: an image is a positive for the proxy of each of its labels,
    and one without labels a negative for all. Embeddings and proxies are scaled to unit norm. The
    loss is 0 with a zero gradient for a batch without images.

    Args:
        n_classes: C. Without it, or without ``dim``, the proxies are drawn at the first call.
        dim: Length d of the embeddings.
        alpha: Scale > 0 of the cosine.
        margin: In -1..1.

    Attributes:
        proxies: A parameter ``[C, d]``; the authors train it at 100 times the learning rate.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> loss = ProxyAnchor(n_classes=3, dim=8)
    >>> loss(torch.randn(4, 8), torch.tensor([0, 1, 1, 2])).item() > 0
    True
    """

    def __init__(
        self,
        n_classes: int | None = None,
        dim: int | None = None,
        *,
        alpha: float = 32.0,
        margin: float = 0.1,
    ) -> None:
        super().__init__(n_classes, dim)
        check_range("alpha", alpha, 0, above=True)
        check_range("margin", margin, -1, 1)
        self.alpha, self.margin = alpha, margin

    def compute(self, cosine: Tensor, y: Tensor) -> Tensor:
        """Return the loss of cosines to the proxies ``[n, C]`` and multi-hot labels ``[n, C]``."""
        return proxy_anchor_loss(cosine, y, self.alpha, self.margin)


def proxy_anchor_loss(cosine: Tensor, y: Tensor, alpha: float, margin: float) -> Tensor:
    """Return the loss of :class:`ProxyAnchor` for cosines and labels ``[n, C]``."""
    return aggregate(-alpha * (cosine - margin), alpha * (cosine + margin), y)
