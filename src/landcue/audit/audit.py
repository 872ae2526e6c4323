"""The audit of an image set: copies, leakage across parts, labels, sizes and broken files."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from landcue.audit.counts import WHOLE, PairCounts, count_groups, count_pairs, leaks
from landcue.audit.identical import Group, contradictions, groups_of
from landcue.audit.labels import LabelFacts, label_facts
from landcue.audit.limits import Limits
from landcue.audit.look import Look, Unreadable, look
from landcue.audit.near import Alike, Near, Rows, embedding_pairs, hash_pairs
from landcue.audit.overlap import Overlap, overlaps
from landcue.data.images import read_image
from landcue.data.imageset import ImageSet
from landcue.data.splits import apply_split
from landcue.files import core_count
from landcue.types import ByteArray, Encoder, FloatArray, Record

Progress = Callable[[str, int, int], object]
"""Called with (stage, done, total)."""
_BATCH = 64
_MOST_WORKERS = 4
_RECENT = 64

_Pair = TypeVar("_Pair", Near, Alike, Overlap)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found. Rows number the records of ``images``.

    Attributes:
        images: The records, with their parts if a split was applied.
        split: Id of the split, if any.
        parts: Part of each record; ``all`` without a split.
        limits: The thresholds.
        encoder: Fingerprint of the encoder; ``None`` when none was used: then there are neither
            look-alikes nor overlaps.
        sizes: Images of each (height, width), most frequent first.
        kinds: Images of each (mode, bands), most frequent first.
        odd_sizes: Rows of another size than the most frequent, and that size of theirs.
        odd_kinds: Rows of other bands than the most frequent, and theirs.
        unreadable: Rows of files that do not decode, and why.
        blank: Rows of pictures without content, which no near-duplicate is looked for.
        identical: Groups of the same pixels.
        near: Near-duplicates by perceptual hash, identical images left out.
        overlap: Overlapping crops, identical images left out.
        alike: Pairs of nearly equal embeddings, identical images left out.
        counts: Pairs of each kind within and across parts. Near-duplicates, overlaps and
            look-alikes count one image of identical ones per part.
        conflicts: Of each kind, the positions in its list whose annotations differ.
        leaks: Images of each part with a copy in another part, by kind and ``any``.
        cut: Kinds of which more pairs exist than are listed.
        labels: Facts on annotations; ``None`` when no image is annotated.
    """

    images: ImageSet
    split: str | None
    parts: tuple[str, ...]
    limits: Limits
    encoder: str | None
    sizes: dict[tuple[int, int], int]
    kinds: dict[tuple[str, int], int]
    odd_sizes: dict[int, tuple[int, int]]
    odd_kinds: dict[int, tuple[str, int]]
    unreadable: dict[int, str]
    blank: tuple[int, ...]
    identical: tuple[Group, ...]
    near: tuple[Near, ...]
    overlap: tuple[Overlap, ...]
    alike: tuple[Alike, ...]
    counts: dict[str, PairCounts]
    conflicts: dict[str, list[int]]
    leaks: dict[str, dict[str, int]]
    cut: tuple[str, ...]
    labels: LabelFacts | None


