"""What to label next: records about which the marks say little, and which differ from each other.

A ridge regression of the marks to +1 and -1 is taken as a Gaussian posterior: of each record it has
a mean (is it relevant?) and a standard deviation (how far is it from all that is marked?). The
record with the largest ``spread * deviation - |mean - level|`` is suggested: the "straddle" of
Bryan et al., NIPS 2005. Deviations then shrink as if it were marked already, which is possible as
they do not depend on the mark, and the next one is chosen: so a batch is diverse. A small and a
large ``spread`` take turns: the small one finds the border of what is relevant, the large one kinds
of it that look unlike all that is marked, which the other would never suggest.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.data.marks import Marks
from landcue.errors import DataError, EmptyArchiveError, UsageError, did_you_mean
from landcue.search.filters import Filter, check_carried
from landcue.search.local import LocalBackend
from landcue.search.pages import Page
from landcue.search.place import HALFWAY_KM, center, kilometers
from landcue.search.plan import Plan
from landcue.search.records import Records
from landcue.search.result import Found, Picture, Result
from landcue.types import Bounds, FloatArray

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_CHUNK = 65_536
_SAMPLE = 20_000
_PENALTY = 1.0
_SHORTLIST = 4_096
_UNMARKED = 200


@dataclass(frozen=True, slots=True)
class Rule:
    """How records are chosen; the defaults were chosen on validation images.

    Attributes:
        spread: Weights of the standard deviation, in turn; 0 for uncertainty only, large ones to
            explore what is unlike all that is marked.
        level: Mean at which a record is taken as uncertain: -1 not relevant, 1 relevant.
        unmarked: So many records marked as not relevant count as much as 200 random records that
            are not marked, which are taken as not relevant.
        diverse: Whether the standard deviations shrink with each choice.
    """

    spread: tuple[float, ...] = (1.0, 4.0)
    level: float = 0.2
    unmarked: float = 1.0
    diverse: bool = True


DEFAULT = Rule()


class Posterior:
    """A Gaussian posterior of the relevance of embeddings, given marked ones.

    The weights of relevant and other records have equal sums, so that a mean of 0 is halfway.
    """

    def __init__(self, x: Floats, relevant: Mask, background: Floats, unmarked: float) -> None:
        """Fit to unit vectors.

        Args:
            x: Marked, ``[m, d]``.
            relevant: Their marks, bool ``[m]``; at least one is true.
            background: Not marked, ``[b, d]``, b >= 1, taken as not relevant.
            unmarked: Number of marked records that count as much as all of the background.
        """
        m, n_good = len(x), int(np.count_nonzero(relevant))
        others = m - n_good + unmarked
        weight = np.where(relevant, 0.5 * m / n_good, 0.5 * m / others)
        rest = np.full(len(background), 0.5 * m * unmarked / others / len(background))
        weight = np.concatenate([weight, rest])
        x = np.concatenate([x, background])
        target = np.concatenate([np.where(relevant, 1.0, -1.0), np.full(len(background), -1.0)])
        self.center = weight @ x / weight.sum()
        self.level = float(weight @ target / weight.sum())
        root = np.sqrt(weight)
        scaled = root[:, None] * (x - self.center)
        self.covariance = np.linalg.inv(scaled.T @ scaled + _PENALTY * np.eye(x.shape[1]))
        self.weights = self.covariance @ (scaled.T @ (root * (target - self.level)))

    def mean(self, x: npt.NDArray[np.floating[Any]]) -> Floats:
        """Return the mean relevance of ``[n, d]``, around -1 and 1."""
        found = x @ self.weights.astype(x.dtype)
        return found.astype(np.float64) + (self.level - self.center @ self.weights)


class Space:
    """Embeddings ``[n, d]`` centered on a sample of them and scaled to unit length."""

    def __init__(self, embedding: FloatArray, seed: int) -> None:
        n = len(embedding)
        rows = np.sort(np.random.default_rng(seed).choice(n, min(n, _SAMPLE), replace=False))
        self.center = embedding[rows].mean(axis=0)
        self._embedding = embedding

    def take(self, rows: Rows) -> FloatArray:
        """Return some rows, float32 ``[m, d]``."""
        x = self._embedding[rows] - self.center
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)


def choose(
    space: Space,
    marks: Sequence[tuple[Rows, Mask]],
    candidates: Rows,
    n: int,
    *,
    seed: int = 0,
    rule: Rule = DEFAULT,
    places: Floats | None = None,
    apart: float = 0.0,
) -> tuple[Rows, Floats]:
    """Return at most n candidates to mark next, the most telling first, and their mean relevance.

    Args:
        space: The embeddings.
        marks: For each label, the rows that are marked, ``[m]``, and their marks, bool ``[m]``, of
            which at least one is true. The batch has equal shares of all labels, and leaves out
            the last ones if it is smaller.
        candidates: Rows to choose from, ``[c]``, c >= 1.
        n: Size of the batch.
        seed: Of the records that are taken as not relevant.
        rule: How records are chosen.
        places: Footprints of the candidates ``[c, 4]``, for ``apart``.
        apart: Least distance of two choices in kilometers. Records without a footprint may always
            be chosen.
    """
    marks = marks[:n]
    draw = np.random.default_rng(seed)
    background = np.sort(draw.choice(candidates, min(len(candidates), _UNMARKED), replace=False))
    rest = space.take(background).astype(np.float64)
    posteriors = [
        Posterior(space.take(rows).astype(np.float64), relevant, rest, rule.unmarked)
        for rows, relevant in marks
    ]
    means = np.empty((len(candidates), len(marks)))
    for i in range(0, len(candidates), _CHUNK):
        x = space.take(candidates[i : i + _CHUNK])
        for j, posterior in enumerate(posteriors):
            means[i : i + _CHUNK, j] = posterior.mean(x)
    allowed = np.ones(len(candidates), np.bool_)
    batches: list[list[tuple[int, float]]] = []
    for j, posterior in enumerate(posteriors):
        share = n // len(marks) + (j < n % len(marks))
        most = max(_SHORTLIST, 20 * n)
        doubt = np.abs(means[:, j] - rule.level)
        while True:
            left = np.flatnonzero(allowed)
            if len(left) > most:
                left = np.sort(left[np.argpartition(doubt[left], most)[:most]])
            x = space.take(candidates[left]).astype(np.float64)
            near = None if places is None or not apart else _Near(places[left], apart)
            found = left[_batch(posterior, x, doubt[left], share, rule, near)]
            if len(found) == share or len(left) == np.count_nonzero(allowed):
                break
            most *= 4  # too many were near each other
        allowed[found] = False
        if places is not None and apart:
            for row in found:
                allowed &= ~_Near(places, apart).to(int(row))
        batches.append([(int(row), float(means[row, j])) for row in found])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*batches))
    chosen = [one for one in turns if one is not None]
    rows = np.array([row for row, _ in chosen], np.int64)
    return candidates[rows], np.array([mean for _, mean in chosen], np.float64)


def _batch(
    posterior: Posterior, x: Floats, doubt: Floats, n: int, rule: Rule, near: _Near | None
) -> list[int]:
    """Choose n of some records one by one."""
    x = x - posterior.center
    spread = x @ posterior.covariance
    variance = np.einsum("nd,nd->n", spread, x)
    allowed = np.ones(len(x), np.bool_)
    chosen: list[int] = []
    while len(chosen) < n and allowed.any():
        gain = (
            rule.spread[len(chosen) % len(rule.spread)] * np.sqrt(np.maximum(variance, 0)) - doubt
        )
        best = int(np.where(allowed, gain, -np.inf).argmax())
        chosen.append(best)
        allowed[best] = False
        if near is not None:
            allowed &= ~near.to(best)
        if rule.diverse:
            shared = spread @ x[best]
            scale = 1 / (1 + shared[best])
            variance -= scale * shared**2
            spread -= np.outer(scale * shared, spread[best])
    return chosen


@dataclass(frozen=True, slots=True)
class _Near:
    places: Floats
    apart: float

    def to(self, row: int) -> Mask:
        west, south, east, north = self.places[row].tolist()
        if np.isnan(west):
            return np.zeros(len(self.places), np.bool_)
        away = kilometers(self.places, center(Bounds(west, south, east, north)))
        return away < self.apart


def suggest(
    backend: LocalBackend,
    marks: Marks | None,
    n: int,
    *,
    label: str | None = None,
    where: Filter | None = None,
    apart: float = 0.0,
    seed: int = 0,
    picture: Picture | None = None,
) -> Result:
    """Suggest records to label next: see :meth:`landcue.Archive.suggest`."""
    started = time.perf_counter()
    if n < 1:
        raise UsageError(f"{n} suggestions were asked for: use 1 or more")
    if seed < 0:
        raise UsageError(f"the seed is {seed}: use 0 or more")
    if not 0 <= apart < HALFWAY_KM:
        raise UsageError(f"the least distance is {apart} km: use 0 to 20000")
    records, vectors = backend.records, backend.vectors
    if not len(records):
        raise EmptyArchiveError("the archive holds no records; index images into it first")
    mask = np.ones(len(records), np.bool_)
    if where is not None and not where.empty:
        mask = where.mask(records, vectors)
        if not mask.any():
            raise DataError(where.why_empty(records, vectors))
    allowed = int(np.count_nonzero(mask))
    if marks is None:
        name, known = "annotated labels", _own_marks(records, label)
        mask &= ~records.labels.known
        note = None
    else:
        name, (known, marked, note) = marks.name, _given_marks(records, marks, label)
        mask[marked] = False
    candidates = np.flatnonzero(mask)
    if not len(candidates):
        raise DataError(f"{name}: nothing is left to label: all {allowed:,} records are labeled")
    rows, mean = choose(
        Space(vectors.embedding, seed), known, candidates, n,
        seed=seed, places=records.bounds[candidates] if apart else None, apart=apart,
    )  # fmt: skip
    if len(rows) < n:
        few = f"{len(rows):,} of {n:,} suggestions: no more records are left"
        note = few if note is None else f"{few}; {note}"
    distances = (1 - np.clip(mean, -1, 1)) / 2
    page = Page(distances, rows, np.zeros(len(rows), np.int64), None, False)
    found = Found(page, 1.0, backend.read_facts(rows), backend)
    milliseconds = (time.perf_counter() - started) * 1_000
    plan = Plan("suggest", "asked for", len(records), allowed, len(candidates),
                milliseconds=milliseconds)  # fmt: skip
    return Result(name, "suggest", found, () if label is None else (label,), None, note, plan,
                  picture)  # fmt: skip


def _own_marks(records: Records, label: str | None) -> list[tuple[Rows, Mask]]:
    """Return the marks that annotations are, of one label or of all, the rarest first."""
    rows = np.flatnonzero(records.labels.known)
    if not len(rows):
        raise UsageError("no record is labeled: specify marks, or index with labels")
    if label is not None:
        label = check_carried(label, records.labels.names)
    names = records.labels.names if label is None else (label,)
    truth = {name: records.labels.having(name)[rows] for name in names}
    return _by_label(truth, rows, label or "annotated labels", label is None)


def _given_marks(
    records: Records, marks: Marks, label: str | None
) -> tuple[list[tuple[Rows, Mask]], Rows, str | None]:
    """Return marks as rows by label, all marked rows, and a line if there are unknown ids."""
    if not len(marks):
        raise UsageError(f"{marks.name}: no record is marked or labeled")
    places = {id_: records.find(id_) for id_ in marks.relevant.keys() | marks.labels.keys()}
    unknown = sorted(id_ for id_, row in places.items() if row is None)
    if len(unknown) == len(places):
        near = did_you_mean(unknown[0], records.near_ids(unknown[0]), most=3)
        raise UsageError(f"{marks.name}: no record has the id {unknown[0]!r}, or any other of the "
                         f"{len(places):,} marked ids{near}")  # fmt: skip
    note = None
    if unknown:
        note = (f"{len(unknown):,} of {len(places):,} marked ids are not in the archive, such as "
                f"{unknown[0]!r}")  # fmt: skip
    if label is None and marks.labels and not marks.relevant:
        names = sorted({name for names in marks.labels.values() for name in names})
        judged = {name: marks.judged(name) for name in names}
    else:
        judged = {label or "relevant": marks.judged(label)}
    ids = [id_ for id_ in next(iter(judged.values()), {}) if places[id_] is not None]
    rows = np.array([places[id_] for id_ in ids], np.int64)
    truth = {name: np.array([one[id_] for id_ in ids], np.bool_) for name, one in judged.items()}
    distinct = label is None and "relevant" not in judged
    known = _by_label(truth, rows, label or marks.name, distinct)
    return known, np.array([row for row in places.values() if row is not None], np.int64), note


def _by_label(
    truth: dict[str, Mask], rows: Rows, name: str, distinct: bool
) -> list[tuple[Rows, Mask]]:
    """Return rows and marks of each label that occurs; only such as differ if ``distinct``."""
    useful = {
        name: mask for name, mask in truth.items() if mask.any() and not (distinct and mask.all())
    }
    if not useful and distinct:
        raise UsageError(
            f"{name}: all {len(rows):,} labeled records carry the same labels: label some others "
            "too, or name the label to find more of"
        )
    if not useful:
        raise UsageError(f"{name}: none of {len(rows):,} records is marked as good: mark one")
    order = sorted(useful, key=lambda name: (int(useful[name].sum()), name))
    return [(rows, useful[name]) for name in order]
