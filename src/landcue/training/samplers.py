"""Batch samplers: which images form a training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from landcue.errors import DataError, UsageError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shares:
    """The size of an epoch, and this process's part of it.

    Attributes:
        n_images: Images of the training split, M.
        batch: Images per batch of all processes together, B.
        rank: This process.
        world_size: Number of processes.
    """

    n_images: int
    batch: int
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        n, batch, world = self.n_images, self.batch, self.world_size
        if not 1 <= batch <= n:
            raise UsageError(f"a batch of {batch} from {n} images; choose 1 to {n}")
        if not 0 <= self.rank < world:
            raise UsageError(f"rank {self.rank} of {world} processes; choose 0 to {world - 1}")
        if batch % world:
            raise UsageError(
                f"{world} processes cannot share a batch of {batch} equally; make "
                f"optimizer.batch_size a multiple of {world}"
            )

    @property
    def n_batches(self) -> int:
        """Batches per epoch, M // B, the same for every process."""
        return self.n_images // self.batch

    def cut(self, rows: npt.ArrayLike) -> Rows:
        """Return this process's rows of a batch, ascending, int64 ``[B / world_size]``.

        These are every ``world_size``-th of the batch's sorted rows, from ``rank`` on.
        """
        return np.sort(np.asarray(rows, np.int64))[self.rank :: self.world_size]


class BatchSampler(Protocol):
    """Yields the batches of an epoch; what it yields follows from its seed and the epoch alone."""

    def __len__(self) -> int:
        """Batches per epoch, the same for every epoch and process."""
        ...

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield this process's image rows of every batch, ascending, int64."""
        ...


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed, 0 to 2^32 - 1, that everything random in an epoch follows from."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class Shuffle:
    """Draw every image once per epoch, in random order; the remainder below a batch is left out."""

    def __init__(self, shares: Shares, seed: int) -> None:
        self.shares, self.seed = shares, seed

    def __len__(self) -> int:
        return self.shares.n_batches

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield this process's image rows of every batch, ascending, int64."""
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, epoch))
        order = torch.randperm(self.shares.n_images, generator=generator).numpy()
        for batch in range(len(self)):
            yield self.shares.cut(order[batch * self.shares.batch :][: self.shares.batch])


class ClassBalanced:
    """P classes x K different images per batch, the classes and their images in turn.

    Within an epoch the numbers of batches of two classes differ by at most one, and so do the
    draws of two images of one class. Images of small classes are drawn more often than others.

    Args:
        classes: The class of every image, int ``[M]``.
        shares: Batch size P x K and processes; the batch of all processes together is balanced.
        seed: Epoch e follows from ``(seed, e)`` alone.
        per_class: Images per class and batch, K.
    """

    def __init__(
        self, classes: npt.NDArray[np.integer], shares: Shares, seed: int, *, per_class: int = 4
    ) -> None:
        self.shares, self.seed, self.per_class = shares, seed, per_class
        names, counts = np.unique(classes, return_counts=True)
        if per_class < 1 or shares.batch % per_class:
            raise UsageError(
                f"a batch of {shares.batch} is no multiple of sampler.per_class {per_class}; "
                "change one of them"
            )
        if counts.min() < per_class:
            raise UsageError(
                f"sampler.per_class is {per_class}, but a class has only {counts.min()} "
                f"training images; lower it to {counts.min()} or use sampler.name label_aware"
            )
        self.n_classes = shares.batch // per_class
        if len(names) < self.n_classes:
            raise UsageError(
                f"a batch of {shares.batch} needs {self.n_classes} classes of {per_class} images, "
                f"but there are {len(names)}; raise sampler.per_class or lower "
                "optimizer.batch_size"
            )
        self._images = [np.flatnonzero(classes == name) for name in names]

    def __len__(self) -> int:
        return self.shares.n_batches

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield this process's image rows of every batch, ascending, int64."""
        rng = np.random.default_rng([self.seed, epoch])
        classes = _in_turn(np.arange(len(self._images)), self.n_classes, rng)
        images = [_in_turn(rows, self.per_class, rng) for rows in self._images]
        for _ in range(len(self)):
            yield self.shares.cut(np.concatenate([next(images[c]) for c in next(classes)]))


def _in_turn(items: Rows, n: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Yield n different items at a time, all of them once before any is repeated."""
    deck: Rows = rng.permutation(items)
    while True:
        if len(deck) < n:
            # The last of this round, topped up with others from the next one.
            others = rng.permutation(np.setdiff1d(items, deck))[: n - len(deck)]
            yield np.concatenate([deck, others])
            deck = rng.permutation(np.setdiff1d(items, others))
        else:
            yield deck[:n]
            deck = deck[n:]


def classes_of(labels: npt.ArrayLike, groups: Sequence[str | None]) -> Rows:
    """Return each image's class, int64 ``[M]``: its only label, or else its group."""
    hot = np.asarray(labels, np.bool_)
    if (hot.sum(1) == 1).all():
        return hot.argmax(1).astype(np.int64)
    known = [group for group in groups if group is not None]
    if len(known) < len(hot):
        raise DataError(
            "class_balanced needs one label per image, or a group column; use sampler.name "
            "label_aware"
        )
    return np.unique(known, return_inverse=True)[1].astype(np.int64)
