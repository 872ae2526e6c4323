"""What an audit says about annotations: gaps, rare labels, and which labels go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from landcue.audit.counts import part_order
from landcue.data.imageset import label_matrix
from landcue.types import Record


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """Counts over all images, decodable or not.

    Attributes:
        names: Label names in the source's order.
        counts: Images of each label.
        by_part: Images of each label in each part, in the order of ``names``.
        unlabeled: Ids that nobody annotated.
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
