"""Run an audit: read every image once, then compare all of them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from landcue.audit.counts import WHOLE, count_groups, count_pairs, label_facts, leaks
from landcue.audit.images import (
    DuplicateGroup,
    ImageSummary,
    Unreadable,
    contradictions,
    groups_of,
    summarize_image,
)
from landcue.audit.pairs import (
    Limits,
    LookAlike,
    NearDuplicate,
    Overlap,
    Rows,
    embedding_pairs,
    hash_pairs,
    overlaps,
)
from landcue.audit.report import AuditReport
from landcue.data.datasets import detect_source
from landcue.data.images import read_image
from landcue.data.imageset import ImageSet
from landcue.data.splits import apply_split
from landcue.files import core_count
from landcue.types import ByteArray, Encoder, FloatArray, Record

Progress = Callable[[str, int, int], object]
"""Called with (stage, done, total)."""
_BATCH = 64
_MOST_WORKERS = 4
_CACHED_IMAGES = 64

_Pair = TypeVar("_Pair", NearDuplicate, LookAlike, Overlap)
_Value = TypeVar("_Value")


def audit(
    source: ImageSet | str | Path,
    *,
    labels: str | Path | None = None,
    split: str | None = None,
    model: Encoder | str | Path | None = "builtin",
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Look for copies, leakage across a split, and what is wrong with labels and files.

    Every image is read once and compared with all others. Files that do not decode are findings,
    not errors. Nothing is written.

    Args:
        source: An image set; or the path of a known data set, a folder of images, or a label
            table (``.csv``).
        labels: Label table for a folder.
        split: Id of a split (see :mod:`landcue.data.splits`) whose leakage is counted.
        model: Finds look-alikes and candidates for overlapping crops: an encoder, or the name or
            folder of one. ``None``: neither is looked for, and no model is loaded.
        limits: Thresholds; by default those of :class:`Limits`.
        progress: Called with (stage, done, total) as the work goes on.

    Raises:
        UsageError: An unknown split.
        DataError: The source is missing or holds no image, or too few images for the split.
        ModelError: There is no such model, or its output does not have the shape it promises.

    >>> import tempfile, landcue
    >>> from landcue.demo import write_demo_archive
    >>> report = landcue.audit(write_demo_archive(Path(tempfile.mkdtemp()), n=4), model=None)
    >>> [finding.kind for finding in report.findings()]
    ['rare-labels']
    """
    if isinstance(source, ImageSet):
        images = source
    else:
        images = detect_source(Path(source), None if labels is None else Path(labels))
    encoder = _load_encoder(model) if isinstance(model, str | Path) else model
    notify = progress or _no_progress
    limits = limits or Limits()
    if split is not None:
        images = apply_split(images, split)
    records = images.records
    parts = tuple(record.part or WHOLE for record in records)
    summaries, unreadable, embeddings = _summarize_all(images, encoder, notify)
    rows = sorted(summaries)
    digests = {row: summary.pixels for row, summary in summaries.items()}
    same = groups_of([digests.get(row) for row in range(len(records))])
    identical = tuple(
        DuplicateGroup(group, len({summaries[row].content for row in group}) == 1) for group in same
    )
    # One image of identical ones in each part stands for the others.
    standing = {(digests[row], parts[row]): row for row in reversed(rows)}
    chosen = np.array(sorted(standing.values()), np.int64)

    grays = np.array([summaries[row].gray for row in chosen], np.float32).reshape(-1, 32, 32)
    found, cut_near = hash_pairs(grays, limits)
    near = [_as_rows(pair, chosen) for pair in found]
    near = [pair for pair in near if digests[pair.first] != digests[pair.second]]
    alike: list[LookAlike] = []
    shared: list[Overlap] = []
    cut_alike = False
    if encoder is not None and len(chosen):
        of = {row: place for place, row in enumerate(rows)}
        vectors = embeddings[[of[int(row)] for row in chosen]]
        alike, shared, cut_alike = _by_embedding(images, summaries, chosen, vectors, limits, notify)

    pairs = {
        "near": [(pair.first, pair.second) for pair in near],
        "overlap": [(pair.first, pair.second) for pair in shared],
        "alike": [(pair.first, pair.second) for pair in alike],
    }
    counts = {"identical": count_groups(same, parts)}
    counts |= {kind: count_pairs(found, parts) for kind, found in pairs.items()}
    sizes, odd_sizes = _odd({row: summaries[row].size for row in rows})
    kinds, odd_kinds = _odd({row: (summaries[row].kind, summaries[row].bands) for row in rows})
    annotated = any(record.labels is not None for record in records)
    return AuditReport(
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
        blank=tuple(row for row in rows if float(summaries[row].gray.std()) < limits.blank),
        identical=identical,
        near=tuple(near),
        overlap=tuple(shared),
        alike=tuple(alike),
        counts=counts,
        conflicts={
            "identical": contradictions(same, records),
            "near": contradictions(pairs["near"], records),
        },
        leaks=leaks(parts, digests, same, pairs),
        cut=tuple(kind for kind, yes in (("near", cut_near), ("alike", cut_alike)) if yes),
        labels=label_facts(records, images.label_names, parts, limits.few) if annotated else None,
    )


