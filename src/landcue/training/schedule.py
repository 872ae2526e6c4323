"""Learning rate over a run, and the optimizer it drives."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from landcue.models.encoder import NeuralEncoder
from landcue.training.config import OptimizerSection

PROXY_RATE = 100
"""How much faster than the backbone the proxies of a loss learn, as in Proxy-Anchor and DHCL."""


def lr_factor(step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the factor of the base rate at a step: linear warm-up, then a cosine to zero."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    done = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def create_optimizer(
    model: NeuralEncoder,
    options: OptimizerSection,
    loss_parameters: Iterable[nn.Parameter] = (),
) -> torch.optim.AdamW:
    """Make AdamW with one rate for the backbone and one for the heads.

    Biases and normalization weights are not decayed. ``loss_parameters``, the proxies of a loss,
    learn at ``proxy_lr``, by default 100 times as fast as the backbone, undecayed since only their
    direction counts. Each group keeps its base rate under ``base_lr``.
    """
    groups: list[dict[str, object]] = []
    backbone = {id(parameter) for parameter in model.backbone.parameters()}
    for is_backbone, lr in ((True, options.lr), (False, options.head_lr)):
        members = [
            p for p in model.parameters() if p.requires_grad and (id(p) in backbone) == is_backbone
        ]
        for decayed in (True, False):
            chosen: list[nn.Parameter] = [p for p in members if (p.ndim > 1) == decayed]
            if chosen:
                decay = options.weight_decay if decayed else 0.0
                groups.append({"params": chosen, "lr": lr, "base_lr": lr, "weight_decay": decay})
    if learned := list(loss_parameters):
        lr = options.proxy_lr or options.lr * PROXY_RATE
        groups.append({"params": learned, "lr": lr, "base_lr": lr, "weight_decay": 0.0})
    return torch.optim.AdamW(groups)


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to ``factor`` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
