"""Training in several processes: their roles, shared errors, joined batches and normalization."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, Store
from torch.autograd.function import once_differentiable
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]
from torch.nn.parallel import DistributedDataParallel

from landcue.errors import LandcueError, ModelError, UsageError

_CONNECT = timedelta(minutes=5)
_WAIT = timedelta(hours=1)  # the others wait while the first one validates
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Team:
    """The processes of a run. Alone, every method just does its work.

    Attributes:
        rank: This process, 0 to ``size - 1``.
        size: Number of processes.
        device: Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @staticmethod
    def from_environment() -> Team:
        """Read the variables that ``torchrun`` sets; without them, a process is alone.

        A process group that already exists is taken as it is.
        """
        if dist.is_available() and dist.is_initialized():
            return Team._at(dist.get_rank(), dist.get_world_size())
        size = _number("WORLD_SIZE", 1)
        if size == 1:
            return Team._at(0, 1)
        needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in needed if not os.environ.get(name)]:
            raise UsageError(
                f"WORLD_SIZE is {size}, but {' and '.join(missing)} not set; start with torchrun, "
                "or unset WORLD_SIZE to train in one process"
            )
        rank = _number("RANK", 0)
        if not 0 <= rank < size:
            raise UsageError(f"RANK is {rank}, but WORLD_SIZE {size}; use 0 to {size - 1}")
        return Team._at(rank, size)

    @staticmethod
    def _at(rank: int, size: int) -> Team:
        if not torch.cuda.is_available():
            return Team(rank, size, torch.device("cpu"))
        if size == 1:
            return Team(rank, size, torch.device("cuda"))
        gpus = torch.cuda.device_count()
        local = _number("LOCAL_RANK", rank % gpus)
        if not 0 <= local < gpus:
            raise UsageError(
                f"process {rank} is number {local} on its node, which has {gpus} GPUs; start at "
                f"most {gpus} there (--nproc-per-node {gpus})"
            )
        return Team(rank, size, torch.device("cuda", local))

    @property
    def is_first(self) -> bool:
        """Whether this is the process that validates, writes and prints."""
        return self.rank == 0

    @contextlib.contextmanager
    def connected(self, timeout: timedelta = _CONNECT) -> Generator[None]:
        """Connect the processes, by nccl between GPUs and gloo between CPUs.

        Args:
            timeout: Seconds to wait for the first process.
        """
        if self.size == 1 or dist.is_initialized():
            yield
            return
        self._connect(timeout)
        try:
            yield
        except LandcueError:  # all processes raise it
            dist.destroy_process_group()
            raise
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise ModelError(
                f"process {self.rank} lost another process ({_brief(error)}); unless torchrun "
                "restarts them, start the same command again: it goes on after the last finished "
                "epoch"
            ) from error
        dist.destroy_process_group()

    def _connect(self, timeout: timedelta) -> None:
        backend = "gloo"
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            backend = "cpu:gloo,cuda:nccl"
        try:
            store, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
            store = _fresh(store, rank, size)
            store.set_timeout(_WAIT)
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_WAIT)
        except (RuntimeError, ValueError) as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise ModelError(
                f"process {self.rank} of {self.size} cannot meet the others at {where} "
                f"({_brief(error)}); check that MASTER_ADDR, MASTER_PORT and WORLD_SIZE "
                "are the same everywhere"
            ) from error

    def first(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Work in the first process only; all wait, and return its result or raise its error."""
        if self.size == 1:
            return work(*args, **kwargs)
        answer: list[Any] = [None, None]
        try:
            if self.is_first:
                answer[0] = work(*args, **kwargs)
        except Exception as error:
            dist.broadcast_object_list([None, self._as_shared(error)], src=0)
            raise
        dist.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def each(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Work in every process; if one fails, all raise an error."""
        if self.size == 1:
            return work(*args, **kwargs)
        try:
            result = work(*args, **kwargs)
        except Exception as error:
            self.gather(self._as_shared(error))
            raise
        failed = [error for error in self.gather(None) if error is not None]
        if failed:
            raise failed[0]
        return result

    def agree(self, what: str, value: object, fix: str) -> None:
        """Check that a value is the same in every process."""
        if self.size == 1:
            return
        values = self.gather(value)
        other = [rank for rank, held in enumerate(values) if held != values[0]]
        if other:
            raise UsageError(
                f"{what} of process {other[0]} {_difference(values[0], values[other[0]])} from "
                f"that of process 0; {fix}"
            )

    def wrap(self, model: nn.Module, objective: nn.Module, unused: list[nn.Module]) -> nn.Module:
        """Return the model as it is to be called in training: alone, itself.

        The processes start from the weights and proxies of the first one; see
        :func:`landcue.training.distributed.gather_batch` for their gradients.

        Args:
            model: Its batch normalization is made to see the joined batch.
            objective: Its parameters are made equal.
            unused: Parts of the model that the objective takes no gradient from.
        """
        if self.size == 1:
            return model
        for part in unused:  # DistributedDataParallel would wait for their gradients
            part.requires_grad_(False)
        join_batch_norm(model)
        broadcast_parameters(objective)
        ids = [self.device.index] if self.device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # a new name for broadcast_buffers
            return DistributedDataParallel(model, device_ids=ids, broadcast_buffers=False)

    def gather(self, value: _T) -> list[_T]:
        """Return the value of every process, in order of rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def _as_shared(self, error: Exception) -> LandcueError:
        """Return an error as the other processes raise it."""
        if isinstance(error, LandcueError):
            return error if self.is_first else type(error)(f"process {self.rank}: {error}")
        return ModelError(f"process {self.rank} failed: {type(error).__name__}: {error}")


def _fresh(store: Store, rank: int, size: int) -> Store:
    """Return a part of the store that belongs to this start of the processes alone.

    torchrun's store outlives a restart, with the addresses of processes that are gone. So the
    first process names a new part of the store to all that request one now, and waits until all
    of them have received it.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"landcue/request/{rank}", own)
        name = store.get(f"landcue/answer/{own}").decode()
        store.set(f"landcue/received/{name}/{rank}", "")
        return PrefixStore(name, store)
    missing, deadline = list(range(1, size)), time.monotonic() + _CONNECT.total_seconds()
    while missing:
        for other in missing:
            if store.check([request := f"landcue/request/{other}"]):
                store.set(f"landcue/answer/{store.get(request).decode()}", own)
        missing = [r for r in missing if not store.check([f"landcue/received/{own}/{r}"])]
        if missing and time.monotonic() > deadline:
            raise RuntimeError(f"process {missing[0]} did not come")
        time.sleep(0.02)
    return PrefixStore(own, store)


def _brief(error: Exception) -> str:
    """Return the first sentence of an error, without the place in torch's own code."""
    return re.sub(r"^\[[^]]*\]\s*", "", str(error).splitlines()[0]).split(". ")[0]


def _number(name: str, default: int) -> int:
    text = os.environ.get(name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"{name} must be a number, not {text!r}; start with torchrun") from None


def _difference(first: object, other: object) -> str:
    if isinstance(first, dict) and isinstance(other, dict):
        keys = sorted(
            str(key) for key in first.keys() | other.keys() if first.get(key) != other.get(key)
        )
        return f"differs in {', '.join(keys)}"
    return f"({other}) differs"


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
    """
    if not _several() or not tensors:
        return tensors
    _check_rows(tensors[0])
    return tuple(cast("Tensor", _Gather.apply(tensor)) for tensor in tensors)


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
    mean = cast("Tensor", _Sum.apply(x.mean(dims))) / size
    centered = x - mean.view(shape)
    variance = cast("Tensor", _Sum.apply(centered.square().mean(dims))) / size
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
