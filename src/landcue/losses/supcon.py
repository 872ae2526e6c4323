"""Supervised contrastive loss for multi-label images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.pairs import (
    check_inputs,
    check_temperature,
    clear_self,
    contrast,
    full_precision,
    mean_over_anchors,
    shared_labels,
)

Positives = Literal["any", "all"]


@dataclass(frozen=True, slots=True)
class SupConOptions:
    """Temperature tau > 0, and which images are positives: ``any`` shared label, or ``all``."""

    temperature: float = 0.1
    positives: Positives = "any"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.positives not in ("any", "all"):
            raise UsageError(f"positives must be 'any' or 'all', not {self.positives!r}")


@full_precision
def supcon_loss(z: Tensor, y: Tensor, options: SupConOptions | None = None) -> Tensor:
    """Pull images with common labels together.

    ``L = mean over anchors of mean over p in P(i) of (log sum_{a != i} exp(s_ia / tau) - s_ip /
    tau)``, the ``L_out`` form of P. Khosla et al., "Supervised Contrastive Learning", NeurIPS
    2020, with P(i) read for several labels.

    Args:
        z: Unit-norm embeddings ``[n, d]``.
        y: Labels ``[n, C]`` of 0 and 1.
        options: Temperature and positives.  ``any``: at least one shared label; ``all``: the same
            non-empty label set.

    Returns:
        A scalar; 0 with a zero gradient when no image has a positive.

    Raises:
        UsageError: Wrong shapes, or labels other than 0 and 1.
    """
    options = options or SupConOptions()
    z, y = check_inputs(z, y)
    size = y.sum(1)

    def term(rows: slice, z: Tensor) -> tuple[Tensor, Tensor]:
        shared = clear_self(shared_labels(y[rows], y), rows)
        if options.positives == "all":
            match = (shared > 0) & (shared == size[rows, None]) & (shared == size[None, :])
            positive = match.to(shared)
        else:
            positive = shared.clamp_(max=1)
        n_positives = positive.sum(1)
        loss = contrast(z, rows, positive, options.temperature) / n_positives.clamp(min=1)
        return loss, n_positives > 0

    return mean_over_anchors(term, z)
