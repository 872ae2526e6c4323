"""Evaluate a retrieval: rank the gallery for every query and average the metrics."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from landcue.errors import UsageError
from landcue.evaluation.annotations import Annotations
from landcue.evaluation.blocks import Part, Ranker
from landcue.evaluation.bootstrap import mean_intervals
from landcue.evaluation.distances import Distances, LabelledCodes, cosine, cue, hamming
from landcue.evaluation.kinds import Metric, suffix
from landcue.evaluation.per_label import LabelScore, macro_means, score_labels
from landcue.evaluation.protocol import DEFAULT, Protocol, find_protocol
from landcue.evaluation.relevance import Floats, check_single_label, pair_table
from landcue.evaluation.scoring import Source, Tables, score_block
from landcue.types import ByteArray, FloatArray

_MOST_THREADS = 4


@dataclass(frozen=True, slots=True)
class Scores:
    """The outcome of an evaluation. Means that no query defines are NaN.

    Attributes:
        protocol: What was measured, and how.
        metrics: Mean over queries of each metric.
        chance: The same for a random order of the gallery, in closed form.
        intervals: 95 % bootstrap interval over queries (low, high); empty if not asked for.
        bands: Means with ties ordered by gain, (rising, falling): the worst and the best order,
            except that WAP@k may pass it where k divides a group; empty if not asked for.
        per_query: Each metric's values ``[q]`` in the order of the queries; NaN where a query
            has no relevant item and does not count.
        per_label: Mean AP of the queries with each label.
        macro: Mean over labels of ``per_label``: ``all``, ``rare``, ``medium``, ``frequent``.
        counts: Queries, gallery images, and queries without a relevant image.
    """

    protocol: Protocol
    metrics: dict[str, float]
    chance: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    bands: dict[str, tuple[float, float]]
    per_query: dict[str, Floats] = field(repr=False)
    per_label: dict[str, LabelScore] = field(repr=False)
    macro: dict[str, float]
    counts: dict[str, int]


def evaluate(
    query: Annotations,
    gallery: Annotations,
    distances: Distances,
    *,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 0,
    seed: int = 0,
    band: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Rank the gallery for every query and compute all metrics of a protocol.

    Queries are taken a few at a time, by up to four threads, so memory grows with the gallery
    alone.

    Args:
        query: Ids and labels of the queries.
        gallery: Ids and labels of the gallery; may be the queries themselves.
        distances: Distances between them, in the same order.
        protocol: A protocol, or the name of one.
        resamples: Bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by ordering ties by gain.
        progress: Called with the queries done and their number.

    Raises:
        UsageError: Sizes or labels do not fit each other or the protocol, or a distance is NaN.
    """
    if isinstance(protocol, str):
        protocol = find_protocol(protocol)
    _check(query, gallery, distances, protocol)
    wanted = protocol.metrics()
    tables = Tables(pair_table(query.labels, gallery.labels))
    ranker = Ranker(query, gallery, distances, protocol, tables.pairs)

    def score(part: Part) -> Floats:
        """Return ``[2 or 4, metrics, len]``: values, chance, worst and best order of ties."""
        block = ranker.rank(part)
        sources: list[Source] = [block.ranked, block.census]
        if band:
            sources += [block.bound(best=False), block.bound(best=True)]
        depth = protocol.depth
        return np.stack([score_block(wanted, tables, block.census, s, depth) for s in sources])

    values = np.empty((4 if band else 2, len(wanted), len(query)))
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for parts in ranker.parts():
            for part, block in zip(parts, pool.map(score, parts), strict=True):
                values[:, :, part.rows] = block
            if progress is not None:
                progress(parts[-1].rows.stop, len(query))
    return _summarize(query, gallery, protocol, values, resamples, seed)


def evaluate_embeddings(
    query: Annotations,
    embeddings: FloatArray,
    gallery: Annotations | None = None,
    gallery_embeddings: FloatArray | None = None,
    *,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 0,
    seed: int = 0,
) -> Scores:
    """Evaluate unit-norm embeddings ``[q, d]`` by cosine distance: see :func:`evaluate`.

    Without a gallery every query searches the other queries.
    """
    theirs = embeddings if gallery_embeddings is None else gallery_embeddings
    return evaluate(
        query,
        query if gallery is None else gallery,
        cosine(embeddings, theirs),
        protocol=protocol,
        resamples=resamples,
        seed=seed,
    )


