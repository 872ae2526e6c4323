"""Change between dates: which records pair, and how unusual their differences are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from landcue.archive.layout import embedding_fingerprint
from landcue.data.pairing import pair_places
from landcue.errors import ArchiveError, DataError, UsageError, counted, did_you_mean
from landcue.search.backend import Facts, Storage
from landcue.search.changes import Change, ChangeFacts, Changes
from landcue.search.dates import (
    Mask,
    Period,
    Rows,
    Side,
    allowed,
    check_bands,
    side_of,
    span,
    why_unpaired,
)
from landcue.search.filters import Filter, check_carried
from landcue.search.history import compare_histories, other_dates
from landcue.search.local import LocalBackend
from landcue.search.place import geometry_of
from landcue.search.unusual import (
    ChangeModel,
    Differences,
    conformal,
    join_scores,
    load_trained,
)
from landcue.types import Bounds

_SCORINGS = ("auto", "both", "trained", "measured")
_SEASONS = ("winter", "spring", "summer", "autumn")
_LABEL_STEP = 0.2
"""Least rise or fall of a predicted score that counts as a gained or a lost label."""


def find_changes(
    before: LocalBackend,
    after: LocalBackend,
    periods: tuple[Period, Period],
    *,
    where: Filter | None = None,
    labels_before: str | None = None,
    labels_after: str | None = None,
    gained: Sequence[str] = (),
    lost: Sequence[str] = (),
    by: str | None = None,
    unchanged: str | Iterable[tuple[str, str]] | None = None,
    scoring: str = "auto",
    alpha: float = 0.05,
    min_overlap: float = 0.5,
    k: int | None = None,
) -> Changes:
    """Return the unusual pairs of two archives, or of one: see :meth:`landcue.Archive.change`."""
    _check_values(periods, alpha, min_overlap, k)
    encoder = encoder_of(before.archive)
    models = _models(scoring, encoder)
    if encoder != encoder_of(after.archive):
        model = before.archive.model_folder
        advice = f": index its images into a new folder with --model {model}" if model else ""
        raise ArchiveError(
            f"{after.archive.folder} was made by another model than {before.archive.folder}, or "
            f"fitted apart from it{advice}"
        )
    backends = before, after
    if by is not None:
        for backend in backends:
            backend.vectors.score(by)
    masks = [allowed(backend, where) for backend in backends]
    sides = [
        side_of(*one) for one in zip(backends, masks, periods, ("before", "after"), strict=True)
    ]
    notes: list[str] = []
    distinct = [0] if after is before else [0, 1]
    undated = sum(int(np.isnat(backends[i].records.time[masks[i]]).sum()) for i in distinct)
    if undated:
        notes.append(f"{undated:,} records have no time and were left out")
    pairs = pair_places(sides[0].places(), sides[1].places(), min_overlap)
    if not len(pairs):
        raise DataError(why_unpaired(sides[0], sides[1], min_overlap))
    early, late = (f"{len(side.rows):,}" for side in sides)
    notes.append(f"of {early} earlier and {late} later records, each place makes one pair")
    one, other = sides[0].of(pairs.before), sides[1].of(pairs.after)
    known: Mask | None = None
    if unchanged is not None:
        first, second = _unchanged(one, other, masks, unchanged, min_overlap)
        known = _are_among(one.rows, other.rows, first, second)
        new = ~_are_among(first, second, one.rows, other.rows)
        one = Side(before, np.concatenate([one.rows, first[new]]))
        other = Side(after, np.concatenate([other.rows, second[new]]))
        known = np.append(known, np.ones(np.count_nonzero(new), np.bool_))
    check_bands(one, other)
    if known is None:
        others = other_dates(one, masks[0], later=False), other_dates(other, masks[1], later=True)
    else:  # pairs to calibrate on may have other dates than those to judge
        others = np.full(len(one.rows), -1), np.full(len(one.rows), -1)
    table = _compare(one, other, others, known, pairs.overlap, models, by)
    n = len(pairs)
    judged = int(np.count_nonzero((others[0][:n] >= 0) | (others[1][:n] >= 0)))
    if judged:
        notes.append(f"{counted(judged, 'pair')} also compared with other dates of their place")
    shown = table.p[:n] <= alpha
    flagged = int(np.count_nonzero(shown))
    shown &= _labels_match(one, other, labels_before, labels_after, gained, lost)[:n]
    rows = np.flatnonzero(shown)
    rows = rows[np.lexsort((rows, -table.z[rows], table.p[rows]))][:k]
    facts = ChangeFacts(
        pairs=n,
        calibration=len(table.p) if known is None else int(np.count_nonzero(known)),
        unchanged=known is not None,
        alpha=alpha,
        flagged=flagged,
        matched=int(np.count_nonzero(shown)),
        notes=tuple(notes),
    )
    return Changes(len(rows), lambda i, j: table.decode(rows[i:j]), facts)


def encoder_of(storage: Storage) -> str:
    """Return the fingerprint of what made the embeddings, before they were fitted to an archive."""
    model = storage.model_folder
    found = None if model is None else embedding_fingerprint(model)
    return found or storage.manifest.fingerprint


def _models(scoring: str, fingerprint: str) -> list[ChangeModel | None]:
    if scoring not in _SCORINGS:
        raise UsageError(f"unknown scoring {scoring!r}{did_you_mean(scoring, _SCORINGS)}")
    trained = None if scoring == "measured" else load_trained(fingerprint)
    if trained is None and scoring in ("both", "trained"):
        raise UsageError("there is no trained model of change for this encoder: use measured")
    return [trained] if scoring == "trained" else [None] if trained is None else [trained, None]


def _check_values(
    periods: tuple[Period, Period], alpha: float, min_overlap: float, k: int | None
) -> None:
    first, second = periods
    if second.start < first.end:
        raise UsageError(
            f"before {first.text} reaches past after {second.text}: use the earlier date "
            "as before, the later one as after"
        )
    if not 0 < alpha <= 1:
        raise UsageError(f"alpha {alpha:g}: use a false alarm rate above 0, or 1 for all pairs")
    if not 0 < min_overlap <= 1:
        raise UsageError(f"min_overlap {min_overlap:g}: use a share above 0, up to 1")
    if k is not None and k < 1:
        raise UsageError(f"k is {k}: use at least 1")


def _unchanged(
    one: Side, other: Side, masks: list[Mask], unchanged: Any, min_overlap: float
) -> tuple[Rows, Rows]:
    """Return the rows of pairs that are taken as unchanged, of each archive."""
    if not isinstance(unchanged, str):
        pairs = list(dict.fromkeys(tuple(pair) for pair in unchanged))
        if not all(len(pair) == 2 for pair in pairs):
            raise UsageError("unchanged: each pair needs the ids of an earlier and a later record")
        found: list[Rows] = []
        for side, ids in zip((one, other), zip(*pairs, strict=True), strict=False):
            rows = [side.records.find(id_) for id_ in ids]
            wrong = [id_ for id_, row in zip(ids, rows, strict=True) if row is None]
            if wrong:
                raise UsageError(f"unchanged: no record has the id {wrong[0]!r}")
            found.append(np.array(rows, np.int64))
        if not found:
            raise UsageError("unchanged: there is no pair; leave it out to calibrate on all pairs")
        return found[0], found[1]
    first, slash, second = unchanged.partition("/")
    if not slash:
        raise UsageError(f"unchanged {unchanged!r}: write two dates, such as 2010/2012")
    spans = [Period(*span(text, "unchanged"), text) for text in (first, second)]
    _check_values((spans[0], spans[1]), 1, 1, None)
    sides = [
        side_of(side.backend, mask, span, "unchanged")
        for side, mask, span in zip((one, other), masks, spans, strict=True)
    ]
    pairs = pair_places(sides[0].places(), sides[1].places(), min_overlap)
    if not len(pairs):
        raise DataError(f"unchanged {unchanged}: {why_unpaired(sides[0], sides[1], min_overlap)}")
    return sides[0].rows[pairs.before], sides[1].rows[pairs.after]


def _are_among(first: Rows, second: Rows, firsts: Rows, seconds: Rows) -> Mask:
    """Return which pairs of rows are among others."""
    width = 1 + max(int(second.max(initial=0)), int(seconds.max(initial=0)))
    return np.isin(first * width + second, firsts * width + seconds)


def _compare(
    one: Side,
    other: Side,
    others: tuple[Rows, Rows],
    known: Mask | None,
    overlap: npt.NDArray[np.float64],
    models: list[ChangeModel | None],
    by: str | None,
) -> _Table:
    sides = one, other
    days = [_numbered(side.records.time[side.rows].astype("datetime64[D]")) for side in sides]
    seasons = [_seasons(side) for side in sides]
    sensors = [side.records.column("sensor", side.rows).dictionary_encode() for side in sides]
    named = [
        np.array([*column.combine_chunks().dictionary.to_pylist(), "no sensor"], object)[
            column.combine_chunks().indices.fill_null(-1).to_numpy(zero_copy_only=False)
        ]
        for column in sensors
    ]
    codes = _numbered(np.concatenate(named).astype(str))
    sensor = codes[: len(one.rows)], codes[len(one.rows) :]
    older = [(side, rows) for side, rows in zip(sides, others, strict=True) if rows.max() >= 0]
    scene = _combined(*days, *sensor, *(_days_of(*one) for one in older))
    dates = 2 + (others[0] >= 0) + (others[1] >= 0)
    coarse = _combined(*seasons, *sensor, *([dates] if older else []))
    names = one.backend.manifest.label_names
    label = np.full(len(one.rows), -1)
    if names:
        label = one.backend.vectors.scores[one.rows].argmax(axis=1)
    fine = _combined(coarse, label)
    differences = Differences(one.embedding, other.embedding, one.rows, other.rows, scene)
    scores, distances = compare_histories(differences, others, models)
    rise = None if by is None else _rise(one, other, by)
    if rise is not None:
        scores = join_scores(scores, np.abs(rise))
    p, z, level = conformal(scores, [fine, coarse], known)

    def group_of(i: int) -> str:
        if level[i] < 0:
            return "all"
        season = " to ".join(_SEASONS[int(values[i])] for values in seasons)
        parts = [season, " to ".join(dict.fromkeys((str(named[0][i]), str(named[1][i]))))]
        if dates[i] > 2:
            parts.append(f"{dates[i]} dates")
        return ", ".join([*parts, names[label[i]]] if level[i] == 0 and names else parts)

    return _Table(one, other, p, z, distances, overlap, rise, group_of)


def _days_of(side: Side, rows: Rows) -> Rows:
    """Return a number for the day of each row of a side's archive; of -1, one of its own."""
    days = side.records.time[rows].astype("datetime64[D]").astype(np.int64)
    return np.where(rows < 0, np.iinfo(np.int64).min, days)


