"""Paired comparison of two rankings and means over runs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from landcue.errors import UsageError
from landcue.metrics.intervals import compare, mean_over_runs


def test_p_value_is_that_of_all_sign_flips():
    rng = np.random.default_rng(0)
    first, second = rng.random(9), rng.random(9) - 0.2
    difference = first - second
    flips = np.array(list(itertools.product((-1, 1), repeat=9)))
    exact = (np.abs(flips @ difference / 9) >= abs(difference.mean()) - 1e-12).mean()
    found = compare([first], [second], resamples=40_000)
    assert found.difference == pytest.approx(difference.mean())
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found.n_query == 9


def test_equal_rankings_do_not_differ():
    values = np.random.default_rng(1).random(50)
    found = compare([values, values], [values, values], resamples=200)
    assert found.difference == 0
    assert found.interval == (0, 0)
    assert found.p_value == 1


def test_interval_covers_the_normal_approximation():
    rng = np.random.default_rng(2)
    runs = [rng.normal(0.03, 0.1, 400) for _ in range(3)]
    zeros = [np.zeros(400)] * 3
    found = compare(runs, zeros, resamples=5_000)
    mean = np.mean([run.mean() for run in runs])
    error = np.sqrt(sum(run.var() / 400 for run in runs)) / 3
    np.testing.assert_allclose(found.interval, mean + np.array([-1.96, 1.96]) * error, atol=6e-4)
    assert found.p_value < 0.001


def test_runs_weigh_alike_whatever_their_queries():
    found = compare([np.ones(10), np.zeros(90)], [np.zeros(10), np.zeros(90)], resamples=100)
    assert found.difference == 0.5


def test_queries_that_do_not_count_are_left_out_of_both():
    first, second = np.array([1.0, np.nan, 0.5, 2.0]), np.array([0.0, 1.0, np.nan, 2.0])
    found = compare([first], [second], resamples=100)
    assert (found.difference, found.n_query) == (0.5, 2)


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ([np.zeros(3)], [], "1 runs against 0"),
        ([], [], "0 runs against 0"),
        ([np.zeros(3)], [np.zeros(4)], "the same queries"),
        ([np.full(3, np.nan)], [np.zeros(3)], "0 queries of a run count"),
        ([np.zeros(3), np.ones(1)], [np.zeros(3), np.zeros(1)], "1 queries of a run count"),
    ],
)
def test_comparisons_that_make_no_sense(first, second, word):
    with pytest.raises(UsageError, match=word):
        compare(first, second, resamples=10)
    with pytest.raises(UsageError, match="resamples"):
        compare([np.zeros(2)], [np.zeros(2)], resamples=0)


def test_mean_over_runs_is_students_interval():
    mean, half = mean_over_runs([1.0, 2.0, 4.0])
    assert mean == pytest.approx(7 / 3)
    assert half == pytest.approx(4.302653 * np.std([1, 2, 4], ddof=1) / np.sqrt(3), rel=1e-4)
    assert np.isnan(mean_over_runs([1.0])[1])
