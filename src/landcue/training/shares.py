"""How an epoch's images become batches, and a batch becomes the shares of processes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Shares:
    """The size of an epoch, and this process's part of it.

    Attributes:
        n_images: Images of the training split, M.
        batch: Images per batch of all processes together, B.
        rank: This process.
        world_size: Number of processes.

    Raises:
        UsageError: B is larger than M or no multiple of ``world_size``; no such rank.
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
