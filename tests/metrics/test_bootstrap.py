from __future__ import annotations

import numpy as np
import pytest

from landcue.errors import UsageError
from landcue.metrics.intervals import mean_intervals


def test_interval_of_a_normal_mean_has_the_known_width():
    values = np.random.default_rng(0).standard_normal((1, 4000))
    ((low, high),) = mean_intervals(values, 2000, seed=1)
    expected = 1.96 * values.std() / np.sqrt(4000)
    assert low < values.mean() < high
    assert (high - low) / 2 == pytest.approx(expected, rel=0.08)


def test_intervals_equal_resampling_one_by_one():
    values = np.array([[1.0, 2, 3, 4, 5, 6, 7], [0, np.nan, 1, np.nan, 0, 1, 1]])
    rng = np.random.default_rng(3)
    means = []
    for first in range(0, 52, 5):
        for drawn in rng.integers(0, 7, (min(5, 52 - first), 7)):
            means.append([np.nanmean(row[drawn]) for row in values])
    expected = np.percentile(means, [2.5, 97.5], axis=0).T
    assert mean_intervals(values, 52, seed=3, block=7 * 5) == pytest.approx(expected)


def test_a_metric_without_values_has_no_interval_and_a_constant_one_no_width():
    values = np.array([[np.nan, np.nan], [0.5, 0.5], [0.5, np.nan]])
    intervals = mean_intervals(values, 20, seed=0)
    assert np.isnan(intervals[0]).all()
    assert intervals[1].tolist() == [0.5, 0.5]
    assert np.isnan(intervals[2]).all()  # one query tells nothing about others


def test_the_seed_decides():
    values = np.random.default_rng(0).random((2, 30))
    assert np.array_equal(mean_intervals(values, 50, 1), mean_intervals(values, 50, 1))
    assert not np.array_equal(mean_intervals(values, 50, 1), mean_intervals(values, 50, 2))


@pytest.mark.parametrize(("resamples", "level"), [(0, 0.95), (10, 1.0), (10, 0.0)])
def test_impossible_intervals_are_refused(resamples, level):
    with pytest.raises(UsageError, match="resamples"):
        mean_intervals(np.ones((1, 3)), resamples, 0, level)