def evaluate_codes(
    query: Annotations,
    codes: ByteArray,
    n_bits: int,
    gallery: Annotations | None = None,
    gallery_codes: ByteArray | None = None,
    *,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 0,
    seed: int = 0,
    band: bool = True,
) -> Scores:
    """Evaluate packed codes ``[q, ceil(n_bits / 8)]`` by Hamming distance: see :func:`evaluate`.

    Without a gallery every query searches the other queries.
    """
    theirs = codes if gallery_codes is None else gallery_codes
    return evaluate(
        query,
        query if gallery is None else gallery,
        hamming(codes, theirs, n_bits),
        protocol=protocol,
        resamples=resamples,
        seed=seed,
        band=band,
    )


def evaluate_cue_codes(
    query: Annotations,
    codes: LabelledCodes,
    weight: int = 1,
    gallery: Annotations | None = None,
    gallery_codes: LabelledCodes | None = None,
    *,
    protocol: Protocol | str = DEFAULT,
    resamples: int = 0,
    seed: int = 0,
    band: bool = True,
) -> Scores:
    """Evaluate label codes beside hash codes (:class:`landcue.codes.cue.CueCodes`).

    The distance is ``weight * Hamming(label) + Hamming(hash)``: see :func:`evaluate`. Without a
    gallery every query searches the other queries.
    """
    theirs = codes if gallery_codes is None else gallery_codes
    return evaluate(
        query,
        query if gallery is None else gallery,
        cue(codes, theirs, weight),
        protocol=protocol,
        resamples=resamples,
        seed=seed,
        band=band,
    )


def _check(
    query: Annotations, gallery: Annotations, distances: Distances, protocol: Protocol
) -> None:
    if not len(query) or not len(gallery):
        raise UsageError(
            f"{len(query)} queries and {len(gallery)} gallery images: give at least one of each"
        )
    if query.label_names != gallery.label_names:
        raise UsageError(
            "queries and gallery name different labels: use the same label columns for both"
        )
    if (distances.n_query, distances.n_gallery) != (len(query), len(gallery)):
        raise UsageError(
            f"distances are for {distances.n_query} queries and {distances.n_gallery} gallery "
            f"images, labels for {len(query)} and {len(gallery)}: give the same images for both"
        )
    if protocol.relevance == "same-class":
        check_single_label(query.labels, "queries")
        check_single_label(gallery.labels, "gallery")
    if protocol.exclude_group and not (query.groups and gallery.groups):
        raise UsageError(
            f"protocol {protocol.name} leaves out a query's own group, but the images have no "
            "groups: give them, or set exclude_group to false"
        )


def _summarize(
    query: Annotations,
    gallery: Annotations,
    protocol: Protocol,
    sources: Floats,
    resamples: int,
    seed: int,
) -> Scores:
    values, chance, *bounds = sources
    wanted = protocol.metrics()
    names = [metric.name for metric in wanted]
    counts = {"n_query": len(query), "n_gallery": len(gallery)}
    for metric, row in zip(wanted, values, strict=True):
        if metric.kind == "AP":
            left_out = f"n_without_relevant{suffix(metric.relevance)}"
            counts[left_out] = int(np.isnan(row).sum())
    intervals = mean_intervals(values, resamples, seed) if resamples else np.empty((0, 2))
    per_label = score_labels(query.label_names, query.labels, gallery.labels, values[0], chance[0])
    lows, highs = (_means(wanted, b) for b in bounds) if bounds else ({}, {})
    return Scores(
        protocol=protocol,
        metrics=_means(wanted, values),
        chance=_means(wanted, chance),
        intervals={
            name: (float(low), float(high))
            for name, (low, high) in zip(names, intervals, strict=False)
        },
        bands={name: (lows[name], highs[name]) for name in lows},
        per_query=dict(zip(names, values, strict=True)),
        per_label=per_label,
        macro=macro_means(per_label),
        counts=counts,
    )


def _means(wanted: tuple[Metric, ...], values: Floats) -> dict[str, float]:
    counted = np.count_nonzero(~np.isnan(values), axis=1)
    means = np.divide(
        np.nansum(values, axis=1), counted, out=np.full(len(wanted), np.nan), where=counted > 0
    )
    return {metric.name: float(mean) for metric, mean in zip(wanted, means, strict=True)}
