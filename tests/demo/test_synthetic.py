from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio

from landcue.data.geo import place_of_raster
from landcue.data.header import read_facts
from landcue.data.images import read_image
from landcue.data.label_table import LabelTable, read_label_table
from landcue.demo import LABELS, THEMES, render_chip, write_demo_archive
from landcue.demo.canvas import MIN_SHARE, Canvas
from landcue.demo.objects import building, car, ship
from landcue.demo.scenes import draw
from landcue.errors import DataError, LandcueError, UsageError


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_archive(tmp_path_factory.mktemp("demo") / "new", n=280, size=64, seed=3)


@pytest.fixture(scope="module")
def table(archive: Path) -> LabelTable:
    return read_label_table(archive / "labels.csv")


# --- chips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
def test_chip_repeats_with_its_seed_and_changes_with_another(theme: str) -> None:
    image, labels = render_chip(5, theme, 48)
    again, labels_again = render_chip(np.random.default_rng(5), theme, 48)
    other, _ = render_chip(6, theme, 48)
    assert image.shape == (48, 48, 3)
    assert image.dtype == np.uint8
    assert image.tobytes() == again.tobytes()
    assert labels == labels_again
    assert image.tobytes() != other.tobytes()


def test_chip_is_the_same_in_another_process_without_slow_imports() -> None:
    code = (
        "import hashlib, sys; from landcue.demo import render_chip;"
        "image, labels = render_chip(11, 'city', 64);"
        "print(hashlib.sha256(image.tobytes()).hexdigest(), ';'.join(sorted(labels)),"
        "'torch' in sys.modules, 'rasterio' in sys.modules)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    ).stdout.split()
    image, labels = render_chip(11, "city", 64)
    expected = [hashlib.sha256(image.tobytes()).hexdigest(), ";".join(sorted(labels))]
    assert output == [*expected, "False", "False"]


@pytest.mark.parametrize("theme", THEMES)
def test_labels_are_what_owns_the_pixels(theme: str) -> None:
    for seed in range(8):
        canvas = draw(seed, theme, 64)
        _, labels = render_chip(seed, theme, 64)
        assert labels
        assert labels <= set(LABELS)
        for index, name in enumerate(LABELS):
            share = np.mean(canvas.owner == index)
            assert (name in labels) == (share >= MIN_SHARE[name]), (seed, name, share)
        assert np.all(canvas.owner < len(LABELS)), "a pixel nobody painted"


def test_colors_follow_the_labels() -> None:
    pixels: dict[str, list[np.ndarray]] = {name: [] for name in LABELS}
    for seed, theme in enumerate(tuple(THEMES) * 3):
        canvas = draw(seed, theme, 64)
        image = canvas.develop().astype(float)
        owner = canvas.owner[::2, ::2]
        for index, name in enumerate(LABELS):
            pixels[name].append(image[owner == index])
    mean = {name: np.concatenate(parts).mean(0) for name, parts in pixels.items()}
    for plant in ("trees", "grass"):
        assert mean[plant].argmax() == 1  # green
    assert mean["water"][2] > mean["water"][0]  # bluish
    assert mean["bare-soil"][0] > mean["bare-soil"][2] + 20  # brown
    assert np.ptp(mean["pavement"]) < 15  # gray
    assert mean["trees"].mean() < mean["sand"].mean() - 50
    assert mean["tanks"].min() > mean["pavement"].max()


def test_unknown_theme_and_bad_size_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no theme 'habor' \(did you mean 'harbor'\?\)"):
        render_chip(0, "habor")
    for size in (0, 31, 5000):
        with pytest.raises(UsageError, match="pass 32 to 1024 pixels"):
            render_chip(0, "harbor", size)


# --- canvas --------------------------------------------------------------------------------


def flat(label: str, size: int = 64) -> Canvas:
    canvas = Canvas(np.random.default_rng(0), size)
    area = canvas.area(0, 0)
    canvas.paint(area, np.ones((canvas.side, canvas.side), bool), (120, 120, 120), label)
    return canvas


def test_what_is_painted_over_counts_for_nothing() -> None:
    canvas = flat("water")
    assert canvas.labels() == {"water"}
    area = canvas.area(16, 16)
    canvas.paint(area, area.box(40, 40), (90, 90, 90), "pavement")
    assert canvas.labels() == {"pavement"}


def test_label_needs_its_minimal_share() -> None:
    pixels = 128 * 128
    for name in ("tanks", "sand"):
        least = int(np.ceil(MIN_SHARE[name] * pixels))
        for count, expected in ((least, True), (least - 1, False)):
            canvas = flat("grass")
            mask = np.zeros(pixels, bool)
            mask[:count] = True
            canvas.paint(canvas.area(0, 0), mask.reshape(128, 128), (200, 200, 200), name)
            assert (name in canvas.labels()) is expected


def test_marking_changes_color_but_no_owner() -> None:
    canvas = flat("pavement")
    area = canvas.area(16, 16)
    canvas.paint(area, area.box(10, 10), (250, 250, 250))
    assert canvas.color.max() == 250
    assert canvas.labels() == {"pavement"}


def test_tall_things_cast_their_shadow_away_from_the_sun() -> None:
    canvas = flat("grass")
    assert building(canvas, 16, 16, 8, 8, 0, kind="block", grounds=("grass",))
    image = canvas.develop().astype(float).mean(2)
    north, south = image[20:23, 26:38], image[41:44, 26:38]  # the roof covers rows 24..39
    assert north.mean() < 0.7 * south.mean()
    assert abs(south.mean() - image[60:].mean()) < 10


def test_objects_are_placed_only_where_they_fit() -> None:
    canvas = flat("water")
    before = canvas.owner.copy()
    car(canvas, 16, 16, 0)
    assert not building(canvas, 16, 16, 8, 8, 0, kind="house", grounds=("grass",))
    assert not ship(canvas, 500, 500, 9, 0, wake=False)
    assert np.array_equal(canvas.owner, before)
    assert ship(canvas, 16, 16, 12, 0.4, wake=True)
    assert not ship(canvas, 17, 17, 12, 0.4, wake=True)  # the first is in the way
    assert canvas.labels() == {"ships", "water"}


# --- archive -------------------------------------------------------------------------------


def test_table_agrees_with_the_files(archive: Path, table: LabelTable) -> None:
    assert len(table.rows) == 280
    assert {row.path for row in table.rows} == {
        path.relative_to(archive).as_posix() for path in archive.rglob("*.tif")
    }
    for row in table.rows:
        assert re.fullmatch(rf"images/{row.group}/{row.group}_\d{{4}}\.tif", row.path)
        assert row.datetime is not None
        assert datetime(2024, 1, 1, tzinfo=UTC) <= row.datetime < datetime(2025, 1, 1, tzinfo=UTC)
        assert list(row.labels) == sorted(row.labels)
    first = (archive / "labels.csv").read_text().splitlines()
    assert first[0] == "path,group,time,labels"
    assert re.search(r",2024-\d\d-\d\dT\d\d:\d\d:00Z,", first[1])
    assert "seed 3" in (archive / "README.md").read_text()
    assert "CC0" in (archive / "README.md").read_text()


def test_files_hold_what_the_renderer_draws(archive: Path, table: LabelTable) -> None:
    drawn: dict[tuple[str, bytes], frozenset[str]] = {}
    for index in (0, 57, 131, 279):
        for theme in THEMES:
            rng = np.random.default_rng([3, index])
            rng.integers(366), rng.integers(420)  # the archive draws the time first
            image, labels = render_chip(rng, theme, 64)
            drawn[theme, image.tobytes()] = labels
    found = 0
    for row in table.rows:
        labels = drawn.get((str(row.group), read_image(archive / row.path).tobytes()))
        if labels is not None:
            found += 1
            assert row.labels == tuple(sorted(labels))
    assert found == 4


def test_themes_take_equal_shares_and_vary(table: LabelTable) -> None:
    assert Counter(row.group for row in table.rows) == dict.fromkeys(THEMES, 20)
    for theme in THEMES:
        assert len({row.labels for row in table.rows if row.group == theme}) >= 4, theme


def test_labels_make_a_multi_label_task(table: LabelTable) -> None:
    assert table.label_names == LABELS
    columns = {name: [name in row.labels for row in table.rows] for name in LABELS}
    counts = {name: sum(column) for name, column in columns.items()}
    assert min(counts.values()) >= 5
    assert max(counts["ships"], counts["tanks"], counts["courts"]) < min(
        counts["trees"], counts["grass"], counts["pavement"]
    )
    assert len({tuple(column) for column in columns.values()}) == len(LABELS)
    for name in LABELS:
        assert len({row.group for row in table.rows if name in row.labels}) >= 2, name
    assert 2 <= np.mean([len(row.labels) for row in table.rows]) <= 6


def test_images_tile_an_area_of_utm_zone_33(archive: Path, table: LabelTable) -> None:
    corners = set()
    for row in table.rows:
        with rasterio.open(archive / row.path) as image:
            assert image.crs.to_string() == "EPSG:32633"
            assert (image.count, image.dtypes[0], image.res) == (3, "uint8", (0.5, 0.5))
            left, bottom, right, top = image.bounds
        assert (right - left, top - bottom) == (32, 32)
        corners.add((left, top))
    assert len(corners) == 280
    west, north = min(x for x, _ in corners), max(y for _, y in corners)
    cells = {((x - west) / 32, (north - y) / 32) for x, y in corners}
    assert cells == {(float(i % 17), float(i // 17)) for i in range(280)}
    footprint = place_of_raster(read_facts(archive / table.rows[0].path)).bbox
    assert footprint is not None
    assert 12 < footprint.west < footprint.east < 18  # zone 33


def test_same_seed_gives_the_same_files_and_another_does_not(tmp_path: Path) -> None:
    first = contents(write_demo_archive(tmp_path / "a", n=15, size=32, seed=1))
    assert first == contents(write_demo_archive(tmp_path / "b", n=15, size=32, seed=1))
    other = contents(write_demo_archive(tmp_path / "c", n=15, size=32, seed=2))
    assert first.keys() == other.keys()
    images = [name for name in first if name.endswith(".tif")]
    assert len(images) == 15
    assert all(first[name] != other[name] for name in images)


@pytest.mark.parametrize("n", [1, 5, 14])
def test_few_images_have_different_themes(tmp_path: Path, n: int) -> None:
    rows = read_label_table(write_demo_archive(tmp_path, n=n, size=32) / "labels.csv").rows
    assert len({row.group for row in rows}) == n


def test_deleted_files_come_back_identical(tmp_path: Path) -> None:
    folder = write_demo_archive(tmp_path / "demo", n=9, size=32)
    before = contents(folder)
    images = sorted(folder.rglob("*.tif"))
    kept = images[-1].stat().st_mtime_ns
    for lost in (folder / "labels.csv", folder / "README.md", *images[:3]):
        lost.unlink()
        write_demo_archive(folder, n=9, size=32)
        assert contents(folder) == before
    for lost in (folder / "labels.csv", *images[:3]):
        lost.unlink()
    write_demo_archive(folder, n=9, size=32)
    assert contents(folder) == before
    assert images[-1].stat().st_mtime_ns == kept


def test_interrupted_run_is_completed(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 9
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_archive(tmp_path / "cut", n=9, size=32, progress=stop)
    assert not (tmp_path / "cut/labels.csv").exists()
    assert len(list((tmp_path / "cut").rglob("*.tif"))) == 4
    calls: list[tuple[int, int]] = []
    write_demo_archive(tmp_path / "cut", n=9, size=32, progress=lambda *x: calls.append(x))
    assert calls == [(i, 9) for i in range(1, 10)]
    whole = write_demo_archive(tmp_path / "whole", n=9, size=32)
    assert contents(tmp_path / "cut") == contents(whole)
    calls.clear()
    write_demo_archive(tmp_path / "cut", n=9, size=32, progress=lambda *x: calls.append(x))
    assert calls == []  # complete: nothing is drawn


@pytest.mark.parametrize("other", [{"n": 4}, {"size": 40}, {"seed": 1}])
def test_other_parameters_are_refused(tmp_path: Path, other: dict[str, int]) -> None:
    write_demo_archive(tmp_path / "demo", n=3, size=32)
    before = contents(tmp_path)
    with pytest.raises(DataError, match="other parameters") as caught:
        write_demo_archive(tmp_path / "demo", **({"n": 3, "size": 32, "seed": 0} | other))
    assert str(tmp_path / "demo") in str(caught.value)
    assert "choose another folder" in str(caught.value)
    assert contents(tmp_path) == before


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,labels\nmine.tif,water\n")
    with pytest.raises(DataError, match="holds other files; choose an empty folder"):
        write_demo_archive(tmp_path, n=3, size=32)
    assert contents(tmp_path) == {"labels.csv": b"path,labels\nmine.tif,water\n"}


def test_broken_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.json").write_text('{"n": ')
    with pytest.raises(DataError, match=r"demo\.json is not valid JSON"):
        write_demo_archive(tmp_path, n=3, size=32)


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "demo"):
        with pytest.raises(DataError) as caught:
            write_demo_archive(folder, n=3, size=32)
        assert str(folder) in str(caught.value)
        assert "choose another folder" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_unwritable_image_folder_leaves_no_table(tmp_path: Path) -> None:
    record = {"format": 1, "n": 3, "size": 32, "seed": 0}
    (tmp_path / "demo.json").write_text(json.dumps(record))
    (tmp_path / "images").write_text("a file where a folder must be")
    with pytest.raises(LandcueError, match=r"^cannot write .*images"):
        write_demo_archive(tmp_path, n=3, size=32)
    assert not (tmp_path / "labels.csv").exists()


@pytest.mark.parametrize("bad", [{"n": 0}, {"n": -1}, {"size": 8}, {"seed": -1}])
def test_bad_arguments_touch_nothing(tmp_path: Path, bad: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=rf"^{next(iter(bad))} "):
        write_demo_archive(tmp_path / "demo", **({"n": 3, "size": 32} | bad))
    assert not (tmp_path / "demo").exists()
