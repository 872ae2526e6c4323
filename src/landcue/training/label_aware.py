"""Batches in which every label has company: label-aware sampling for multi-label images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from landcue.errors import DataError, UsageError
from landcue.training.batch_plan import BatchPlan, LabelTable
from landcue.training.shares import Rows, Shares

_ATTEMPTS = 3  # fresh plans tried per epoch before the one that is known to work


class LabelAware:
    """Draw batches that cover the labels, from a seed.

    M images, batches of B, S = M // B batches per epoch. What holds for every epoch:

    * **Coverage.** Every label c on at least two images has a window of ``windows[c]`` batches.
      The epoch is cut into S // windows[c] runs of that many batches (the last run takes the
      remainder), and in each run at least one batch holds ``needed[c] = min(min_count, images
      with c)`` images of c or more. A window of 1 means: in every batch. Windows are found once,
      when the sampler is made: as short as the batch size (for many labels) and the cap (for
      rare ones) let them be. A label on one image can have no positive and is not covered.
    * **Cap.** No image is drawn more than ``cap`` times per epoch, or twice in a batch.
    * **Positives.** Every batch holds two images that share a label, unless no two such have
      draws left. An image shares a label with another of its batch, unless each of its labels
      occurs on one image only, or the batch had a place left for which no image with draws left
      shared a label. With all windows 1 every image that can have a partner has one.
    * **Length.** S batches of B images, as without label-awareness: what rare images gain,
      others lose. Images drawn least are preferred for the places coverage leaves.

    An image without labels is a negative like any other: it is drawn at most once per epoch.

    All this is about the batch of all processes together, whose embeddings are gathered; the
    shares of the processes are equal and disjoint.

    The definition is LandCue's own; the idea is MARC's (arXiv 2512.16294).

    Args:
        labels: Multi-hot ``[M, C]``, the training split's.
        shares: Batch size B of all processes together, and this process's place.
        seed: Epoch e follows from ``(seed, e)`` alone.
        min_count: Images of a label that are to stand together, at least 2.
        cap: Draws per image and epoch, at least 1.
        names: Label names, for messages.

    Raises:
        UsageError: ``min_count`` or ``cap`` too small, a batch too small for ``min_count``,
            or a label that cannot be covered even once.
        DataError: No label occurs on two images.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        shares: Shares,
        seed: int,
        *,
        min_count: int = 2,
        cap: int = 3,
        names: Sequence[str] = (),
    ) -> None:
        if min_count < 2:
            raise UsageError(f"sampler.min_count is {min_count}; positives need at least 2")
        if cap < 1:
            raise UsageError(f"sampler.cap is {cap}; every image may be drawn once: at least 1")
        if shares.batch < min_count:
            raise UsageError(
                f"a batch of {shares.batch} cannot hold {min_count} images of a label; raise "
                "optimizer.batch_size or lower sampler.min_count"
            )
        self._table = LabelTable(np.asarray(labels, np.bool_))
        counts = self._table.n_images
        if not (counts > 1).any():
            raise DataError(
                "no label occurs on two training images; label more images or use sampler.name "
                "shuffle"
            )
        self.shares, self.seed, self.cap = shares, seed, cap
        self.needed: Rows = np.where(counts > 1, np.minimum(counts, min_count), 0)
        self._names = names or [str(c) for c in range(len(counts))]
        self._rarest_first = sorted(np.flatnonzero(self.needed).tolist(), key=counts.__getitem__)
        self.windows, self._known = self._search()

    def __len__(self) -> int:
        return self.shares.n_batches

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield this process's image rows of every batch, ascending, int64."""
        rng = np.random.default_rng([self.seed, epoch])
        for _ in range(_ATTEMPTS):
            plan = self._plan(rng)
            if not any(self._cover(plan, label, self.windows[label])
                       for label in self._rarest_first):  # fmt: skip
                break
        else:
            plan = self._plan(rng)
            for b, images in enumerate(self._known):
                for image in images:
                    plan.put(b, image)
        plan.fill()
        for rows in plan.rows:
            yield self.shares.cut(sorted(rows))

    def _plan(self, rng: np.random.Generator) -> BatchPlan:
        return BatchPlan(self._table, len(self), self.shares.batch, self.cap, rng)

    def _cover(self, plan: BatchPlan, label: int, window: int) -> str:
        """Cover a label in all of its windows; return ``""``, or what stood against it."""
        n_windows = len(self) // window
        for w in range(n_windows):
            stop = (w + 1) * window if w + 1 < n_windows else len(self)
            problem = plan.cover(label, int(self.needed[label]), w * window, stop)
            if problem:
                return problem
        return ""

    def _search(self) -> tuple[Rows, list[list[int]]]:
        """Find each label's window, and one covering of an epoch that keeps to them."""
        steps, counts = len(self), self._table.n_images
        most = np.minimum(counts * self.cap // np.maximum(self.needed, 1), steps)
        windows: Rows = np.where(self.needed > 0, -(-steps // np.maximum(most, 1)), 0)
        while True:
            # From one state each time: this is no epoch's, and finds the same for every rank.
            plan = self._plan(np.random.default_rng(self.seed))
            for label in self._rarest_first:
                problem = self._cover(plan, label, windows[label])
                if problem:
                    self._widen(windows, label, problem)
                    break
            else:
                return windows, [sorted(rows) for rows in plan.rows]

    def _widen(self, windows: Rows, label: int, problem: str) -> None:
        """Lengthen the windows that stand in a label's way, in place."""
        table, steps = self._table, len(self)
        if problem == "cap" and windows[label] < steps:
            chosen = np.array([label])
        elif problem == "cap":
            beside = {c for image in table.images[label].tolist() for c in table.of[image]}
            chosen = np.array(sorted(beside))
        else:
            # Room is short for all: the shortest windows give way first.
            covered = windows[windows > 0]
            chosen = np.flatnonzero(windows == covered.min())
        chosen = chosen[(windows[chosen] > 0) & (windows[chosen] < steps)]
        if not len(chosen):
            remedy = {
                "cap": "raise sampler.cap or lower sampler.min_count",
                "full": "raise optimizer.batch_size or lower sampler.min_count",
            }[problem]
            raise UsageError(
                f"no way was found to bring {self.needed[label]} images with label "
                f"{self._names[label]!r} into one batch of {self.shares.batch}; {remedy}"
            )
        for c in chosen.tolist():
            windows[c] = _longer(int(windows[c]), steps)


def _longer(window: int, steps: int) -> int:
    """Return the next window, a fifth longer or more, that cuts an epoch into fewer runs."""
    return min(steps, max(steps // (steps // window) + 1, window * 6 // 5))