def _summarize_all(
    images: ImageSet, encoder: Encoder | None, progress: Progress
) -> tuple[dict[int, ImageSummary], dict[int, Unreadable], FloatArray]:
    """Read all files in batches; embeddings are in the order of the readable rows."""
    summaries: dict[int, ImageSummary] = {}
    unreadable: dict[int, Unreadable] = {}
    embeddings: list[FloatArray] = []
    records = images.records

    def read(record: Record) -> tuple[ImageSummary, ByteArray] | Unreadable:
        found = summarize_image(record)
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
                    summaries[row], pixels = found
                    prepared.append(pixels)
            if encoder is not None and prepared:
                embeddings.append(encoder.encode(prepared).embedding)
            progress("reading", min(start + _BATCH, len(records)), len(records))
    stacked = np.concatenate(embeddings) if embeddings else np.empty((0, 0), np.float32)
    return summaries, unreadable, stacked


def _by_embedding(
    images: ImageSet,
    summaries: dict[int, ImageSummary],
    chosen: Rows,
    vectors: FloatArray,
    limits: Limits,
    progress: Progress,
) -> tuple[list[LookAlike], list[Overlap], bool]:
    """Find look-alikes and overlapping crops among the ``chosen`` rows."""
    found, nearest, cut = embedding_pairs(vectors, limits.min_cosine, limits.overlap_neighbors)
    alike = [_as_rows(pair, chosen) for pair in found]
    alike = [
        pair for pair in alike if summaries[pair.first].pixels != summaries[pair.second].pixels
    ]

    @functools.lru_cache(_CACHED_IMAGES)
    def read(place: int) -> ByteArray:
        record = images.records[chosen[place]]
        return read_image(record.path, name=record.id)

    def tick(done: int, total: int) -> object:
        return progress("looking for overlaps", done, total)

    shared = overlaps([summaries[int(row)] for row in chosen], nearest, read, limits, tick)
    return alike, [_as_rows(pair, chosen) for pair in shared], cut


def _as_rows(pair: _Pair, chosen: Rows) -> _Pair:
    """Return a pair of places in ``chosen`` as a pair of rows."""
    return replace(pair, first=int(chosen[pair.first]), second=int(chosen[pair.second]))


def _odd(values: dict[int, _Value]) -> tuple[dict[_Value, int], dict[int, _Value]]:
    """Return how often each value occurs, and the rows that differ from the most frequent."""
    counted = dict(Counter(values.values()).most_common())
    usual = next(iter(counted), None)
    return counted, {row: value for row, value in values.items() if value != usual}


def _load_encoder(name: str | Path) -> Encoder:
    from landcue.models.load import load_model

    return load_model(name)


def _no_progress(stage: str, done: int, total: int) -> None:
    """Show nothing."""
