"""The training objective: a weighted sum of losses over the heads."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.hash_terms import BitBalance, Quantization
from landcue.losses.registry import NONE, create_classification, create_loss
from landcue.losses.statistics import LabelStatistics
from landcue.models.encoder import NeuralEncoder, Outputs
from landcue.training.config import LossSection, TrainingConfig
from landcue.training.distributed import gather_batch


class Objective(nn.Module):
    """Metric loss on embedding and hash, quantization and balance on hash, labels classified.

    The hash head learns from a metric loss on its relaxed codes scaled to unit norm, by default
    the embedding's, so that Hamming order follows the same notion of similarity. Terms of absent
    heads and of weight 0 are left out, and so are quantization and balance of a hash head that no
    metric loss trains. Each of the two spaces has a metric loss of its own, whose proxies, if it
    learns any, are this module's parameters.

    With several processes every term is that of their joined batch; see
    :func:`landcue.training.distributed.gather_batch`. The statistics must be those of the whole
    split.
    """

    def __init__(
        self, section: LossSection, statistics: LabelStatistics, dim: int, n_bits: int
    ) -> None:
        """Make the losses for embeddings ``[n, dim]`` and relaxed codes ``[n, n_bits]``."""
        super().__init__()
        self._weights = section
        self._classify = create_classification(
            section.classification, section.classification_options, statistics
        )
        self._quantize, self._balance = Quantization(), BitBalance()
        self.metric = nn.ModuleDict()
        for space, weight, length, (name, options) in (
            ("embedding", section.embedding, dim, (section.name, section.options)),
            ("hash", section.hash, n_bits, _of_hash(section)),
        ):
            if name == NONE and options:
                raise UsageError(f"loss none has no option {next(iter(options))!r} (it has none)")
            if name != NONE and weight and length:
                self.metric[space] = create_loss(name, options, statistics, length)

    @property
    def learns_labels(self) -> bool:
        """Whether the label head, if there is one, is trained."""
        return self._weights.label > 0

    def forward(self, out: Outputs, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum and the unweighted terms by name.

        A diverged model, whose outputs are not finite, has the loss nan and no terms.
        """
        weights = self._weights
        embedding, codes, logits, y = gather_batch(out.embedding, out.hash, out.logits, y)
        outputs = (embedding, codes, logits)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in outputs):
            return sum((t.sum() for t in outputs), y.new_zeros(())) * float("nan"), {}
        terms: dict[str, tuple[float, Tensor]] = {}
        if "embedding" in self.metric:
            terms["embedding"] = weights.embedding, self.metric["embedding"](embedding, y)
        if "hash" in self.metric:
            unit = F.normalize(codes, dim=1)
            terms["hash"] = weights.hash, self.metric["hash"](unit, y)
            if weights.quantization:
                terms["quantization"] = weights.quantization, self._quantize(codes)
            if weights.balance:
                terms["balance"] = weights.balance, self._balance(codes)
        if logits.shape[1] and weights.label:
            terms["label"] = weights.label, self._classify(logits, y)
        if not terms:
            raise UsageError(
                "nothing is left to learn: without a metric loss (loss.name none) keep "
                "model.label_head and loss.label"
            )
        total = out.features.new_zeros(())
        for weight, value in terms.values():
            total = total + weight * value
        return total, {name: value.detach() for name, (_, value) in terms.items()}


def unused_heads(model: NeuralEncoder, objective: Objective) -> list[nn.Module]:
    """Return the heads of a model that no term of an objective takes a gradient from."""
    used = {
        model.projection: "embedding" in objective.metric,
        model.hash: "hash" in objective.metric,
        model.label: objective.learns_labels,
    }
    return [head for head, learns in used.items() if not learns]


def _of_hash(section: LossSection) -> tuple[str, dict[str, Any]]:
    """Return name and options of the hash head's loss: the embedding's where none are given."""
    name = section.hash_name or section.name
    if section.hash_options is not None:
        return name, section.hash_options
    return name, section.options if name == section.name else {}


def describe_losses(config: TrainingConfig) -> str:
    """Return names and options of the metric losses, those of both heads where they differ."""
    section = config.loss
    used: dict[str, tuple[str, dict[str, Any]]] = {}
    if section.embedding:
        used["embedding"] = section.name, section.options
    if section.hash and config.model.n_bits:
        used["hash"] = _of_hash(section)
    said = {head: f"{name} {options or ''}".strip() for head, (name, options) in used.items()}
    if not said:
        return NONE
    if len(set(said.values())) == 1:
        return next(iter(said.values()))
    return "; ".join(f"{text} ({head})" for head, text in said.items())


def check_losses(config: TrainingConfig) -> None:
    """Make the losses of a configuration once, so that mistakes show before images are read."""
    model = config.model
    Objective(config.loss, LabelStatistics.from_labels(torch.eye(2)), model.dim, model.n_bits)
