"""The training objective: a weighted sum of losses over the heads."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from landcue.losses.classification import label_loss
from landcue.losses.quantization import quantization_loss
from landcue.losses.registry import create_loss
from landcue.losses.statistics import LabelStatistics
from landcue.models.encoder import Outputs
from landcue.training.config import LossSection


class Objective(nn.Module):
    """Metric loss on embedding and hash, quantization on hash, classification on labels.

    The hash head learns from the same metric loss, on its relaxed codes scaled to unit norm, so
    that Hamming order follows the same notion of similarity. Terms of absent heads and of weight
    0 are left out. Each of the two spaces has a metric loss of its own, whose proxies, if it
    learns any, are this module's parameters.
    """

    def __init__(
        self, section: LossSection, statistics: LabelStatistics, dim: int, n_bits: int
    ) -> None:
        """Make the losses for embeddings ``[n, dim]`` and relaxed codes ``[n, n_bits]``."""
        super().__init__()
        self._weights = section
        used = {"embedding": (section.embedding, dim), "hash": (section.hash, n_bits)}
        self.metric = nn.ModuleDict(
            {
                space: create_loss(section.name, section.options, statistics, length)
                for space, (weight, length) in used.items()
                if weight and length
            }
        )

    def forward(self, out: Outputs, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and the unweighted terms by name."""
        weights = self._weights
        terms: dict[str, tuple[float, Tensor]] = {}
        if "embedding" in self.metric:
            terms["embedding"] = weights.embedding, self.metric["embedding"](out.embedding, y)
        if "hash" in self.metric:
            codes = F.normalize(out.hash, dim=1)
            terms["hash"] = weights.hash, self.metric["hash"](codes, y)
        if out.hash.shape[1] and weights.quantization:
            terms["quantization"] = weights.quantization, quantization_loss(out.hash)
        if out.logits.shape[1] and weights.label:
            terms["label"] = weights.label, label_loss(out.logits, y)
        total = out.features.new_zeros(())
        for weight, value in terms.values():
            total = total + weight * value
        return total, {name: value.detach() for name, (_, value) in terms.items()}
