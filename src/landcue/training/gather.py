"""The batch of all processes, for losses that compare every image with every other."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from landcue.errors import UsageError


def gather_batch(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Join the rows of all processes, in order of rank; without several processes do nothing.

    Every process must call this with the same tensors, and then compute **the same loss of the
    whole joined batch**. With R processes and the batch ``Z = [z_1 .. z_R]`` the gradient of one
    process would be ``sum_r dL/dz_r dz_r/dw``. Process r holds only its own term of that sum, and
    ``DistributedDataParallel`` divides the sum of all processes' gradients by R. So the gradient
    that goes back into ``z_r`` is R times its rows of ``dL/dZ``; as all processes know the whole
    of ``dL/dZ``, nothing is sent in the backward pass. The same factor makes a term that is a
    mean over rows, such as the label loss, right.

    Parameters of the loss itself, such as proxies, see the whole batch in every process: their
    gradient is already that of the joined batch, and averaging equal gradients, as
    ``DistributedDataParallel`` does, changes nothing. They must start equal in all processes:
    wrap the loss in ``DistributedDataParallel`` too, or call :func:`broadcast_parameters`.

    Args:
        tensors: ``[b, ...]`` each, with one number of rows b in all processes. Gradients flow
            through those that need one; labels come without.

    Returns:
        ``[R * b, ...]`` each.

    Raises:
        UsageError: The processes hold different numbers of rows; all of them raise it.
    """
    if not _several() or not tensors:
        return tensors
    _check_rows(tensors[0])
    return tuple(cast(Tensor, _Gather.apply(tensor)) for tensor in tensors)


def broadcast_parameters(module: torch.nn.Module) -> None:
    """Give all processes the parameters of the first one; every process must call this."""
    if _several():
        for parameter in module.parameters():
            dist.broadcast(parameter.data, src=0)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        start = dist.get_rank() * ctx.rows
        return outer[start : start + ctx.rows] * dist.get_world_size()


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _check_rows(tensor: Tensor) -> None:
    own = torch.tensor([len(tensor)], device=tensor.device)
    sizes = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, own)
    rows = [int(size) for size in sizes]
    if len(set(rows)) > 1:
        raise UsageError(
            f"the processes hold batches of {', '.join(map(str, rows))} images; losses over the "
            "joined batch need equal ones: make the batch size a multiple of their number and "
            "drop the last, smaller batch"
        )
