"""Search options, and which modes an archive has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from landcue.archive.manifest import Manifest
from landcue.errors import UsageError, did_you_mean
from landcue.search.exact import SHORTLIST
from landcue.search.rerank import check_weight

Mode = Literal[
    "auto", "embedding", "code", "cue", "two-stage", "ann", "fused", "fused-code", "regions"
]  # fmt: skip
MODES: tuple[Mode, ...] = get_args(Mode)

Reranker = Literal["none", "alpha-qe", "k-reciprocal"]
RERANKERS: tuple[Reranker, ...] = get_args(Reranker)
RERANKED = ("auto", "embedding", "two-stage", "ann", "fused")
"""The modes whose shortlist can be ranked again."""

FUSED = ("fused", "fused-code")
"""The modes that rank by embeddings or codes and label probabilities together."""

RESCORED = ("two-stage", "ann", "fused")
"""The modes that only find candidates, which exact distances then rank."""

LOCAL = ("fused-code", "regions")
"""The modes of archive folders alone: no server ranks like that."""

MOST_RECIPROCAL = 1_000
"""Longest shortlist whose pairs are all compared."""

EXACT_ROWS = 200_000
"""Up to this number of rows, auto scans embeddings exactly, in milliseconds."""

ASKED = "asked for"
"""The reason for a mode that the search specified."""

NEEDS = {
    "embedding": frozenset({"embedding"}),
    "ann": frozenset({"embedding"}),
    "code": frozenset({"code"}),
    "two-stage": frozenset({"embedding"}),
    "cue": frozenset({"cue", "code"}),
    "fused": frozenset({"embedding", "scores"}),
    "fused-code": frozenset({"embedding", "scores"}),
    "regions": frozenset({"embedding", "crop"}),
    "place": frozenset[str](),
    "list": frozenset[str](),
}


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Options of a search besides its query and filter.

    >>> from landcue import SearchOptions
    >>> len(archive.search("a.png", options=SearchOptions(min_score=0.9)))
    2

    Attributes:
        min_score: Leave out hits below this score, 1 or less.
        collapse: Leave out a hit whose embedding is within this cosine distance, 0..2, of that of
            an earlier hit.
        label_weight: For mode ``cue``: weight of a differing label bit.
        shortlist: For modes ``two-stage``, ``ann`` and ``fused``, and for ``rerank``: candidates
            ranked by exact distance. All pages together hold at most this number of hits, or k if
            that is larger.
        recall: Minimum measured recall, 0..1, of mode ``ann``, and for ``auto`` to choose it.
        cursor: Cursor of an earlier result of the same search: continue after its hits.
        exact_rows: For mode ``auto``: up to this number of allowed records are compared exactly.
        rerank: How the shortlist is ranked again, not in modes ``code`` and ``cue``: ``none``;
            ``alpha-qe``: by the query joined with its nearest records; ``k-reciprocal``: by shared
            neighbors in the shortlist. See :mod:`landcue.search.rerank`.
        fused_weight: For modes ``fused`` and ``fused-code``: weight of the labels, in standard
            deviations; by default what was measured on the archive's annotated records, see
            :mod:`landcue.search.fusion`.
        min_percentile: Leave out hits below this percentile, 0..100, of :class:`landcue.types.Hit`:
            the same scale for images and for texts, whose scores are lower. Not in mode ``fused``,
            which ``auto`` does not choose then.
    """

    min_score: float | None = None
    collapse: float | None = None
    label_weight: int = 1
    shortlist: int = SHORTLIST
    recall: float = 0.95
    cursor: str | None = None
    exact_rows: int = EXACT_ROWS
    rerank: str = "none"
    fused_weight: float | None = None
    min_percentile: float | None = None

    def check(self) -> None:
        """Check the values.

        Raises:
            UsageError: A value is not valid.
        """
        if self.min_score is not None and not self.min_score <= 1:
            raise UsageError(f"the minimum score is {self.min_score}: use 1 or less")
        if self.min_percentile is not None and not 0 <= self.min_percentile <= 100:
            raise UsageError(f"the minimum percentile is {self.min_percentile}: use 0 to 100")
        if self.collapse is not None and not 0 <= self.collapse <= 2:
            raise UsageError(f"collapse is {self.collapse}: use a cosine distance, 0 to 2")
        if not _is_whole(self.label_weight, 0):
            raise UsageError(
                f"the label weight is {self.label_weight!r}: use an integer, 0 or more"
            )
        if not _is_whole(self.shortlist, 1):
            raise UsageError(f"the shortlist is {self.shortlist!r}: use an integer, 1 or more")
        if not 0 <= self.recall <= 1:
            raise UsageError(f"recall is {self.recall}: use a value from 0 to 1")
        if not _is_whole(self.exact_rows, 0):
            raise UsageError(f"exact_rows is {self.exact_rows!r}: use an integer, 0 or more")
        if self.rerank not in RERANKERS:
            near = did_you_mean(self.rerank, RERANKERS)
            raise UsageError(f"unknown re-ranking {self.rerank!r}{near}")
        if self.fused_weight is not None:
            check_weight(self.fused_weight)
        self.check_pairs("the shortlist", self.shortlist)

    def check_pairs(self, name: str, count: int) -> None:
        """Check that re-ranking does not compare the pairs of too many candidates."""
        if self.rerank == "k-reciprocal" and count > MOST_RECIPROCAL:
            raise UsageError(
                f"{name} is {count:,}: k-reciprocal re-ranking compares all pairs of it, use at "
                f"most {MOST_RECIPROCAL:,}"
            )


