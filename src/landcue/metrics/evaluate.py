"""Evaluate a retrieval: rank the gallery for every query and average the metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from landcue.errors import UsageError
from landcue.metrics.annotations import Annotations
from landcue.metrics.blocks import Ranker
from landcue.metrics.distances import Distances, LabelledCodes, cosine, cue, hamming
from landcue.metrics.measure import measure
from landcue.metrics.per_label import macro_means, score_labels
from landcue.metrics.protocol import DEFAULT, Protocol, find_protocol
from landcue.metrics.relevance import check_single_label, pair_table
from landcue.metrics.scores import Scores, summarize
from landcue.metrics.scoring import Tables
from landcue.types import ByteArray, FloatArray

__all__ = ["Scores", "evaluate", "evaluate_codes", "evaluate_cue_codes", "evaluate_embeddings"]


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
    pairs = pair_table(query.labels, gallery.labels)
    tables = Tables(pairs)
    ranker = Ranker(query, gallery, distances, protocol, pairs)
    values = measure(
        ranker.parts(), ranker.rank, protocol, tables, len(query), band=band, progress=progress
    )
    per_label = score_labels(
        query.label_names, query.labels, gallery.labels, values[0, 0], values[1, 0]
    )
    scores = summarize(protocol, values, len(gallery), resamples, seed)
    return replace(scores, per_label=per_label, macro=macro_means(per_label))


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
