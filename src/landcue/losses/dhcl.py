"""The proxy term of DHCL: Proxy-Anchor's sums with the self-paced weights of Circle loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.pairs import check_choice, check_inputs, full_precision
from landcue.losses.proxies import aggregate, check_proxies, cosines

Negatives = Literal["circle", "opposite"]


@dataclass(frozen=True, slots=True)
class DhclOptions:
    """Options.

    Attributes:
        scale: g > 0.
        margin: m.
        negatives: Where a negative shall end. ``circle``: at a cosine of m or below, as Circle
            loss has it (D_n = m, O_n = -m); ``opposite``: opposite the proxy, the authors'
            constants (D_n = -1 + m, O_n = -1 - m).
    """

    scale: float = 32.0
    margin: float = 0.25
    negatives: Negatives = "circle"

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise UsageError(f"scale must be above 0, not {self.scale}")
        if not 0 <= self.margin <= 1:
            raise UsageError(f"margin must lie in 0..1, not {self.margin}")
        check_choice("negatives", self.negatives, ("circle", "opposite"))


@full_precision
def dhcl_loss(z: Tensor, y: Tensor, proxies: Tensor, options: DhclOptions | None = None) -> Tensor:
    """Pull relaxed codes to the proxies of their labels, the worst placed ones hardest.

    ``1/|P+| sum_{c in P+} log(1 + sum_{i with c} exp(-g [1 + m - cos_ic]+ (cos_ic - (1 - m)))) +
    1/C sum_c log(1 + sum_{i without c} exp(g [cos_ic - O_n]+ (cos_ic - D_n)))``; no gradient runs
    through the weights ``[.]+``. After C. Liu et al., "Deep Hash Remote-Sensing Image Retrieval
    Assisted by Semantic Cues", Remote Sensing 2022, 14(24), 6358, with the sign of the positive
    term corrected. Ours: several labels, and the Circle constants as the default.

    Args:
        z: Embeddings or relaxed codes ``[n, d]``, scaled to unit norm here.
        y: Labels ``[n, C]`` of 0 and 1.
        proxies: ``[C, d]``, scaled to unit norm here.
        options: Scale, margin and constants.

    Returns:
        A scalar; 0 with a zero gradient for a batch without images.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or DhclOptions()
    z, y = check_inputs(z, y)
    check_proxies(z, y, proxies)
    g, m = options.scale, options.margin
    shift = -1 if options.negatives == "opposite" else 0
    cosine = cosines(z, proxies)
    attraction = (1 + m - cosine).clamp(min=0).detach()
    repulsion = (cosine - (shift - m)).clamp(min=0).detach()
    return aggregate(-g * attraction * (cosine - (1 - m)), g * repulsion * (cosine - shift - m), y)