def _is_whole(value: Any, least: int) -> bool:
    is_int = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_int and bool(value >= least)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a search was executed.

    Attributes:
        mode: The mode that was used.
        why: The reason for this mode, in one line.
        records: Number of records of the archive.
        allowed: Number of records that match the filter.
        scanned: Records whose distance was computed, or bounded, in the first stage.
        reranked: Candidates ranked by exact float distance in a second stage; 0 without one.
        recall: Measured recall of the approximate index; ``None`` for exact modes.
        lists: Lists that the approximate index visited.
        milliseconds: Duration from the checked query to the hits, including encoding of images.
    """

    mode: str
    why: str
    records: int
    allowed: int
    scanned: int = 0
    reranked: int = 0
    recall: float | None = None
    lists: int | None = None
    milliseconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {name: getattr(self, name) for name in self.__slots__}


def check_mode(mode: str, manifest: Manifest, rerank: str = "none") -> None:
    """Check that a mode is known and that the archive's model supports it.

    Raises:
        UsageError: The mode is unknown, or the model lacks a head; the message names it.
    """
    if mode not in MODES:
        raise UsageError(f"unknown mode {mode!r}{did_you_mean(mode, MODES)}")
    if rerank != "none" and mode not in RERANKED:
        raise UsageError(
            f"re-ranking {rerank} compares embeddings, which mode {mode} does not: use mode auto, "
            "embedding, two-stage, ann or fused"
        )
    if mode in FUSED and not manifest.label_names:
        raise UsageError(
            f"mode {mode} needs label probabilities, and the archive's model has no label head; "
            "search with mode embedding"
        )
    if mode == "regions" and not manifest.regions:
        raise UsageError(
            "mode regions needs embeddings of regions, which the archive does not hold: add them "
            "with landcue archive reembed --regions 3"
        )
    if mode in ("code", "fused-code") and not manifest.n_bits:
        raise UsageError(
            f"mode {mode} needs codes, and the archive's model has no hash head; "
            "search with mode embedding"
        )
    if mode == "cue" and not manifest.label_names:
        raise UsageError(
            "mode cue needs predicted labels, and the archive's model has no label head; "
            "search with mode embedding or code"
        )
