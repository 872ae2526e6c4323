"""MultiSupCon: positives are images whose label sets overlap enough, weighted by the overlap."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.pairs import (
    check_inputs,
    check_temperature,
    clear_self,
    contrast,
    full_precision,
    jaccard,
    mean_over_anchors,
    shared_labels,
)


@dataclass(frozen=True, slots=True)
class MultiSupConOptions:
    """Temperature tau > 0, and the least overlap J of a positive, ``threshold`` in 0..1."""

    temperature: float = 0.1
    threshold: float = 0.5

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold must lie in 0..1, not {self.threshold}")


@full_precision
def multisupcon_loss(z: Tensor, y: Tensor, options: MultiSupConOptions | None = None) -> Tensor:
    """Pull images together by the Jaccard overlap of their labels.

    ``L = mean over anchors of 1/|N(i)| sum_{p in N(i)} J_ip (log sum_{a != i} exp(s_ia / tau) -
    s_ip / tau)`` with ``N(i) = {p != i: J_ip >= c}``, after "Contrastive Learning for Multi-Label
    Classification" (MultiSupCon). Ours: the mean in place of a sum over anchors, and pairs without
    any common label are never positives, also for c = 0 or for two images without labels.

    Args:
        z: Unit-norm embeddings ``[n, d]``.
        y: Labels ``[n, C]`` of 0 and 1.
        options: Temperature and the threshold c.

    Returns:
        A scalar; 0 with a zero gradient when no image has a positive.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or MultiSupConOptions()
    z, y = check_inputs(z, y)

    def term(rows: slice, z: Tensor) -> tuple[Tensor, Tensor]:
        overlap = clear_self(jaccard(y[rows], y, shared_labels(y[rows], y)), rows)
        # A threshold such as 0.2 must include an overlap of 1/5 in either precision.
        match = (overlap >= options.threshold - 1e-6) & (overlap > 0)
        n_positives = match.sum(1)
        loss = contrast(z, rows, overlap * match, options.temperature)
        return loss / n_positives.clamp(min=1), n_positives > 0

    return mean_over_anchors(term, z)
