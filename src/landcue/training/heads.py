"""Embedding, hash and label heads: linear maps of the features of a frozen encoder.

They are trained with any loss of :mod:`landcue.losses`; the embedding starts as the centered
principal components.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.statistics import LabelStatistics
from landcue.models.encoder import Outputs
from landcue.models.fitting import fit_space
from landcue.models.space import Space, unit_rows
from landcue.training.config import LossSection
from landcue.training.objective import Objective
from landcue.types import FloatArray


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How heads are trained and judged.

    Attributes:
        dim: Length of the embedding; at most that of the features.
        n_bits: Bits of the code; 0 for none.
        loss: Losses and their weights, as in a training configuration.
        epochs: Passes over the features.
        batch_size: Images per step.
        lr: Largest learning rate of AdamW, with a cosine to zero.
        folds: Of the cross-validation.
        seed: Of folds, order and heads.
    """

    dim: int = 128
    n_bits: int = 64
    loss: LossSection = LossSection()  # pyright: ignore[reportCallIssue]  # noqa: RUF009
    epochs: int = 40
    batch_size: int = 256
    lr: float = 1e-3
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"--folds {self.folds}: cross-validation needs 2 or more")
        if self.epochs < 1 or self.batch_size < 2 or self.lr <= 0:
            raise UsageError("epochs, batch size and learning rate must be positive")


class _Heads(nn.Module):
    """Linear heads over unit-norm features ``[n, F]``."""

    def __init__(self, u: Tensor, options: AdaptOptions, n_labels: int) -> None:
        super().__init__()
        width = u.shape[1]
        self.projection = nn.Linear(width, min(options.dim, width))
        self.hash = nn.Linear(width, options.n_bits)
        self.label = nn.Linear(width, n_labels)
        start = fit_space(
            u.numpy(), dim=min(options.dim, width), n_bits=min(options.n_bits, width), seed=0
        )
        weight, bias = torch.from_numpy(start.weight), torch.from_numpy(start.bias)
        d = self.projection.out_features
        # Scaled so that embeddings have a mean length of 1 and hash values are about 1.
        length = (u @ weight[:, :d] + bias[:d]).norm(dim=1).mean()
        with torch.no_grad():
            self.projection.weight.copy_((weight[:, :d] / length).T)
            self.projection.bias.copy_(bias[:d] / length)
            k = start.n_bits
            self.hash.weight[:k].copy_((weight[:, d:] / length).T * d**0.5)
            self.hash.bias[:k].copy_(bias[d:] / length * d**0.5)
            nn.init.zeros_(self.label.weight)

    def forward(self, u: Tensor) -> Outputs:
        z = F.normalize(self.projection(u), dim=1)
        return Outputs(u, z, torch.tanh(self.hash(u)), self.label(u))


def fit_heads(
    features: FloatArray,
    truth: npt.NDArray[Any],
    label_names: Sequence[str],
    options: AdaptOptions,
    facts: dict[str, Any] | None = None,
) -> Space:
    """Train heads on features ``[n, F]`` with labels ``[n, C]``; the same inputs, the same heads.

    Raises:
        UsageError: Labels or options that the loss refuses, or too few images.
    """
    u = torch.from_numpy(unit_rows(features))
    y = torch.from_numpy(np.ascontiguousarray(truth)).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        heads = _Heads(u, options, y.shape[1])
        statistics = LabelStatistics.from_labels(y)
        objective = Objective(
            options.loss, statistics, heads.projection.out_features, options.n_bits
        )
        groups: list[dict[str, Any]] = [
            {"params": heads.projection.parameters()},
            {"params": heads.hash.parameters(), "lr": 5 * options.lr},
            {"params": heads.label.parameters(), "lr": 10 * options.lr, "weight_decay": 1e-3},
            {"params": objective.parameters(), "lr": 100 * options.lr},
        ]
        train_averaged(
            heads, lambda rows: objective(heads(u[rows]), y[rows])[0], len(u), groups=groups,
            batch_size=options.batch_size, epochs=options.epochs, lr=options.lr, seed=options.seed,
        )  # fmt: skip
    maps = [heads.projection, heads.hash, heads.label]
    weight = torch.cat([m.weight for m in maps]).detach().T
    return Space(
        np.ascontiguousarray(weight.numpy()),
        torch.cat([m.bias for m in maps]).detach().numpy(),
        heads.projection.out_features,
        options.n_bits,
        tuple(label_names),
        facts={"images": len(u), **(facts or {})},
    )


def train_averaged(
    module: nn.Module,
    loss_of: Callable[[npt.NDArray[np.int64]], Tensor],
    n: int,
    *,
    groups: Any,
    batch_size: int,
    epochs: int,
    lr: float,
    seed: int,
) -> None:
    """Train by the loss of batches of n rows; leave the mean of the weights of the last half.

    Raises:
        UsageError: The loss is not finite.
    """
    batch = min(batch_size, n)
    steps = n // batch
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs)
    order = np.random.default_rng(seed)
    mean: dict[str, Tensor] = {}
    averaged = 0
    for epoch in range(epochs):
        rows = order.permutation(n)[: steps * batch]
        for part in rows.reshape(steps, batch):
            loss = loss_of(part)
            if not torch.isfinite(loss):
                raise UsageError(f"the loss became {float(loss)}; lower the learning rate")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch >= epochs // 2:
            averaged += 1
            for name, tensor in module.state_dict().items():
                old = mean.get(name, tensor)
                mean[name] = old + (tensor - old) / averaged
    module.load_state_dict(mean)
