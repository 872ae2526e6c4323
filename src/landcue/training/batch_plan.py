"""Fill an epoch's batches: labels are covered, draws capped, and anchors have partners."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import numpy.typing as npt

from landcue.training.shares import Rows


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
        self.labelled = labels.any(1)


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
            left = np.flatnonzero((self.draws <= level) & (self.table.labelled | (self.draws == 0)))
            left = self.rng.permutation(left)
            self._deal(left[np.argsort(self.draws[left], kind="stable")].tolist(), level)
        for b in np.flatnonzero(self.size < self.batch).tolist():
            while self.size[b] < self.batch:
                self.put(b, self._last(b))

    def _deal(self, images: list[int], level: int) -> None:
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
        allowed = np.where(table.labelled, self.draws < self.cap, self.draws == 0)
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
