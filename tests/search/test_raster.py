"""Similarity as a raster, read back with rasterio."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

import landcue
from landcue.cli.main import app
from landcue.errors import DataError, UsageError
from landcue.types import Bounds

SIZES = {"dim": 12}


def record(made, i, id_, year):
    row = replace(made.plain_record(i), id=id_, path=id_, bbox=Bounds(0, 0, 1, 1))
    return replace(row, datetime=datetime(year, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    rng = np.random.default_rng(0)
    cells = [(j, i) for j in range(7000, 7006) for i in range(700, 709) if rng.random() < 0.7]
    ids = [f"{y}/utm33N-640m-n{j:06}-e{i:06}" for y in (2010, 2012) for j, i in cells]
    ids += ["2010/utm33S-640m@320m-n014000-e000701", "2010/utm33S-640m@320m-n014002-e000701", "a"]
    rows = [record(made, n, id_, int(id_[:4]) if "/" in id_ else 2010) for n, id_ in enumerate(ids)]
    folder = tmp_path_factory.mktemp("map") / "archive"
    made.make_archive(folder, len(ids), sizes=made.Sizes(**SIZES), facts=rows)
    return folder


def test_pixels_are_the_best_scores_of_cells(folder, tmp_path):
    archive = landcue.open(folder)
    query = archive.ids()[5]
    made = archive.map(query, tmp_path / "a.tif", grid="utm33N-640m")
    scores = {hit.id: hit.score for hit in archive.search(query, k=500, mode="embedding")}
    scores[query] = 1.0
    with rasterio.open(tmp_path / "a.tif") as file:
        image, nodata = file.read(1), file.nodata
        assert file.crs.to_epsg() == 32633
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.descriptions == ("score",)
        assert file.tags()["query"] == query
        seen = 0
        for column in range(690, 720):
            for row in range(6990, 7010):
                wanted = [scores.get(f"{year}/utm33N-640m-n{row:06}-e{column:06}")
                          for year in (2010, 2012)]  # fmt: skip
                y, x = file.index((column + 0.5) * 640, (row + 0.5) * 640)
                inside = 0 <= y < file.height and 0 <= x < file.width
                if wanted[0] is None:
                    assert not inside or image[y, x] == nodata
                else:
                    assert image[y, x] == pytest.approx(max(wanted), abs=1e-6)
                    seen += 1
        assert seen == made.cells == (image != nodata).sum()
        assert made.chips == 2 * seen
        assert (made.width, made.height) == (file.width, file.height)


def test_filters_and_overlapping_cells(folder, tmp_path):
    archive = landcue.open(folder)
    where = landcue.Filter.parse(datetime="2011-01-01/..")
    made = archive.map("a", tmp_path / "b.tif", where=where)
    assert made.chips == made.cells
    archive.map("a", tmp_path / "c.tif", grid="utm33S-640m@320m")
    with rasterio.open(tmp_path / "c.tif") as file:
        assert file.crs.to_epsg() == 32733
        assert file.res == (320, 320)
        assert file.read(1)[1, 0] == file.nodata
        assert file.xy(0, 0) == (701 * 320 + 320, 14002 * 320 + 320)  # the middle of the cell


def test_a_large_map_has_overviews(made, tmp_path):
    ids = [f"s/utm33N-10m-n{j:06}-e{i:06}" for j, i in ((0, 0), (1500, 1300), (700, 3))]
    rows = [record(made, n, id_, 2010) for n, id_ in enumerate(ids)]
    made.make_archive(tmp_path / "a", 3, sizes=made.Sizes(**SIZES), facts=rows)
    landcue.open(tmp_path / "a").map(ids[0], tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as file:
        assert (file.height, file.width) == (1501, 1301)
        assert file.overviews(1)
        assert (file.read(1) != file.nodata).sum() == 3


@pytest.mark.parametrize(
    ("query", "out", "options", "kind", "word"),
    [
        ("a", "a.png", {}, UsageError, "write a .tif file"),
        ("a", "a.tif", {}, UsageError, "several grids: choose one with --grid: utm33N-640m"),
        ("a", "a.tif", {"grid": "utm33N-64m"}, UsageError, "did you mean 'utm33N-640m'"),
        ("2010/utm", "a.tif", {"grid": "utm33N-640m"}, UsageError, "2010/utm"),
        (None, "a.tif", {}, UsageError, "nothing to compare with"),
        ("a", "a.tif", {"where": landcue.Filter.parse(path="q")}, DataError, "no record matches"),
        ("a", "a.tif", {"where": landcue.Filter.parse(path="a")}, DataError, "with --grid utm"),
    ],
)
def test_bad_maps(folder, tmp_path, query, out, options, kind, word):
    with pytest.raises(kind, match=word):
        landcue.open(folder).map(query, tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


def test_command(folder, tmp_path):
    out = tmp_path / "m.tif"
    args = ["map", folder, "a", out, "--grid", "utm33N-640m", "--before", "2011-01-01", "--json"]
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["crs"] == "EPSG:32633"
    with rasterio.open(out) as file:
        assert (file.read(1) != file.nodata).sum() == value["cells"] == value["chips"]
    done = CliRunner().invoke(app, ["map", str(folder), "a", str(tmp_path / "m.png")])
    assert done.exit_code == 2
    assert "write a .tif file" in done.output
