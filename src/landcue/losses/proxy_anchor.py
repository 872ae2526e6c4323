"""Proxy-Anchor for images with several labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.pairs import check_inputs, full_precision
from landcue.losses.proxies import aggregate, check_proxies, cosines


@dataclass(frozen=True, slots=True)
class ProxyAnchorOptions:
    """Scale ``alpha`` > 0 and ``margin`` of the cosine."""

    alpha: float = 32.0
    margin: float = 0.1

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise UsageError(f"alpha must be above 0, not {self.alpha}")
        if not -1 <= self.margin <= 1:
            raise UsageError(f"margin must lie in -1..1, not {self.margin}")


@full_precision
def proxy_anchor_loss(
    z: Tensor, y: Tensor, proxies: Tensor, options: ProxyAnchorOptions | None = None
) -> Tensor:
    """Pull the images of a label to its proxy and push all others away from it.

    ``1/|P+| sum_{c in P+} log(1 + sum_{i with c} exp(-alpha (cos_ic - margin))) + 1/C sum_c log(1 +
    sum_{i without c} exp(alpha (cos_ic + margin)))``, S. Kim et al., "Proxy Anchor Loss for Deep
    Metric Learning", CVPR 2020. Ours: an image is a positive for the proxy of each of its labels,
    and one without labels a negative for all.

    Args:
        z: Embeddings ``[n, d]``, scaled to unit norm here.
        y: Labels ``[n, C]`` of 0 and 1.
        proxies: ``[C, d]``, scaled to unit norm here.
        options: Scale and margin.

    Returns:
        A scalar; 0 with a zero gradient for a batch without images.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or ProxyAnchorOptions()
    z, y = check_inputs(z, y)
    check_proxies(z, y, proxies)
    cosine = cosines(z, proxies)
    pull = -options.alpha * (cosine - options.margin)
    push = options.alpha * (cosine + options.margin)
    return aggregate(pull, push, y)
