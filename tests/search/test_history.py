"""Pairs judged with other dates of their place, against loops."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

import landcue
from landcue.search.dates import Side
from landcue.search.history import compare_histories, other_dates
from landcue.search.unusual import Differences, compare_pairs, conformal
from landcue.types import Bounds


def robust(values):
    middle = np.median(values)
    return (values - middle) / (1.4826 * np.median(np.abs(values - middle)))


def series(seed=0, m=150, d=8, restless=30):
    """Four dates of m places, float32 ``[4, m, d]``: the last ones differ at every date."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(m, d))
    noise = np.where(np.arange(m) >= m - restless, 0.8, 0.2)[:, None]
    return np.stack([base + noise * rng.normal(size=(m, d)) for _ in range(4)]).astype(np.float32)


def test_scores_as_computed_one_by_one():
    dates = series()
    m = dates.shape[1]
    vectors = dates.reshape(-1, dates.shape[2])
    rows = np.arange(m)
    zero = np.zeros(m, np.int64)
    earlier, later = np.where(rows % 2, rows, -1), np.where(rows % 3, 3 * m + rows, -1)
    pairs = Differences(vectors, vectors, m + rows, 2 * m + rows, zero)
    found, distances = compare_histories(pairs, (earlier, later), [None])

    def scores(first, second):
        at = np.arange(len(first))
        pair = Differences(np.float32(first), np.float32(second), at, at, 0 * at)
        return robust(compare_pairs(pair, [None])[0])

    one = [(dates[0, i] + dates[1, i]) / 2 if i % 2 else dates[1, i] for i in rows]
    other = [(dates[2, i] + dates[3, i]) / 2 if i % 3 else dates[2, i] for i in rows]
    before = dict(zip(rows[rows % 2 > 0], scores(dates[0, rows % 2 > 0], dates[1, rows % 2 > 0]),
                      strict=True))  # fmt: skip
    after = dict(zip(rows[rows % 3 > 0], scores(dates[2, rows % 3 > 0], dates[3, rows % 3 > 0]),
                     strict=True))  # fmt: skip
    both = (scores(dates[1], dates[2]) + scores(one, other)) / 2
    for i in rows:
        own = [side[i] for side in (before, after) if i in side]
        assert found[i] == pytest.approx(both[i] - 0.5 * np.mean(own or [0]), abs=1e-3)
    apart = dates[2] - dates[1]
    assert distances == pytest.approx(0.5 * (apart**2).sum(axis=1), abs=1e-4)
    none = np.full(m, -1)
    alone = compare_histories(pairs, (none, none), [None])
    assert np.array_equal(alone[0], compare_pairs(pairs, [None])[0])


def test_places_that_changed_once_come_before_those_that_differ_at_every_date():
    for seed in range(5):
        dates = series(seed)
        m = dates.shape[1]
        dates[2:, :5] += 1.2 * np.sign(np.random.default_rng(seed).normal(size=(5, dates.shape[2])))
        vectors, rows = dates.reshape(-1, dates.shape[2]), np.arange(m)
        pairs = Differences(vectors, vectors, m + rows, 2 * m + rows, 0 * rows)
        ranks = [
            np.argsort(np.argsort(-scores))[:5].mean()
            for scores, _ in (
                compare_pairs(pairs, [None]),
                compare_histories(pairs, (rows, 3 * m + rows), [None]),
            )
        ]
        assert ranks[1] < ranks[0] / 2


def test_false_alarms_are_within_the_rate():
    """Places that do not change are exchangeable with those calibrated on, restless or not."""
    rng = np.random.default_rng(0)
    alarms, judged = 0, 0
    for draw in range(60):
        dates = series(100 + draw)[:, rng.permutation(150)]
        m = dates.shape[1]
        dates[2:, 130:] += 4
        vectors, rows = dates.reshape(-1, dates.shape[2]), np.arange(m)
        pairs = Differences(vectors, vectors, m + rows, 2 * m + rows, 0 * rows)
        scores, _ = compare_histories(pairs, (rows, 3 * m + rows), [None])
        p, _, _ = conformal(scores, [0 * rows], rows < 60)
        alarms += np.count_nonzero(p[60:130] <= 0.1)
        judged += 70
    assert alarms / judged == pytest.approx(6 / 61, abs=0.025)


def test_other_dates_as_found_one_by_one(made, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        place, year = int(rng.integers(12)), int(rng.integers(2010, 2016))
        cell = f"utm33N-640m-n007000-e{place:06}" if place else "odd"
        id_ = f"{i:03}/{cell}"
        when = datetime(year, 7, 1, int(rng.integers(24)), tzinfo=UTC) if i % 10 else None
        rows.append(replace(made.plain_record(0), id=id_, path=id_, datetime=when,
                            bbox=Bounds(place, 40, place + 1, 41),
                            sensor=("S2", "L8", None)[int(rng.integers(3))]))  # fmt: skip
    made.make_archive(tmp_path / "a", len(rows), facts=rows)
    backend = landcue.open(tmp_path / "a").backend
    allowed = rng.random(120) < 0.8
    wanted = np.flatnonzero(allowed & ~np.isnat(backend.records.time))
    for later in (False, True):
        found = other_dates(Side(backend, wanted), allowed, later=later)
        for row, other in zip(wanted.tolist(), found.tolist(), strict=True):
            own = rows[row]
            sign = -1 if later else 1
            best = [
                sign * one.datetime.date().toordinal()
                for i, one in enumerate(rows)
                if allowed[i] and one.datetime is not None and one.sensor == own.sensor
                and one.id[4:] == own.id[4:] != "odd"
                and sign * one.datetime.date().toordinal() < sign * own.datetime.date().toordinal()
            ]  # fmt: skip
            assert (other >= 0) == bool(best)
            if best:
                assert allowed[other]
                assert rows[other].id[4:] == own.id[4:]
                assert rows[other].sensor == own.sensor
                assert sign * rows[other].datetime.date().toordinal() == max(best)
