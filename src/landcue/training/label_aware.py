"""Label-aware batches: every label of the training split occurs in them with partners."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from landcue.errors import DataError, UsageError
from landcue.training.samplers import Rows, Shares


class LabelTable:
    """The labels of M images, looked up both ways.

    Attributes:
        of: The label columns of every image.
        images: The image rows of every label.
        n_images: Images per label, int64 ``[C]``.
    """

    def __init__(self, labels: npt.NDArray[np.bool_]) -> None:
        self.of = [np.flatnonzero(row).tolist() for row in labels]
        self.images = [np.flatnonzero(column) for column in labels.T]
        self.n_images: Rows = labels.sum(0, dtype=np.int64)
        self.labeled = labels.any(1)


class BatchPlan:
    """The batches of one epoch while they are put together.

    Every batch holds distinct images, and no image is put into more than ``cap`` batches.
    """

    def __init__(
        self, table: LabelTable, n_batches: int, batch: int, cap: int, rng: np.random.Generator
    ) -> None:
        self.table, self.batch, self.cap, self.rng = table, batch, cap, rng
        self.rows: list[set[int]] = [set() for _ in range(n_batches)]
        self.draws: Rows = np.zeros(len(table.of), np.int64)
        self.count: Rows = np.zeros((n_batches, len(table.images)), np.int64)
        self.size: Rows = np.zeros(n_batches, np.int64)
        self._decks = [deque(rng.permutation(images).tolist()) for images in table.images]

    def put(self, b: int, image: int) -> None:
        """Put an image into batch ``b``."""
        self.rows[b].add(image)
        self.draws[image] += 1
        self.count[b, self.table.of[image]] += 1
        self.size[b] += 1

    def cover(self, label: int, needed: int, start: int, stop: int) -> str:
        """Bring ``needed`` images of a label into one of the batches ``start .. stop - 1``.

        Returns:
            ``""`` when done, ``"full"`` without a batch that has room, ``"cap"`` when the
            label's images have been drawn too often.
        """
        present = self.count[start:stop, label]
        missing = needed - present
        if missing.min() <= 0:
            return ""
        free = self.batch - self.size[start:stop]
        # The batch that lacks the fewest images, and among these the emptiest.
        order = np.lexsort((-free, missing))
        order = order[free[order] >= missing[order]]
        for b in (order + start).tolist():
            found = self._take(label, int(missing[b - start]), b)
            for image in found:
                self.put(b, image)
            if found:
                return ""
        return "cap" if len(order) else "full"

    def _take(self, label: int, n: int, b: int) -> list[int]:
        """Take the next n images of a label that may go into batch ``b``; none if too few."""
        deck = self._decks[label]
        found: list[int] = []
        for _ in range(len(deck)):
            image = deck.popleft()
            if self.draws[image] >= self.cap:
                continue  # never drawn again: it leaves the deck
            deck.append(image)
            if image not in self.rows[b]:
                found.append(image)
            if len(found) == n:
                return found
        return []

    def fill(self) -> None:
        """Fill all batches, with the images drawn least first.

        A batch without labels begins with two images that share one, as long as the cap allows.
        An image is put where it shares a label with the batch. One that shares none is put only
        into a batch for which no other image with draws left shares any, and then in a pair when
        a pair is left. Images without labels need no partner; they are drawn once at most.
        """
        for b in np.flatnonzero(~self.count.any(1)).tolist():
            self._put_pair(b)
        for level in range(self.cap):
            if (self.size == self.batch).all():
                return
            left = np.flatnonzero((self.draws <= level) & (self.table.labeled | (self.draws == 0)))
            left = self.rng.permutation(left)
            self._distribute(left[np.argsort(self.draws[left], kind="stable")].tolist(), level)
        for b in np.flatnonzero(self.size < self.batch).tolist():
            while self.size[b] < self.batch:
                self.put(b, self._last(b))

    def _distribute(self, images: list[int], level: int) -> None:
        """Put images, drawn ``level`` times or less, into batches where they have a partner."""
        queue = deque(images)
        waiting: defaultdict[int, list[int]] = defaultdict(list)  # by their most frequent label
        for b in range(len(self.rows)):
            for label in np.flatnonzero(self.count[b]).tolist():
                waiting[label] = [i for i in waiting[label] if not self._put_beside(b, i, level)]
            while queue and self.size[b] < self.batch:
                image = queue.popleft()
                labels = self.table.of[image]
                if not self._put_beside(b, image, level) and labels:
                    waiting[max(labels, key=self.table.n_images.__getitem__)].append(image)

    def _put_beside(self, b: int, image: int, level: int) -> bool:
        """Put an image into batch ``b`` if it may go there and has a partner or needs none."""
        labels = self.table.of[image]
        if (
            self.size[b] == self.batch
            or self.draws[image] > level
            or image in self.rows[b]
            or (labels and not self.count[b, labels].any())
        ):
            return False
        self.put(b, image)
        return True

    def _put_pair(self, b: int) -> None:
        """Put two images that share a label into batch ``b``, if any such have draws left."""
        for label in self.rng.permutation(len(self._decks)).tolist():
            pair = self._take(label, 2, b)
            for image in pair:
                self.put(b, image)
            if pair:
                return

    def _last(self, b: int) -> int:
        """Return the best image that is left for batch ``b``; see :meth:`fill`."""
        table = self.table
        allowed = np.where(table.labeled, self.draws < self.cap, self.draws == 0)
        allowed[list(self.rows[b])] = False
        # There always is one: fewer images were drawn than there are.
        left = self.rng.permutation(np.flatnonzero(allowed))
        left = left[np.argsort(self.draws[left], kind="stable")].tolist()
        for image in left:
            if self.count[b, table.of[image]].any():
                return image
        if self.batch - self.size[b] >= 2:
            for image in left:
                if any(allowed[table.images[label]].sum() > 1 for label in table.of[image]):
                    return image
        return left[0]


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
        min_count: Images of a label in one batch, at least 2.
        cap: Draws per image and epoch, at least 1.
        names: Label names, for messages.
        attempts: Fresh plans tried per epoch before the one that is known to work.
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
        attempts: int = 3,
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
        self.attempts = attempts
        self.needed: Rows = np.where(counts > 1, np.minimum(counts, min_count), 0)
        self._names = names or [str(c) for c in range(len(counts))]
        self._rarest_first = sorted(np.flatnonzero(self.needed).tolist(), key=counts.__getitem__)
        self.windows, self._known = self._search()

    def __len__(self) -> int:
        return self.shares.n_batches

    def batches(self, epoch: int) -> Iterator[Rows]:
        """Yield this process's image rows of every batch, ascending, int64."""
        rng = np.random.default_rng([self.seed, epoch])
        for _ in range(self.attempts):
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
            # The batches are too small for all: leave out those of the shortest windows first.
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
