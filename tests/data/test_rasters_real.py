"""Every real raster is indexed, searched, viewed and exported, whole and in chips."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import rasterio
from fastapi.testclient import TestClient

import landcue
import raster_rule as rule
from landcue.archive import IndexOptions, index_source
from landcue.data.images import read_image
from landcue.server.app import create_app
from landcue.server.settings import Limits, Settings

pytestmark = pytest.mark.real_data

ASKS = {
    "odd/above_cog.tif": "has 31 bands of uint8, the model takes 3; choose with --bands",
    "odd/cog_scale.tif": "has 2 bands of int16, the model takes 3; choose with --bands",
    "odd/cint16.tif": "complex values; save amplitudes first",
}
EMPTY = "odd/all-nodata.tif"
ONE_DECODER = Settings(limits=Limits(decoders=1))
BROKEN = "odd/corrupt.tif"
BANDS = {"odd/above_cog.tif": "3,2,1", "odd/cog_scale.tif": "1,1,2"}
"""What the two that ask are given."""


@pytest.fixture(scope="module")
def rasters(real_data):
    folder = real_data / "rasters"
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.tif"))
    assert len(names) == 38  # and the mask of one of them
    return folder, names


@pytest.fixture(scope="module")
def whole(rasters, tmp_path_factory):
    return indexed(rasters[0], tmp_path_factory.mktemp("whole"), IndexOptions())


@pytest.fixture(scope="module")
def chips(rasters, tmp_path_factory):
    options = IndexOptions(chip="512px", stride="1024px")
    return indexed(rasters[0], tmp_path_factory.mktemp("chips"), options)


def indexed(folder, archive, options):
    lines = []
    report = index_source(folder, archive / "a", options=options, notify=lines.append)
    return report, lines, archive / "a"


def test_each_raster_is_a_record_or_one_line_that_says_what_to_add(rasters, whole):
    report, lines, archive = whole
    skipped = {problem.where: problem.what for problem in report.skipped}
    assert skipped.keys() == {*ASKS, EMPTY}
    assert all(what in skipped[name] for name, what in ASKS.items())
    assert "holds too little data" in skipped[EMPTY]
    with landcue.open(archive) as opened:
        assert {name for name in rasters[1] if name in opened} == {*rasters[1]} - skipped.keys()
        naip = [opened.record(name).reading for name in rasters[1] if name.startswith("naip/")]
    assert len(naip) == 10
    assert all(reading["bands"] == [1, 2, 3] for reading in naip)
    assert report.assumed[next(iter(naip[0]["rules"]))] == 13
    assert report.assumed["placed by ground control points"] == 1
    assert all(" " in line for line in lines)


def test_the_pictures_are_those_of_the_rule(rasters):
    """All whose pixels are read at full resolution, with exact percentiles."""
    compared = 0
    for name in rasters[1]:
        path = rasters[0] / name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with rasterio.open(path) as file:
                large = max(file.shape) > 1024 and set(file.dtypes) != {"uint8"}
                other = file.rpcs is not None or max(file.shape) > 4000
        if name in {*ASKS, EMPTY, BROKEN} or large or other:
            continue
        wanted = rule.expected(path)
        assert np.abs(read_image(path) - wanted).max() <= 2, name
        compared += 1
    assert compared >= 25


def test_those_that_ask_are_read_with_the_bands_that_are_given(rasters, tmp_path):
    for name, bands in BANDS.items():
        for chip in (None, "256px"):
            archive = tmp_path / f"{bands}-{chip}"
            report = index_source(
                rasters[0] / name, archive, options=IndexOptions(bands=bands, chip=chip)
            )
            assert report.added >= 1
            with landcue.open(archive) as opened:
                hits = opened.search(rasters[0] / name, k=1)
                assert len(hits) == 1
                assert chip or hits[0].distance < 1e-5


@pytest.mark.slow
def test_chips_of_each_raster(rasters, chips):
    report, _, archive = chips
    with landcue.open(archive) as opened:
        groups = {opened.record(hit.id).group for hit in opened.search(k=10_000)}
    left_out = {name.removesuffix(".tif") for name in (*ASKS, EMPTY)}
    present = {name.removesuffix(".tif") for name in rasters[1]} - left_out
    assert groups - present == set()
    assert len(present - groups) <= 1  # corrupt: its first block is broken
    assert any("corrupt.tif" in problem.where for problem in report.skipped) or report.records


@pytest.mark.parametrize("kind", ["whole", pytest.param("chips", marks=pytest.mark.slow)])
def test_search_view_and_export(rasters, request, kind, tmp_path):
    _, _, archive = request.getfixturevalue(kind)
    with landcue.open(archive) as opened:
        records = [hit.id for hit in opened.search(k=10_000)]
        for id_ in records[:: max(1, len(records) // 60)]:
            record = opened.record(id_)
            (found,) = opened.search(id_, k=1)
            assert found.id != id_
            if record.window is None:
                near = opened.search(rasters[0] / record.path, k=3)
                assert min(hit.distance for hit in near) < 1e-5
        opened.search(records[0], k=12).grid(tmp_path / "grid.png")
    assert (tmp_path / "grid.png").stat().st_size > 1000
    with TestClient(create_app([archive], ONE_DECODER), "http://127.0.0.1") as client:
        for id_ in records[:: max(1, len(records) // 40)]:
            if BROKEN.removesuffix(".tif") in id_:
                continue
            for view in ("chip", "thumbnail"):
                answer = client.get(f"/v1/records/{id_}/{view}")
                assert answer.status_code == 200, (id_, view, answer.text)
    from landcue.archive.archive import ArchiveFolder
    from landcue.archive.export import write_geojson

    write_geojson(ArchiveFolder.open(archive), tmp_path / "a.geojson")
    features = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert len(features) == len(records)
    placed = [feature for feature in features if feature["geometry"] is not None]
    assert len(placed) >= len(features) - 4