def audit(
    images: ImageSet,
    *,
    split: str | None = None,
    encoder: Encoder | None = None,
    limits: Limits | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> Audit:
    """Look at every image of a set, and compare all of them.

    Args:
        images: The set; files that do not decode are findings, not errors.
        split: Id of a split (see :mod:`landcue.data.splits`) whose leakage is counted.
        encoder: Finds look-alikes and candidates for overlapping crops; ``None``: neither.
        limits: Thresholds; by default those of :class:`Limits`.
        progress: Called as the work goes on.

    Raises:
        UsageError: A bad split id.
        DataError: Too few images for the split.
        ModelError: The encoder's output does not have the shape it promises.
    """
    limits = limits or Limits()
    if split is not None:
        images = apply_split(images, split)
    records = images.records
    parts = tuple(record.part or WHOLE for record in records)
    looks, unreadable, embeddings = _look_at_all(images, encoder, progress)
    rows = sorted(looks)
    same = groups_of([looks[row].pixels if row in looks else None for row in range(len(records))])
    identical = tuple(
        Group(group, len({looks[row].content for row in group}) == 1) for group in same
    )
    # One image of identical ones in each part stands for the others.
    standing = {(looks[row].pixels, parts[row]): row for row in reversed(rows)}
    chosen = np.array(sorted(standing.values()), np.int64)

    grays = np.stack([looks[row].gray for row in chosen]) if len(chosen) else np.empty((0, 32, 32))
    found, cut_near = hash_pairs(grays.astype(np.float32, copy=False), limits)
    near = [_renamed(pair, chosen) for pair in found]
    near = [pair for pair in near if looks[pair.first].pixels != looks[pair.second].pixels]
    alike: list[Alike] = []
    shared: list[Overlap] = []
    cut_alike = False
    if encoder is not None and len(chosen):
        of = {row: place for place, row in enumerate(rows)}
        vectors = embeddings[[of[int(row)] for row in chosen]]
        alike, shared, cut_alike = _by_embedding(images, looks, chosen, vectors, limits, progress)

    pairs = {
        "near": [(pair.first, pair.second) for pair in near],
        "overlap": [(pair.first, pair.second) for pair in shared],
        "alike": [(pair.first, pair.second) for pair in alike],
    }
    counts = {"identical": count_groups(same, parts)}
    counts |= {kind: count_pairs(found, parts) for kind, found in pairs.items()}
    sizes, odd_sizes = _odd({row: looks[row].size for row in rows})
    kinds, odd_kinds = _odd({row: (looks[row].kind, looks[row].bands) for row in rows})
    annotated = any(record.labels is not None for record in records)
    return Audit(
        images=images,
        split=split,
        parts=parts,
        limits=limits,
        encoder=None if encoder is None else encoder.fingerprint,
        sizes=sizes,
        kinds=kinds,
        odd_sizes=odd_sizes,
        odd_kinds=odd_kinds,
        unreadable={row: broken.reason for row, broken in unreadable.items()},
        blank=tuple(row for row in rows if float(looks[row].gray.std()) < limits.blank),
        identical=identical,
        near=tuple(near),
        overlap=tuple(shared),
        alike=tuple(alike),
        counts=counts,
        conflicts={
            "identical": contradictions(same, records),
            "near": contradictions(pairs["near"], records),
        },
        leaks=leaks(parts, {row: looks[row].pixels for row in rows}, same, pairs),
        cut=tuple(kind for kind, yes in (("near", cut_near), ("alike", cut_alike)) if yes),
        labels=label_facts(records, images.label_names, parts, limits.few) if annotated else None,
    )


def _look_at_all(
    images: ImageSet, encoder: Encoder | None, progress: Progress
) -> tuple[dict[int, Look], dict[int, Unreadable], FloatArray]:
    """Read all files in batches; embeddings are in the order of the readable rows."""
    looks: dict[int, Look] = {}
    unreadable: dict[int, Unreadable] = {}
    embeddings: list[FloatArray] = []
    records = images.records

    def read(record: Record) -> tuple[Look, ByteArray] | Unreadable:
        found = look(record)
        if encoder is None or isinstance(found, Unreadable):
            return found
        return found[0], encoder.prepare(found[1])

    with ThreadPoolExecutor(min(_MOST_WORKERS, core_count())) as pool:
        for start in range(0, len(records), _BATCH):
            prepared: list[ByteArray] = []
            batch = pool.map(read, records[start : start + _BATCH])
            for row, found in enumerate(batch, start):
                if isinstance(found, Unreadable):
                    unreadable[row] = found
                else:
                    looks[row], pixels = found
                    prepared.append(pixels)
            if encoder is not None and prepared:
                embeddings.append(encoder.encode(prepared).embedding)
            progress("reading", min(start + _BATCH, len(records)), len(records))
    stacked = np.concatenate(embeddings) if embeddings else np.empty((0, 0), np.float32)
    return looks, unreadable, stacked


def _by_embedding(
    images: ImageSet,
    looks: dict[int, Look],
    chosen: Rows,
    vectors: FloatArray,
    limits: Limits,
    progress: Progress,
) -> tuple[list[Alike], list[Overlap], bool]:
    """Find look-alikes and overlapping crops among the ``chosen`` rows."""
    found, nearest, cut = embedding_pairs(vectors, limits.min_cosine, limits.overlap_neighbors)
    alike = [_renamed(pair, chosen) for pair in found]
    alike = [pair for pair in alike if looks[pair.first].pixels != looks[pair.second].pixels]

    @functools.lru_cache(_RECENT)
    def read(place: int) -> ByteArray:
        record = images.records[chosen[place]]
        return read_image(record.path, name=record.id)

    def tick(done: int, total: int) -> object:
        return progress("looking for overlaps", done, total)

    shared = overlaps([looks[int(row)] for row in chosen], nearest, read, limits, tick)
    return alike, [_renamed(pair, chosen) for pair in shared], cut


def _renamed(pair: _Pair, chosen: Rows) -> _Pair:
    """Return a pair of places in ``chosen`` as a pair of rows."""
    return replace(pair, first=int(chosen[pair.first]), second=int(chosen[pair.second]))


def _odd(values: dict[int, _Value]) -> tuple[dict[_Value, int], dict[int, _Value]]:
    """Return how often each value occurs, and the rows that differ from the most frequent."""
    counted = dict(Counter(values.values()).most_common())
    usual = next(iter(counted), None)
    return counted, {row: value for row, value in values.items() if value != usual}
