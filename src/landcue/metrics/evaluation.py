"""Evaluate a retrieval: rank the gallery for every query and average the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from landcue.errors import UsageError
from landcue.metrics.annotations import Annotations, check_same_kind, labeled
from landcue.metrics.distances import Distances, LabeledCodes, cosine, cue, given, hamming
from landcue.metrics.own_label import OwnLabelPrecision, macro_means, score_labels
from landcue.metrics.protocol import RUNS, Protocol, find_protocol
from landcue.metrics.ranking import distance_keys
from landcue.metrics.relevance import (
    MOST_GAIN,
    GainTable,
    check_gain,
    check_single_label,
    pair_table,
)
from landcue.metrics.report import Report, summarize
from landcue.metrics.scoring import (
    PAIRS_AT_ONCE,
    Block,
    Part,
    Ranker,
    Tables,
    measure,
    rank_rows,
)
from landcue.types import ByteArray, FloatArray

Matrix = npt.NDArray[Any]
Labels = Annotations | npt.ArrayLike
"""Multi-hot ``[n, C]``, one class per image ``[n]``, or ids, labels, names and groups."""

_PARTS_AT_ONCE = 8


class Options(TypedDict, total=False):
    """How an evaluation of images with labels is done.

    Attributes:
        ks: Cut-offs of all metrics that have one; by default 20 and 100.
        relevance: When a gallery image is relevant: ``any`` shared label (the default), ``j0.4``
            (Jaccard overlap of at least 0.4; any number in 0..1), ``exact`` (the same labels) or
            ``same-class``.
        protocol: Rules and cut-offs of its own, in place of ``ks`` and ``relevance``; a name of
            :data:`PROTOCOLS` makes results comparable with published ones.
        exclude_self: Whether the gallery image with a query's own id is left out. By default it
            is without a gallery, and is not with one: two collections may use the same ids. (A
            gallery that is the very object of the queries, with their very labels, is none.)
        label_counts: Images by label name in the training part: they decide which labels are
            rare, medium and frequent. Without them the gallery's counts do.
        per_label: Whether to compute own-label AP as well (``Report.per_label``), the default. It
            costs a quarter to a half of the time of the other metrics.
        resamples: Bootstrap resamples for 95 % intervals; 0, the default, for no intervals.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by the worst and the best order of ties; by default for
            codes only, which tie often.
        progress: Called with the queries done and their number.
        block: Pairs that one thread ranks at once, about 120 bytes each.
    """

    ks: Sequence[int]
    relevance: str
    protocol: Protocol | str | None
    exclude_self: bool | None
    label_counts: Mapping[str, int] | None
    per_label: bool
    resamples: int
    seed: int
    band: bool
    progress: Callable[[int, int], None] | None
    block: int


def evaluate(
    embeddings: FloatArray,
    labels: Labels,
    *,
    gallery: FloatArray | None = None,
    gallery_labels: Labels | None = None,
    **options: Unpack[Options],
) -> Report:
    """Evaluate embeddings by cosine distance.

    Every query ranks the gallery. Without a gallery the images are both, and each is left out of
    its own ranking. Equal distances tie: a metric is then its mean over all orders of the tied
    images, so that the order of the rows changes nothing. The report holds, for each metric, the
    mean over queries and the chance level; see :meth:`Report.to_pandas`.

    Args:
        embeddings: Unit vectors of the queries, ``[q, d]``, any float type.
        labels: What is in them: multi-hot ``[q, C]``, or one class per image ``[q]``. For ids,
            label names or groups give :func:`annotate`'s value.
        gallery: Unit vectors of the images searched, ``[n, d]``.
        gallery_labels: What is in those, with the same label columns.
        **options: ``ks``, ``relevance``, ``protocol`` and others: see :class:`Options`.

    Raises:
        UsageError: Shapes, labels or the protocol contradict each other, or a vector is not
            finite or not of unit norm.

    >>> vectors = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]]
    >>> report = evaluate(vectors, [0, 0, 1, 1], ks=(1,))
    >>> round(report.metrics["P@1"], 3)  # 1, 1, and 1/3 twice: three images tie there
    0.667
    """
    theirs = _searched(embeddings, gallery, gallery_labels, "embeddings", options)
    distances = cosine(embeddings, theirs)
    return evaluate_distances(distances, labels, gallery_labels, **options)


def evaluate_codes(
    codes: ByteArray,
    n_bits: int,
    labels: Labels,
    *,
    gallery: ByteArray | None = None,
    gallery_labels: Labels | None = None,
    **options: Unpack[Options],
) -> Report:
    """Evaluate packed binary codes by Hamming distance, with the band of their ties.

    Args:
        codes: uint8 ``[q, ceil(n_bits / 8)]`` as :func:`landcue.codes.pack_bits` packs them.
        n_bits: Bits of a code.
        labels: This and the other arguments as for :func:`evaluate`.
        gallery: Codes of the images searched, ``[n, ceil(n_bits / 8)]``.
        gallery_labels: Their labels.
        **options: See :class:`Options`.

    Raises:
        UsageError: As :func:`evaluate`, or the codes are not packed codes of ``n_bits`` bits.

    >>> report = evaluate_codes(np.array([[0], [1], [7]], np.uint8), 3, [0, 0, 1], ks=(1,))
    >>> report.metrics["hit rate@1"]
    1.0
    """
    theirs = _searched(codes, gallery, gallery_labels, "codes", options)
    distances = hamming(codes, theirs, n_bits)
    options.setdefault("band", True)
    return evaluate_distances(distances, labels, gallery_labels, **options)


def evaluate_cue_codes(
    codes: LabeledCodes,
    labels: Labels,
    weight: int = 1,
    *,
    gallery: LabeledCodes | None = None,
    gallery_labels: Labels | None = None,
    **options: Unpack[Options],
) -> Report:
    """Evaluate label codes beside hash codes (:class:`landcue.codes.CueCodes`).

    The distance is ``weight * Hamming(label codes) + Hamming(hash codes)``; all else is as in
    :func:`evaluate_codes`.

    Raises:
        UsageError: As :func:`evaluate`, or the codes differ in bits.

    >>> from landcue.codes import CueCodes
    >>> codes = CueCodes(np.array([[1], [1], [2]], np.uint8), np.zeros((3, 1), np.uint8), 2, 8)
    >>> evaluate_cue_codes(codes, [0, 0, 1], ks=(1,)).metrics["hit rate@1"]
    1.0
    """
    theirs = _searched(codes, gallery, gallery_labels, "codes", options)
    distances = cue(codes, theirs, weight)
    options.setdefault("band", True)
    return evaluate_distances(distances, labels, gallery_labels, **options)


def evaluate_distances(
    distances: Distances | Matrix,
    labels: Labels,
    gallery_labels: Labels | None = None,
    *,
    ks: Sequence[int] = (20, 100),
    relevance: str = "any",
    protocol: Protocol | str | None = None,
    exclude_self: bool | None = None,
    label_counts: Mapping[str, int] | None = None,
    per_label: bool = True,
    resamples: int = 0,
    seed: int = 0,
    band: bool = False,
    progress: Callable[[int, int], None] | None = None,
    block: int = PAIRS_AT_ONCE,
) -> Report:
    """Evaluate any distances: a matrix, or one that is computed a few queries at a time.

    Queries are taken a few at a time, by up to four threads, so memory grows with the gallery
    alone. The keywords are those of :class:`Options`.

    Args:
        distances: Smaller is nearer: a matrix ``[q, n]``, or a value of
            :func:`cosine`, :func:`hamming` or :func:`cue`.
        labels: Of the queries, see :func:`evaluate`.
        gallery_labels: Of the gallery; without it the queries are the gallery.
        ks: Cut-offs.
        relevance: When an image is relevant.
        protocol: Rules in place of both.
        exclude_self: Whether a query is left out of its own ranking.
        label_counts: Images by label in the training part.
        per_label: Whether to compute own-label AP.
        resamples: Bootstrap resamples.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by the orders of ties.
        progress: Called with the queries done and their number.
        block: Pairs that one thread ranks at once.

    Raises:
        UsageError: Sizes or labels do not fit each other or the protocol, or a distance is NaN.

    >>> report = evaluate_distances(np.array([[0, 0]]), [[1]], [[0], [1]], ks=(1,))
    >>> report.metrics["mAP"]  # the mean of 1 and 1/2: the two orders of the tie
    0.75
    """
    if not isinstance(distances, Distances):
        distances = given(np.asarray(distances))
    rules = Protocol.at(ks, relevance) if protocol is None else find_protocol(protocol)
    query = labeled(labels, "queries", gallery_labels)
    same = gallery_labels is None or gallery_labels is labels
    gallery = query if same else labeled(gallery_labels, "gallery", labels)
    exclude_self = same if exclude_self is None else exclude_self
    _check(query, gallery, rules)
    if exclude_self and not same:
        check_same_kind(query.ids, gallery.ids, "query ids", "gallery ids")
    pairs = pair_table(query.labels, gallery.labels)
    ranker = Ranker(query, gallery, distances, rules, pairs, exclude_self, block)
    own = OwnLabelPrecision(query, ranker.by_place(gallery.labels)) if per_label else None

    def measure_labels(part: Part, block: Block) -> None:
        if own is not None:
            own.add(part.rows, block)

    values = measure(
        ranker.parts(),
        partial(ranker.rank, places=per_label),
        rules,
        Tables(pairs),
        len(query),
        band=band,
        progress=progress,
        also=measure_labels,
    )
    report = summarize(rules, values, len(gallery), resamples, seed, exclude_self=exclude_self)
    if own is None:
        return report
    labels_of = score_labels(
        query.label_names, gallery.labels, own.values, own.chance, label_counts
    )
    return replace(report, per_label=labels_of, macro=macro_means(labels_of), own_label=own.values)


def evaluate_scores(
    scores: Matrix,
    gains: Matrix,
    *,
    query_ids: Sequence[str] = (),
    gallery_ids: Sequence[str] = (),
    exclude_self: bool = False,
    protocol: Protocol | str = RUNS,
    resamples: int = 0,
    seed: int = 0,
    band: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Evaluate a matrix of scores against a matrix of gains.

    Both matrices are read a few rows at a time, so they may be memory-mapped files.

    Args:
        scores: Larger is nearer, ``[q, n]``; equal scores tie.
        gains: 0 (not relevant) or more, ``[q, n]``.
        query_ids: q ids.
        gallery_ids: n ids, which order ties where the protocol says so.
        exclude_self: Whether the gallery item with a query's own id is left out.
        protocol: A protocol with relevance ``given`` or ``g<t>`` and gain ``judged``.
        resamples: Bootstrap resamples for the intervals; 0 for no intervals.
        seed: Seed of the resamples.
        band: Whether to bound the metrics by ordering ties by gain.
        progress: Called with the queries done and their number.

    Raises:
        UsageError: The shapes contradict each other, the matrices are empty, ids are given for
            one side only, occur twice or would match only after conversion, a score is NaN, or a
            gain negative; names the place.

    >>> evaluate_scores(np.array([[0.9, 0.4, 0.1]]), np.array([[0, 1, 0]])).metrics["MRR"]
    0.5
    """
    protocol = find_protocol(protocol)
    _check_scores(scores, gains, query_ids, gallery_ids)
    if exclude_self and not len(query_ids):
        raise UsageError("exclude_self needs ids: pass query_ids and gallery_ids")
    if exclude_self:
        check_same_kind(query_ids, gallery_ids, "query ids", "gallery ids")
    n_query, n = scores.shape
    table = _gain_table(gains)
    ids = list(gallery_ids) or list(range(n))
    by_id = np.array(sorted(range(n), key=ids.__getitem__), np.int64)
    column = {ids[row]: place for place, row in enumerate(by_id)}
    queries = query_ids if exclude_self else ()
    own = np.array([column.get(name, -1) for name in queries] or [-1] * n_query)

    def rank(rows: slice) -> Block:
        part = np.asarray(scores[rows])
        if part.dtype.kind != "f":
            part = part.astype(np.float64)
        keys = distance_keys(-part)[:, by_id]
        codes = table.codes(np.asarray(gains[rows], np.float64))[:, by_id]
        hidden = np.zeros(keys.shape, np.bool_)
        with_self = np.flatnonzero(own[rows] >= 0)
        hidden[with_self, own[rows][with_self]] = True
        return rank_rows(keys, codes, hidden, table.n_codes, ties=protocol.ties == "expectation")

    step = max(1, PAIRS_AT_ONCE // max(n, table.n_codes))
    parts = [slice(first, min(first + step, n_query)) for first in range(0, n_query, step)]

    def batches() -> Generator[list[slice]]:
        for first in range(0, len(parts), _PARTS_AT_ONCE):
            yield parts[first : first + _PARTS_AT_ONCE]

    values = measure(
        batches(), rank, protocol, Tables(table), n_query, band=band, progress=progress
    )
    return summarize(protocol, values, n, resamples, seed, exclude_self=exclude_self)


_Searched = TypeVar("_Searched")


def _searched(
    own: _Searched,
    gallery: _Searched | None,
    gallery_labels: object,
    what: str,
    options: Options,
) -> _Searched:
    """Return what is searched; queries stay in the ranking where that is another collection."""
    if (gallery is None) != (gallery_labels is None):
        missing = what if gallery is None else "labels"
        raise UsageError(f"the {missing} of the gallery are missing: pass both or none")
    if gallery is None or gallery is own:
        return own
    if options.get("exclude_self") is None:
        options["exclude_self"] = False
    return gallery


def _check(query: Annotations, gallery: Annotations, protocol: Protocol) -> None:
    if not len(query) or not len(gallery):
        raise UsageError(
            f"{len(query)} queries and {len(gallery)} gallery images: pass at least one of each"
        )
    if query.label_names != gallery.label_names:
        raise UsageError(
            "queries and gallery name different labels: use the same label columns for both"
        )
    if protocol.relevance == "same-class":
        check_single_label(query.labels, "queries")
        check_single_label(gallery.labels, "gallery")
    if protocol.exclude_group and not (query.groups and gallery.groups):
        raise UsageError(
            f"protocol {protocol.name} leaves out a query's own group, but the images have no "
            "groups: pass them, or set exclude_group to false"
        )


def _check_scores(
    scores: Matrix, gains: Matrix, query_ids: Sequence[str], gallery_ids: Sequence[str]
) -> None:
    if scores.ndim != 2 or scores.shape != gains.shape:
        raise UsageError(
            f"scores have shape {list(scores.shape)}, gains {list(gains.shape)}: pass [queries, "
            "gallery] for both"
        )
    if not scores.size:
        raise UsageError(
            f"{scores.shape[0]} queries and {scores.shape[1]} gallery items: pass at least one of "
            "each"
        )
    if (len(query_ids) > 0) != (len(gallery_ids) > 0):
        raise UsageError("ids of queries or of the gallery are missing: pass both or none")
    for ids, n, what in ((query_ids, len(scores), "query"), (gallery_ids, len(gains.T), "gallery")):
        if len(ids) not in (0, n):
            raise UsageError(f"{len(ids)} {what} ids for {n}: pass one for each")
        twice = next((name for name, times in Counter(ids).items() if times > 1), None)
        if twice is not None:
            raise UsageError(f"{what} id {twice!r} occurs twice: use a different id for each image")
    step = max(1, PAIRS_AT_ONCE // scores.shape[1])
    for first in range(0, len(scores), step):
        broken = np.isnan(scores[first : first + step])
        if broken.any():
            row, at = (int(i) for i in np.argwhere(broken)[0])
            raise UsageError(
                f"the score of query {first + row} and gallery item {at} is NaN: pass a number"
            )


def _gain_table(gains: Matrix) -> GainTable:
    table = GainTable.of(())
    step = max(1, PAIRS_AT_ONCE // gains.shape[1])
    for first in range(0, len(gains), step):
        part = np.asarray(gains[first : first + step], np.float64)
        broken = ~((part >= 0) & (part <= MOST_GAIN))
        if broken.any():
            row, at = (int(i) for i in np.argwhere(broken)[0])
            check_gain(float(part[row, at]), f"query {first + row} and gallery item {at}")
        table = GainTable.of([*table.levels.tolist(), *np.unique(part).tolist()])
    return table
