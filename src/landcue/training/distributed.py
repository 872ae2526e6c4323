"""The processes that train one model together: who they are, and how they stay of one mind."""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from landcue.errors import LandcueError, ModelError, UsageError
from landcue.training.gather import broadcast_parameters
from landcue.training.joined_norm import join_batch_norm

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
    def of_environment() -> Team:
        """Read what ``torchrun`` tells its processes; without it, a process is alone.

        A process group that already exists is taken as it is.

        Raises:
            UsageError: Variables are missing or no numbers, or there are too few GPUs.
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
        """Whether this is the process that validates, writes and speaks."""
        return self.rank == 0

    @contextlib.contextmanager
    def connected(self) -> Generator[None]:
        """Connect the processes, by nccl between GPUs and gloo between CPUs.

        Raises:
            ModelError: The first process cannot be reached, or another one was lost.
        """
        if self.size == 1 or dist.is_initialized():
            yield
            return
        self._connect()
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

    def _connect(self) -> None:
        backend = "gloo"
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
            backend = "cpu:gloo,cuda:nccl"
        try:
            store, rank, size = next(iter(rendezvous("env://", timeout=_CONNECT)))
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
            dist.broadcast_object_list([None, self._told(error)], src=0)
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
            self._gather(self._told(error))
            raise
        failed = [error for error in self._gather(None) if error is not None]
        if failed:
            raise failed[0]
        return result

    def agree(self, what: str, value: object, fix: str) -> None:
        """Check that a value is the same in every process.

        Raises:
            UsageError: It is not; every process raises it.
        """
        if self.size == 1:
            return
        values = self._gather(value)
        other = [rank for rank, held in enumerate(values) if held != values[0]]
        if other:
            raise UsageError(
                f"{what} of process {other[0]} {_difference(values[0], values[other[0]])} from "
                f"that of process 0; {fix}"
            )

    def wrap(self, model: nn.Module, objective: nn.Module, unused: list[nn.Module]) -> nn.Module:
        """Return the model as it is to be called in training: alone, itself.

        The processes start from the weights and proxies of the first one; see
        :func:`landcue.training.gather.gather_batch` for their gradients.

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

    def _gather(self, value: _T) -> list[_T]:
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def _told(self, error: Exception) -> LandcueError:
        """Return an error as the other processes are told of it."""
        if isinstance(error, LandcueError):
            return error if self.is_first else type(error)(f"process {self.rank}: {error}")
        return ModelError(f"process {self.rank} failed: {type(error).__name__}: {error}")


def _fresh(store: Store, rank: int, size: int) -> Store:
    """Return a part of the store that belongs to this start of the processes alone.

    torchrun's store outlives a restart, with the addresses of processes that are gone. So the
    first process names a part of the store to all that call it now, and waits until all heard.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"landcue/call/{rank}", own)
        name = store.get(f"landcue/answer/{own}").decode()
        store.set(f"landcue/heard/{name}/{rank}", "")
        return PrefixStore(name, store)
    missing, deadline = list(range(1, size)), time.monotonic() + _CONNECT.total_seconds()
    while missing:
        for other in missing:
            if store.check([call := f"landcue/call/{other}"]):
                store.set(f"landcue/answer/{store.get(call).decode()}", own)
        missing = [r for r in missing if not store.check([f"landcue/heard/{own}/{r}"])]
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
