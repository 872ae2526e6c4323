"""The few distinct overlaps that the many pairs of a batch have."""

from __future__ import annotations

import torch
from torch import Tensor

from landcue.losses.pairs import blocks, shared_labels, union_size


class OverlapLevels:
    """The distinct overlaps of all pairs of a batch; a few dozen in practice.

    The overlap is J_ij, or the share ``|S_ij| / |y_i|`` of the anchor's labels.

    Attributes:
        overlap: ``[levels]``, ascending; 0 is one of them.
    """

    def __init__(self, y: Tensor, *, share: bool = False) -> None:
        """Look through all pairs of labels ``[n, C]``, a block at a time."""
        self._y, self._side, self._share = y, int(y.shape[1]) + 1, share
        seen = torch.zeros(self._side**2, dtype=torch.bool, device=y.device)
        seen[0] = True  # nothing shared
        for rows in blocks(len(y)):
            seen[self._kind(rows).flatten()] = True
        kinds = torch.arange(self._side**2, device=y.device)
        overlap = (kinds // self._side).to(y) / (kinds % self._side).clamp(min=1).to(y)
        self.overlap, level = overlap[seen].unique(return_inverse=True)
        self._level = torch.zeros_like(kinds).masked_scatter_(seen, level)

    def of(self, rows: slice) -> Tensor:
        """Return each pair's index into ``overlap``, ``[b, n]``."""
        return self._level[self._kind(rows)]

    def _kind(self, rows: slice) -> Tensor:
        """Number the pairs by how many labels they share, and out of how many."""
        first, second = self._y[rows], self._y
        shared = shared_labels(first, second)
        whole = first.sum(1)[:, None] if self._share else union_size(first, second, shared)
        return (shared * self._side + whole).long()
