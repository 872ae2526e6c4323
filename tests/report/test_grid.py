from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from landcue.errors import LandcueError
from landcue.report.grid import SHARED_COLORS, draw_grid
from landcue.types import Hit

LEFT, TOP, CELL, ROW = 252, 88, 198, 295  # where the first hit lies, and the steps to the next


def jpeg(color):
    out = io.BytesIO()
    Image.new("RGB", (96, 96), color).save(out, "JPEG", quality=95)
    return out.getvalue()


def make_hits(n, labels=()):
    return [Hit(f"scene/{i}.tif", f"{i}.tif", 0.01 * i, 1 - 0.01 * i, labels) for i in range(n)]


def pixels(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def inside(picture, column, row):
    """Return the middle of a hit's picture."""
    y, x = TOP + row * ROW + 88, LEFT + column * CELL + 88
    return picture[y, x]


def border(picture, column, row):
    y, x = TOP + row * ROW + 88, LEFT + column * CELL + 2
    return picture[y, x].tolist()


def test_pictures_stand_in_ranked_order(tmp_path):
    hits = make_hits(8)
    colors = [(30 * i, 255 - 30 * i, 100) for i in range(8)]
    thumbnails = {hit.id: jpeg(color) for hit, color in zip(hits, colors, strict=True)}
    query = np.full((40, 80, 3), (250, 10, 200), np.uint8)
    draw_grid(tmp_path / "g.png", hits, thumbnails, query_title="query", query_image=query)
    picture = pixels(tmp_path / "g.png")
    for rank, color in enumerate(colors):
        assert np.abs(inside(picture, rank % 6, rank // 6) - color).max() <= 4
    assert picture[TOP + 88, 32 + 88].tolist() == [250, 10, 200]


def test_borders_count_shared_labels(tmp_path):
    labels = [(), ("a",), ("x", "a", "b"), ("a", "b", "c"), ("d", "c", "b", "a")]
    hits = [Hit(f"{i}", "", 0.1, 0.9, names) for i, names in enumerate(labels)]
    draw_grid(
        tmp_path / "g.png", hits, {}, query_title="q", query_labels=("a", "b", "c", "d"),
        query_image=jpeg("red"),
    )  # fmt: skip
    picture = pixels(tmp_path / "g.png")
    found = [border(picture, column, 0) for column in range(5)]
    assert found == [list(ImageColor.getrgb(SHARED_COLORS[i])) for i in (0, 1, 2, 3, 3)]
    draw_grid(tmp_path / "plain.png", hits, {}, query_title="q")
    plain = pixels(tmp_path / "plain.png")
    assert len({tuple(border(plain, column, 0)) for column in range(5)}) == 1


def test_border_colors_differ_in_lightness():
    """They stay apart without any color vision."""
    gray = [np.dot(ImageColor.getrgb(color), (0.299, 0.587, 0.114)) for color in SHARED_COLORS[1:]]
    assert gray == sorted(gray, reverse=True)
    assert min(-np.diff(gray)) > 30


def test_long_names_and_many_labels_stay_in_their_cells(tmp_path):
    many = tuple(f"label-number-{i}" for i in range(40))
    for name in ("scene/" * 40, "w" * 300, "ünïcödé", ""):
        draw_grid(
            tmp_path / "long.png", [Hit(name, "", 12, 0.5, many)] * 2, {}, mode="code",
            query_title=name * 3, query_labels=many,
        )  # fmt: skip
        picture = pixels(tmp_path / "long.png")
        gaps = (picture[TOP:-50, LEFT + 178 : LEFT + CELL - 2], picture[:, -20:])
        assert all((gap == 255).all() for gap in gaps)


@pytest.mark.parametrize(("n", "rows"), [(0, 1), (1, 1), (6, 1), (7, 2), (12, 2), (13, 3)])
def test_size_follows_the_number_of_hits(tmp_path, n, rows):
    draw_grid(tmp_path / "g.png", make_hits(n), {}, query_title="q")
    assert pixels(tmp_path / "g.png").shape[0] == TOP + rows * ROW - 22 + 32


def test_very_many_hits_are_cut(tmp_path):
    draw_grid(tmp_path / "g.png", make_hits(1000), {}, query_title="q")
    assert pixels(tmp_path / "g.png").shape[0] == TOP + 50 * ROW - 22 + 32


def test_unwritable_target_is_one_line(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for target in (tmp_path / "file" / "g.png", tmp_path):
        with pytest.raises(LandcueError, match="cannot write") as caught:
            draw_grid(target, make_hits(1), {}, query_title="q")
        assert "\n" not in str(caught.value)
