"""Batch normalization over the joined batch of all processes, on any device."""

from __future__ import annotations

import functools
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]


def join_batch_norm(model: nn.Module) -> None:
    """Let every batch normalization of a model take its statistics over all processes.

    Layers stay the same modules, with the same parameters and an activation of their own where
    timm gave them one; ``torch.nn.SyncBatchNorm`` would lose that, and knows no CPU. Every process
    must run the same layers on equally large batches. In evaluation mode nothing changes.
    """
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            joined = functools.partial(_forward, layer, layer.forward)
            layer.forward = joined  # pyright: ignore[reportAttributeAccessIssue]


def _forward(layer: Any, alone: Any, x: Tensor) -> Tensor:
    if not layer.training:
        return alone(x)
    with torch.autocast(x.device.type, enabled=False):
        exact = x if x.dtype == torch.float64 else x.float()
        y = _normalize(layer, exact).to(x.dtype)
    for name in ("drop", "act"):  # timm's layers with an activation
        if hasattr(layer, name):
            y = getattr(layer, name)(y)
    return y


def _normalize(layer: Any, x: Tensor) -> Tensor:
    """Normalize ``[n, C, ...]`` by mean and variance of the joined batch."""
    size = dist.get_world_size()
    dims = [d for d in range(x.ndim) if d != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean = cast(Tensor, _Sum.apply(x.mean(dims))) / size
    centered = x - mean.view(shape)
    variance = cast(Tensor, _Sum.apply(centered.square().mean(dims))) / size
    if layer.track_running_stats:
        count = x.numel() // x.shape[1] * size
        with torch.no_grad():
            layer.num_batches_tracked.add_(1)
            share = layer.momentum
            if share is None:
                share = 1 / float(layer.num_batches_tracked)
            layer.running_mean.lerp_(mean, share)
            layer.running_var.lerp_(variance * (count / max(count - 1, 1)), share)
    y = centered * (variance + layer.eps).rsqrt().view(shape)
    if layer.affine:
        y = y * layer.weight.view(shape) + layer.bias.view(shape)
    return y


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(_ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(_ctx: Any, outer: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = outer.clone()
        dist.all_reduce(total)
        return total
