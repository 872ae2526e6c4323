"""Counts of an audit: pairs within and across parts, leaks, labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from landcue.data.imageset import label_matrix
from landcue.types import Record

WHOLE = "all"
"""Name of the one part of images without a split."""
LEAKS = ("identical", "near", "overlap")
"""Kinds of copies that count as leakage when they lie in two parts."""


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many pairs there are.

    Attributes:
        within: Pairs of each part that has any.
        across: Pairs between two parts, ``train-test``.
    """

    within: dict[str, int]
    across: dict[str, int]

    @property
    def total(self) -> int:
        """All pairs."""
        return sum(self.within.values()) + sum(self.across.values())

    @property
    def crossing(self) -> int:
        """Pairs whose images lie in two parts: leakage."""
        return sum(self.across.values())


def part_order(parts: Iterable[str]) -> list[str]:
    """Return the parts that occur: train, val and test first, others by name."""
    known = ("train", "val", "test")
    seen = set(parts)
    return [name for name in known if name in seen] + sorted(seen - set(known))


def count_pairs(pairs: Iterable[tuple[int, int]], parts: Sequence[str]) -> PairCounts:
    """Count pairs of rows by the parts of their images."""
    order = part_order(parts)
    found = Counter(tuple(sorted((parts[a], parts[b]), key=order.index)) for a, b in pairs)
    return _counts(found, order)


def count_groups(groups: Iterable[Sequence[int]], parts: Sequence[str]) -> PairCounts:
    """Count the pairs in groups of rows without listing them: m images make m (m - 1) / 2."""
    order = part_order(parts)
    found: Counter[tuple[str, ...]] = Counter()
    for group in groups:
        sizes = Counter(parts[row] for row in group)
        present = [name for name in order if name in sizes]
        for i, name in enumerate(present):
            found[name, name] += sizes[name] * (sizes[name] - 1) // 2
            for other in present[i + 1 :]:
                found[name, other] += sizes[name] * sizes[other]
    return _counts(found, order)


def leaks(
    parts: Sequence[str],
    pictures: Mapping[int, str],
    groups: Iterable[Sequence[int]],
    pairs: Mapping[str, Iterable[tuple[int, int]]],
) -> dict[str, dict[str, int]]:
    """Count the images of each part that have a copy in another part.

    Args:
        parts: Part of each row.
        pictures: What is equal for rows of identical pixels, for every readable row.
        groups: Rows of identical images.
        pairs: Pairs of rows for ``near`` and ``overlap``. What holds of an image holds of all
            identical ones in its part.

    Returns:
        By part: images by kind, and of ``any`` kind.
    """
    marked: dict[str, set[tuple[str, str]]] = {kind: set() for kind in LEAKS}
    linked = [("identical", tuple(group)) for group in groups]
    linked += [(kind, pair) for kind in ("near", "overlap") for pair in pairs[kind]]
    for kind, rows in linked:
        if len({parts[row] for row in rows}) > 1:
            marked[kind] |= {(pictures[row], parts[row]) for row in rows}
    marked["any"] = set[tuple[str, str]]().union(*marked.values())
    keys = [(picture, parts[row]) for row, picture in pictures.items()]
    return {
        part: {
            kind: sum(k[1] == part and k in found for k in keys) for kind, found in marked.items()
        }
        for part in part_order(parts)
    }


def _counts(found: Counter[tuple[str, ...]], order: list[str]) -> PairCounts:
    within = {a: found[a, a] for a in order if found[a, a]}
    across = {
        f"{a}-{b}": found[a, b] for i, a in enumerate(order) for b in order[i + 1 :] if found[a, b]
    }
    return PairCounts(within, across)


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """Counts over all images, decodable or not.

    Attributes:
        names: Label names in the source's order.
        counts: Images of each label.
        by_part: Images of each label in each part, in the order of ``names``.
        unlabeled: Ids of images without annotation.
        empty: Ids annotated with no label at all.
        never: Labels of no image.
        absent: Labels of a part that has none of their images, though others do.
        rare: Labels of a part with at least one but fewer than the limit of images.
        together: Images with both labels, ``[C][C]``; the diagonal is ``counts``.
        lift: How many times as often two labels come together as if they were independent,
            ``[C][C]``; ``None`` where a label never occurs.
        per_image: Mean labels per annotated image.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    by_part: dict[str, tuple[int, ...]]
    unlabeled: tuple[str, ...]
    empty: tuple[str, ...]
    never: tuple[str, ...]
    absent: dict[str, tuple[str, ...]]
    rare: dict[str, tuple[str, ...]]
    together: tuple[tuple[int, ...], ...]
    lift: tuple[tuple[float | None, ...], ...]
    per_image: float


def label_facts(
    records: Sequence[Record], names: Sequence[str], parts: Sequence[str], few: int
) -> LabelFacts:
    """Count labels; ``parts`` is the part of each record and ``few`` the limit of a rare label."""
    matrix = label_matrix([record.labels for record in records], names).astype(np.int64)
    annotated = sum(record.labels is not None for record in records)
    counts = matrix.sum(axis=0)
    together = matrix.T @ matrix
    of = np.array(parts)
    by_part = {part: matrix[of == part].sum(axis=0) for part in part_order(parts)}
    expected = np.outer(counts, counts) / max(annotated, 1)
    lift = [
        [round(float(n / e), 4) if e > 0 else None for n, e in zip(row, wanted, strict=True)]
        for row, wanted in zip(together, expected, strict=True)
    ]

    def chosen(keep: np.ndarray) -> tuple[str, ...]:
        return tuple(name for name, yes in zip(names, keep, strict=True) if yes)

    return LabelFacts(
        names=tuple(names),
        counts=tuple(counts.tolist()),
        by_part={part: tuple(n.tolist()) for part, n in by_part.items()},
        unlabeled=tuple(record.id for record in records if record.labels is None),
        empty=tuple(record.id for record in records if record.labels == ()),
        never=chosen(counts == 0),
        absent={part: chosen((n == 0) & (counts > 0)) for part, n in by_part.items()},
        rare={part: chosen((n > 0) & (n < few)) for part, n in by_part.items()},
        together=tuple(tuple(row) for row in together.tolist()),
        lift=tuple(tuple(row) for row in lift),
        per_image=round(float(matrix.sum()) / max(annotated, 1), 4),
    )
