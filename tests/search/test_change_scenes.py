"""From scenes on disk to change: chips of a grid, their times, and bands that differ."""

import json
from dataclasses import replace

import pytest
import rasterio
from rasterio.transform import from_origin
from typer.testing import CliRunner

import landcue
from landcue.cli.main import app
from landcue.errors import DataError
from landcue.search import Chip
from scene_files import noise, write_scene

PLACE = {"crs": "EPSG:32633", "transform": from_origin(500_003, 5_500_001, 10, 10)}
SHIFTED = {"crs": "EPSG:32633", "transform": from_origin(499_838, 5_500_047, 10, 10)}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Two dates of one area, not aligned; a square of the later one is dark."""
    folder = tmp_path_factory.mktemp("scenes")
    ground = noise(0, bands=4, height=330, width=350, low=40, high=200, dtype="uint8")
    early, late = ground[:, 5:, 17:], ground[:, :320, :330].copy()
    late[:, 181:245, 192:256] = 20
    for name, image, place, year in (("a", early, PLACE, 2012), ("b", late, SHIFTED, 2018)):
        tags = {"TIFFTAG_DATETIME": f"{year}:07:01 10:00:00"}
        write_scene(folder / f"{name}.tif", image, place=place, tags=tags)
    return folder


def run(*args):
    done = CliRunner().invoke(app, [str(a) for a in args])
    return done


OPTIONS = ("--chip", "640m", "--grid", "utm", "--scale", "fixed:0,255")


@pytest.fixture(scope="module")
def archive(scenes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive") / "a"
    done = run("index", scenes, folder, *OPTIONS, "--bands", "1,2,3", "--bits", "32")
    assert done.exit_code == 0, done.output
    return folder


def test_dates_of_different_extent_pair_by_cell(scenes, archive):
    opened = landcue.open(archive)
    cells = [id_.split("/")[1] for id_ in opened.ids()]
    both = {cell for cell in cells if cells.count(cell) == 2}
    changes = opened.change(before="2015", after="2015", alpha=1)
    assert {one.after.split("/")[1] for one in changes} == both
    assert len(changes) == len(both) >= 12
    assert all(b.split("/")[1] == a.split("/")[1] for b, a in changes.ids)
    assert min(one.overlap for one in changes) > 0.97
    dates = {"before": "2015", "after": "2015", "alpha": 1}
    assert tuple(opened.change(**dates, scoring="both")) == tuple(changes)
    for one in ("trained", "measured"):
        assert tuple(opened.change(**dates, scoring=one)) != tuple(changes)
    dark = changes[0].after
    window = opened.record(dark).window
    with rasterio.open(scenes / "b.tif") as file:
        image = file.read(1)
    means = {
        id_: image[w.row : w.row + w.height, w.col : w.col + w.width].mean()
        for id_ in opened.ids() if id_.startswith("b/") for w in [opened.record(id_).window]
    }  # fmt: skip
    assert window.width == window.height == 64
    assert min(means, key=means.get) == dark


def test_map_of_indexed_scenes(archive, tmp_path):
    query = landcue.open(archive).ids()[0]
    done = run("map", archive, query, tmp_path / "m.tif", "--before", "2015-01-01", "--json")
    assert done.exit_code == 0, done.output
    with rasterio.open(tmp_path / "m.tif") as file:
        assert file.crs.to_epsg() == 32633
        assert file.read(1).max() == pytest.approx(1, abs=1e-5)
        assert json.loads(done.stdout)["cells"] == (file.read(1) != file.nodata).sum()


def test_other_bands_at_the_other_date_are_refused(scenes, tmp_path):
    for name, bands in (("a", "1,2,3"), ("b", "4,1,2")):
        done = run("index", scenes / f"{name}.tif", tmp_path / "x", *OPTIONS, "--bands", bands)
        assert done.exit_code == 0, done.output
    before = landcue.open(tmp_path / "x").ids()
    with pytest.raises(DataError, match=r"made of bands 1,2,3, b/.* of bands 4,1,2: index both"):
        landcue.open(tmp_path / "x").change(before="2015", after="2015")
    done = run("change", tmp_path / "x", "--before", "2015", "--after", "2015")
    assert done.exit_code == 1
    assert done.output.count("\n") <= 1
    assert landcue.open(tmp_path / "x").ids() == before


def test_a_chip_is_read_with_the_bands_and_the_scale_of_the_archive(scenes, tmp_path):
    options = ("--chip", "64px", "--bands", "4,1,2", "--scale", "fixed:30,210")
    done = run("index", scenes / "a.tif", tmp_path / "x", *options)
    assert done.exit_code == 0, done.output
    archive = landcue.open(tmp_path / "x")
    record = archive.record(archive.ids()[7])
    chip = Chip(archive.file(record.id), record.window)
    best = archive.search(chip, k=1, mode="embedding")[0]
    assert best.id == record.id
    assert best.distance == pytest.approx(0, abs=1e-6)
    same = replace(chip, bands=(4, 1, 2), scale="fixed:30,210")
    assert archive.search(same, k=5).hits == archive.search(chip, k=5).hits
    for other in (replace(chip, bands=(1, 2, 3)), replace(chip, scale="fixed:0,255")):
        assert archive.search(other, k=1, mode="embedding")[0].distance > 1e-3
    window = ",".join(map(str, record.window.to_list()))
    done = run("search", tmp_path / "x", chip.path, "--window", window, "-k", "1", "--json")
    assert json.loads(done.stdout)["hits"][0]["id"] == record.id


def test_grids_that_do_not_match_are_refused_or_pair_by_overlap(scenes, tmp_path):
    for name, side in (("a", "640m"), ("b", "320m")):
        options = ("--chip", side, *OPTIONS[2:], "--bands", "1,2,3")
        done = run("index", scenes / f"{name}.tif", tmp_path / "x", *options)
        assert done.exit_code == 0, done.output
    opened = landcue.open(tmp_path / "x")
    with pytest.raises(DataError, match="do not match: utm 640m before, utm 320m after"):
        opened.change(before="2015", after="2015")
    quarters = opened.change(before="2015", after="2015", min_overlap=0.2, alpha=1)
    assert {round(one.overlap, 1) for one in quarters} <= {0.2, 0.3}


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--grid", "utm"), "--grid is for chips; add their side: --chip 640m"),
        (("--grid", "utm", "--chip", "64px"), "--chip 64px: a grid needs meters"),
        (("--grid", "dem", "--chip", "640m"), "unknown grid 'dem'"),
    ],
)
def test_bad_grid_options(scenes, tmp_path, args, word):
    done = run("index", scenes, tmp_path / "x", *args)
    assert done.exit_code == 2
    assert word in done.output + str(done.exception)
    assert not (tmp_path / "x").exists()