def _numbered(values: npt.NDArray[Any]) -> Rows:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _combined(*codes: npt.NDArray[Any]) -> Rows:
    """Return one number, from 0, for each combination of several."""
    whole = np.zeros(len(codes[0]), np.int64)
    for code in codes:
        number = _numbered(code)
        whole = _numbered(whole * (int(number.max(initial=0)) + 1) + number)
    return whole


def _seasons(side: Side) -> Rows:
    """Return 0 to 3 for winter, spring, summer and autumn of the hemisphere."""
    month = side.records.time[side.rows].astype("datetime64[M]").astype(np.int64) % 12
    south = side.records.bounds[side.rows][:, [1, 3]].sum(axis=1) < 0
    return ((month + 1) // 3 + 2 * south) % 4


def _labels_match(
    one: Side,
    other: Side,
    labels_before: str | None,
    labels_after: str | None,
    gained: Sequence[str],
    lost: Sequence[str],
) -> Mask:
    """Return bool ``[m]``: which pairs match all filters of labels."""
    mask = np.ones(len(one.rows), np.bool_)
    for side, text in ((one, labels_before), (other, labels_after)):
        where = Filter.parse(text)
        if not where.empty:
            mask &= where.mask(side.records, side.backend.vectors)[side.rows]
    for names, first, second in ((gained, one, other), (lost, other, one)):
        for given in names:
            name = check_carried(given, one.records.label_names | other.records.label_names)
            mask &= second.records.having(name)[second.rows]
            mask &= ~first.records.having(name)[first.rows]
            step = _steps(first, second, name)
            mask &= np.isnan(step) | (step >= _LABEL_STEP)
    return mask


def _steps(first: Side, second: Side, name: str) -> npt.NDArray[np.float64]:
    """Return by how much the score of a label rises; NaN where a record is annotated."""
    names = first.backend.manifest.label_names
    if name not in names:
        return np.full(len(first.rows), np.nan)
    annotated = np.zeros(len(first.rows), np.bool_)
    for side in (first, second):
        annotated |= side.records.labels.known[side.rows]
    return np.where(annotated, np.nan, _rise(first, second, name))


def _rise(first: Side, second: Side, name: str) -> npt.NDArray[np.float64]:
    """Return by how much the predicted score of a label rises."""
    scores = [side.backend.vectors.score(name)[side.rows] for side in (first, second)]
    return (scores[1] - scores[0]).astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """All compared pairs as columns."""

    before: Side
    after: Side
    p: npt.NDArray[np.float64]
    z: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]
    overlap: npt.NDArray[np.float64]
    rise: npt.NDArray[np.float64] | None
    group_of: Callable[[int], str]

    def decode(self, rows: Rows) -> list[Change]:
        sides = self.before.of(rows), self.after.of(rows)
        facts = zip(*(side.records.facts(side.rows) for side in sides), strict=True)
        names = self.before.backend.manifest.label_names
        steps = {name: _steps(*sides, name).tolist() for name in names}
        return [
            self._change(row, i, one, other, steps)
            for i, (row, (one, other)) in enumerate(zip(rows.tolist(), facts, strict=True))
        ]

    def _change(
        self, row: int, i: int, one: Facts, other: Facts, steps: dict[str, list[float]]
    ) -> Change:
        labels = [tuple((f[3] if f[2] is None else f[2]) or ()) for f in (one, other)]
        bounds = None if other[4] is None else Bounds(*other[4:8])

        def risen(name: str, sign: int) -> bool:
            step = sign * steps[name][i] if name in steps else np.nan
            return bool(np.isnan(step) or step >= _LABEL_STEP)

        return Change(
            before=one[0],
            after=other[0],
            before_datetime=one[8],
            after_datetime=other[8],
            p=float(self.p[row]),
            z=float(self.z[row]),
            distance=float(self.distance[row]),
            gained=tuple(x for x in labels[1] if x not in labels[0] and risen(x, 1)),
            lost=tuple(x for x in labels[0] if x not in labels[1] and risen(x, -1)),
            labels_before=labels[0],
            labels_after=labels[1],
            group=self.group_of(row),
            overlap=float(self.overlap[row]),
            rise=None if self.rise is None else float(self.rise[row]),
            bbox=bounds,
            geometry=geometry_of(bounds, other[13]),
        )
