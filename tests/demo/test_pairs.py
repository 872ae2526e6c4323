"""Synthetic places at two dates."""

import numpy as np
import pytest

from landcue.demo.canvas import Air
from landcue.demo.pairs import CHANGES, SceneDate, render_pair
from landcue.errors import UsageError

CLEAR = Air(1.0, (1.0, 1.0, 1.0), 0.0, 0.0)
NOON = SceneDate("summer", 1.5, 0.9, CLEAR)


def blurred(image):
    cells = image.astype(np.float64).reshape(8, 8, 8, 8, 3)
    return cells.mean((1, 3))


@pytest.mark.parametrize("theme", ["city", "farmland", "lake"])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_change_covers_a_part_of_the_chip(theme, change):
    before, after = render_pair(1, theme, (NOON, NOON), change, 64)
    same = render_pair(1, theme, (NOON, NOON), None, 64)
    assert before.shape == after.shape == (64, 64, 3)
    np.testing.assert_array_equal(before, same[0])
    moved = np.abs(blurred(same[1]) - blurred(same[0])).max(axis=2)
    changed = np.abs(blurred(after) - blurred(before)).max(axis=2)
    assert np.median(moved) < 12
    assert 0.08 < (changed > 12).mean() < 0.8
    assert changed.mean() > 2 * moved.mean()


def test_seasons_turn_plants_and_haze_lifts_the_dark():
    autumn = SceneDate("autumn", 1.5, 0.9, CLEAR)
    before, after = render_pair(3, "forest", (NOON, autumn), None, 64)
    red, green = (after.astype(float) - before).mean((0, 1))[:2]
    assert red > green + 10
    hazy = SceneDate("summer", 1.5, 0.9, Air(1.0, (1.0, 1.0, 1.0), 0.3, 0.0))
    before, after = render_pair(3, "forest", (NOON, hazy), None, 64)
    assert after.min() > before.min() + 20
    assert after.std() < 0.85 * before.std()


def test_pairs_are_repeatable_and_dates_are_valid():
    rng = np.random.default_rng(0)
    dates = SceneDate.random(rng), SceneDate.random(rng)
    first, second = (render_pair(7, "suburb", dates, "houses", 64) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert {SceneDate.random(rng).season for _ in range(40)} == {
        "spring", "summer", "autumn", "winter",
    }  # fmt: skip
    with pytest.raises(UsageError, match="did you mean 'houses'"):
        render_pair(7, "suburb", dates, "house", 64)
