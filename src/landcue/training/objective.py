"""The training objective: a weighted sum of losses over the heads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from landcue.losses.classification import label_loss
from landcue.losses.quantization import quantization_loss
from landcue.losses.registry import create_loss
from landcue.losses.statistics import LabelStatistics
from landcue.models.encoder import Outputs
from landcue.training.config import LossSection


class Objective:
    """Metric loss on embedding and hash, quantization on hash, classification on labels.

    The hash head learns from the same metric loss, on its relaxed codes scaled to unit norm, so
    that Hamming order follows the same notion of similarity. Terms of absent heads and of weight
    0 are left out.
    """

    def __init__(self, section: LossSection, statistics: LabelStatistics) -> None:
        self._weights = section
        self._pair_loss = create_loss(section.name, section.options, statistics)

    def __call__(self, out: Outputs, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and the unweighted terms by name."""
        weights = self._weights
        terms: dict[str, tuple[float, Tensor]] = {}
        if weights.embedding:
            terms["embedding"] = weights.embedding, self._pair_loss(out.embedding, y)
        if out.hash.shape[1] and weights.hash:
            terms["hash"] = weights.hash, self._pair_loss(F.normalize(out.hash, dim=1), y)
        if out.hash.shape[1] and weights.quantization:
            terms["quantization"] = weights.quantization, quantization_loss(out.hash)
        if out.logits.shape[1] and weights.label:
            terms["label"] = weights.label, label_loss(out.logits, y)
        total = out.features.new_zeros(())
        for weight, value in terms.values():
            total = total + weight * value
        return total, {name: value.detach() for name, (_, value) in terms.items()}
