"""The proxy term of DHCL: Proxy-Anchor's sums with the self-paced weights of Circle loss."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from landcue.losses.inputs import check_choice, check_range
from landcue.losses.proxies import ProxyLoss, aggregate

Negatives = Literal["circle", "opposite"]


class DHCL(ProxyLoss):
    """Pull relaxed codes to the proxies of their labels, the worst placed ones hardest.

    ``1/|P+| sum_{c in P+} log(1 + sum_{i with c} exp(-g [1 + m - cos_ic]+ (cos_ic - (1 - m)))) +
    1/C sum_c log(1 + sum_{i without c} exp(g [cos_ic - O_n]+ (cos_ic - D_n)))``; no gradient runs
    through the weights ``[.]+``. After C. Liu et al., "Deep Hash Remote-Sensing Image Retrieval
    Assisted by Semantic Cues", Remote Sensing 2022, 14(24), 6358, with the sign of the positive
    term corrected. Ours: several labels, and the Circle constants as the default. Embeddings (or
    relaxed codes) and proxies are scaled to unit norm. The loss is 0 with a zero gradient for a
    batch without images.

    Args:
        n_classes: C. Without it, or without ``dim``, the proxies are drawn at the first call.
        dim: Length d of the embeddings or codes.
        scale: g > 0.
        margin: m in 0..1.
        negatives: Where a negative should end. ``circle``: at a cosine of m or below, as Circle
            loss has it (D_n = m, O_n = -m); ``opposite``: opposite the proxy, the authors'
            constants (D_n = -1 + m, O_n = -1 - m).

    Attributes:
        proxies: A parameter ``[C, d]``; the authors train it at 100 times the learning rate.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> loss = DHCL(n_classes=3, dim=8)
    >>> loss(torch.tanh(torch.randn(4, 8)), torch.tensor([0, 1, 1, 2])).item() > 0
    True
    """

    def __init__(
        self,
        n_classes: int | None = None,
        dim: int | None = None,
        *,
        scale: float = 32.0,
        margin: float = 0.25,
        negatives: Negatives = "circle",
    ) -> None:
        super().__init__(n_classes, dim)
        check_range("scale", scale, 0, above=True)
        check_range("margin", margin, 0, 1)
        check_choice("negatives", negatives, ("circle", "opposite"))
        self.scale, self.margin = scale, margin
        self.negatives: Negatives = negatives

    def compute(self, cosine: Tensor, y: Tensor) -> Tensor:
        """Return the loss of cosines to the proxies ``[n, C]`` and multi-hot labels ``[n, C]``."""
        return dhcl_loss(cosine, y, self.scale, self.margin, self.negatives)


def dhcl_loss(
    cosine: Tensor, y: Tensor, scale: float, margin: float, negatives: Negatives
) -> Tensor:
    """Return the loss of :class:`DHCL` for cosines and labels ``[n, C]``."""
    g, m = scale, margin
    shift = -1 if negatives == "opposite" else 0
    attraction = (1 + m - cosine).clamp(min=0).detach()
    repulsion = (cosine - (shift - m)).clamp(min=0).detach()
    return aggregate(-g * attraction * (cosine - (1 - m)), g * repulsion * (cosine - shift - m), y)
