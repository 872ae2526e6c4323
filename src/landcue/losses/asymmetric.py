"""Asymmetric loss: label classification where absent labels far outnumber present ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from landcue.errors import UsageError
from landcue.losses.pairs import full_precision


@dataclass(frozen=True, slots=True)
class AsymmetricOptions:
    """Options.

    Attributes:
        gamma_positive: Focus on hard present labels: 0, or at least 1.
        gamma_negative: Focus on hard absent labels: 0, or at least 1.
        clip: m in 0..1; absent labels with a probability below m count nothing.
    """

    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    clip: float = 0.05

    def __post_init__(self) -> None:
        for name in ("gamma_positive", "gamma_negative"):
            gamma = getattr(self, name)
            # Between 0 and 1 the focus has no finite slope where a probability saturates.
            if not (gamma == 0 or gamma >= 1):
                raise UsageError(f"{name} must be 0 or at least 1, not {gamma}")
        if not 0 <= self.clip < 1:
            raise UsageError(f"clip must lie in 0..1 (1 excluded), not {self.clip}")


@full_precision
def asymmetric_loss(logits: Tensor, y: Tensor, options: AsymmetricOptions | None = None) -> Tensor:
    """Classify labels, with less weight on the absent ones that are easy.

    Mean over images and labels of ``-(1 - p)^g+ log p`` for present and ``-q^g- log(1 - q)`` for
    absent labels, ``q = max(p - m, 0)``: T. Ridnik et al., "Asymmetric Loss For Multi-Label
    Classification", ICCV 2021, who sum where we average. Both gammas and the clip at 0 give binary
    cross-entropy.

    Args:
        logits: ``[n, C]``, any float type; computed in float32 (float64 stays).
        y: Labels ``[n, C]`` of 0 and 1.
        options: Focus and clip.

    Raises:
        UsageError: The shapes differ.
    """
    options = options or AsymmetricOptions()
    if logits.shape != y.shape:
        raise UsageError(f"logits {list(logits.shape)} and labels {list(y.shape)} differ in shape")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    y = y.to(logits.dtype)
    absence = torch.sigmoid(-logits)
    present = -absence.pow(options.gamma_positive) * F.logsigmoid(logits)
    if options.clip:
        kept = (absence + options.clip).clamp(max=1)  # 1 - q
        log_absent = torch.log(kept)
    else:
        kept, log_absent = absence, F.logsigmoid(-logits)
    absent = -(1 - kept).pow(options.gamma_negative) * log_absent
    return (y * present + (1 - y) * absent).mean()
