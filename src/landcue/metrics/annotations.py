"""Ids, labels and groups of the images of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.relevance import check_labels
from landcue.types import ByteArray


@dataclass(frozen=True, slots=True)
class Annotations:
    """Ids and labels of n images, as queries or as a gallery.

    Attributes:
        ids: Unique ids: they order ties where a protocol says so, and name a query in the gallery.
        labels: Multi-hot uint8 ``[n, C]``; a row of zeros is an image without labels, which is
            relevant to nothing.
        label_names: The C label names.
        groups: What each image was drawn from (scene, tile), or ``None`` for an image without
            one; empty if no image has one.

    >>> images = Annotations(("a", "b"), np.eye(2, dtype=np.uint8), ("water", "ship"))
    >>> len(images)
    2
    """

    ids: tuple[str, ...]
    labels: ByteArray
    label_names: tuple[str, ...]
    groups: tuple[str | None, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.ids)
        if self.labels.shape != (n, len(self.label_names)):
            raise UsageError(
                f"labels have shape {list(self.labels.shape)}, but there are {n} ids and "
                f"{len(self.label_names)} label names: pass [ids, label names]"
            )
        if len(set(self.ids)) != n:
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))
            raise UsageError(f"id {twice!r} occurs twice: use a different id for each image")
        if len(set(self.label_names)) != len(self.label_names):
            raise UsageError(
                "a label name occurs twice: use a different name for each label column"
            )
        if self.groups and len(self.groups) != n:
            raise UsageError(f"{len(self.groups)} groups for {n} ids: pass one per image, or none")

    def __len__(self) -> int:
        return len(self.ids)


def annotate(
    ids: Sequence[str],
    labels: npt.ArrayLike,
    label_names: Sequence[str] | None = None,
    groups: Sequence[str | None] = (),
) -> Annotations:
    """Check and freeze ids and labels.

    Args:
        ids: n unique ids.
        labels: Multi-hot ``[n, C]``: bool, or the numbers 0 and 1.
        label_names: C names; ``label 0`` and so on without them.
        groups: n groups, or none.

    Raises:
        UsageError: Sizes contradict each other, an id or a label name occurs twice, or the labels
            are not 0 and 1.

    >>> annotate(["a.tif", "b.tif"], [[1, 0], [1, 1]], ["water", "ships"]).ids
    ('a.tif', 'b.tif')
    """
    array = check_labels(labels, "images")
    names = () if label_names is None else tuple(label_names)
    names = names or _numbered(array.shape[1])
    return Annotations(tuple(ids), array, names, tuple(groups))


def labeled(
    labels: Annotations | npt.ArrayLike | None, what: str, beside: object = None
) -> Annotations:
    """Return labels with ids: row numbers where none are given.

    Args:
        labels: Multi-hot ``[n, C]``, one class per image ``[n]`` (whole numbers from 0), or a
            finished value.
        what: ``queries`` or ``gallery``, for messages.
        beside: The labels of the other side, whose classes class numbers are among, too.
    """
    if isinstance(labels, Annotations):
        return labels
    array = np.asarray(labels)
    if array.ndim == 1 and array.size:
        if array.dtype.kind not in "iu" or array.min() < 0:
            raise UsageError(
                f"labels of the {what} are {array.dtype} {list(array.shape)}: pass multi-hot "
                "[n, labels], or class numbers [n] from 0"
            )
        hot = np.zeros((array.size, max(_n_classes(array), _n_classes(beside))), np.uint8)
        hot[np.arange(array.size), array] = 1
        array = hot
    array = check_labels(array, what)
    ids = [f"{row:09}" for row in range(len(array))]  # in the order of rows as text, too
    return Annotations(tuple(ids), array, _numbered(array.shape[1]))


def _numbered(n_labels: int) -> tuple[str, ...]:
    return tuple(f"label {c}" for c in range(n_labels))


def _n_classes(labels: object) -> int:
    """Return how many classes or label columns there are; 0 where labels have names."""
    if labels is None or isinstance(labels, Annotations):
        return 0
    array = np.asarray(labels)
    if array.ndim == 2:
        return int(array.shape[1])
    whole = array.ndim == 1 and array.size and array.dtype.kind in "iu"
    return int(array.max()) + 1 if whole else 0


def check_same_kind(ours: Iterable[object], theirs: Iterable[object], *names: str) -> None:
    """Refuse ids that would be equal only after conversion, such as 7 and ``"7"``."""
    first, second = set(ours), set(theirs)
    texts = {str(id_): id_ for id_ in second - first}
    for id_ in first - second:
        other = texts.get(str(id_))
        if other is not None:
            raise UsageError(
                f"{names[0]} have {id_!r}, {names[1]} {other!r}: pass both as text, or both as "
                "numbers"
            )


def same_group(query: Annotations, gallery: Annotations, rows: slice) -> npt.NDArray[np.bool_]:
    """Return bool ``[q, n]``: true where a query of ``rows`` and an image share their group.

    Images without a group share it with none.
    """
    numbers: dict[str, int] = {}

    def number(groups: tuple[str | None, ...], n: int, missing: int) -> npt.NDArray[np.int64]:
        if not groups:
            return np.full(n, missing)
        return np.array(
            [missing if g is None else numbers.setdefault(g, len(numbers)) for g in groups]
        )

    ours = number(query.groups[rows], len(range(len(query))[rows]), -1)
    theirs = number(gallery.groups, len(gallery), -2)
    return ours[:, None] == theirs[None, :]
