"""Whole rasters in an archive: what is stored, what is reported, and queries that find them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from PIL import Image

import landcue
import scene_files as files
from landcue.archive import IndexOptions, index_source
from landcue.archive.archive import ArchiveFolder
from landcue.archive.export import write_geojson, write_geoparquet
from landcue.data.images import read_image

RULES = (
    "four bands without color interpretation: the first three shown as red, green and blue",
    "values scaled to bytes by the percentiles 2 and 98 of each band",
)


@pytest.fixture
def folder(tmp_path):
    """Two rasters of 16 bits and four bands, one of bytes, and a photo."""
    root = tmp_path / "data"
    for i in range(2):
        files.write_scene(root / f"{i}.tif", files.noise(i, 4, 300, 200), nodata=0)
    files.write_scene(root / "rgb.tif", files.noise(5, 3, 90, 90, high=256, dtype="uint8"))
    Image.fromarray(files.noise(6, 3, 90, 90, high=256, dtype="uint8").T.copy()).save(
        root / "p.jpg"
    )
    return root


def test_what_was_assumed_is_stored_and_counted(folder, tmp_path):
    lines = []
    report = index_source(folder, tmp_path / "a", notify=lines.append)
    assert (report.added, report.skipped) == (4, ())
    assert [report.assumed[rule] for rule in RULES] == [2, 2]
    assert report.to_json()["assumed"] == report.assumed
    assert f"2 rasters: {RULES[0]}" in lines
    with landcue.open(tmp_path / "a") as archive:
        reading = archive.record("0.tif").reading
        assert archive.record("p.jpg").reading is None
    with rasterio.open(folder / "0.tif") as file:
        wanted = np.percentile(file.read([1, 2, 3]).reshape(3, -1), [2, 98], axis=1).T
    assert reading["bands"] == [1, 2, 3]
    np.testing.assert_allclose(reading["limits"], wanted)
    assert reading["warnings"] == []
    stored = ArchiveFolder.open(tmp_path / "a")
    write_geojson(stored, tmp_path / "a.json")
    write_geoparquet(stored, tmp_path / "a.parquet")
    stored.close()
    features = json.loads((tmp_path / "a.json").read_text())["features"]
    exported = {feature["id"]: feature["properties"].get("reading") for feature in features}
    assert exported["0.tif"] == reading
    assert exported["p.jpg"] is None
    rows = pq.read_table(tmp_path / "a.parquet", columns=["unique_id", "reading"]).to_pylist()
    assert json.loads({row["unique_id"]: row["reading"] for row in rows}["0.tif"]) == reading
    again = index_source(folder, tmp_path / "a")
    assert (again.unchanged, again.assumed) == (4, {})


def test_options_apply_to_whole_rasters_and_to_queries(folder, tmp_path):
    options = IndexOptions(bands="4,3,2", scale="fixed:0,3000")
    report = index_source(folder / "0.tif", tmp_path / "a", options=options)
    assert report.added == 1
    with landcue.open(tmp_path / "a") as archive:
        (hit,) = archive.search(folder / "0.tif", k=1)
        assert hit.distance < 1e-6
        pixels = read_image(folder / "0.tif", bands=[4, 3, 2], scale="fixed:0,3000")
        (hit,) = archive.search(pixels, k=1)
        assert hit.distance < 1e-6
        (hit,) = archive.search((folder / "0.tif").read_bytes(), k=1)
        assert hit.distance < 1e-6
    changed = index_source(folder / "0.tif", tmp_path / "a")
    assert (changed.updated, changed.unchanged) == (1, 0)


def test_a_scene_finds_its_own_chip(folder, tmp_path):
    options = IndexOptions(chip="300px", bands="4,3,2")
    index_source(folder, tmp_path / "a", options=options)
    with landcue.open(tmp_path / "a") as archive:
        (hit,) = archive.search(folder / "1.tif", k=1)
    assert hit.id.startswith("1/")
    assert hit.distance < 1e-6


def test_share_of_missing_pixels_of_whole_rasters(tmp_path):
    values = files.noise(0, 3, 100, 100)
    values[:, :80] = 0
    files.write_scene(tmp_path / "data/a.tif", values, nodata=0)
    files.write_scene(tmp_path / "data/b.tif", files.noise(1, 3, 100, 100), nodata=0)
    assert index_source(tmp_path / "data", tmp_path / "a").added == 2
    report = index_source(tmp_path / "data", tmp_path / "b", options=IndexOptions(nodata=0.5))
    assert report.added == 1
    assert [problem.where for problem in report.skipped] == ["a.tif"]


def test_lines_of_gdal_are_named_with_their_file(tmp_path):
    """GDAL warns of the colors of this file; nothing reaches the terminal without its name."""
    path = files.write_scene(tmp_path / "data/a.tif", files.noise(0, 4, 60, 60, 1, 256, "uint8"))
    data = bytearray(path.read_bytes())
    at = int.from_bytes(data[4:8], "little")
    for entry in range(at + 2, at + 2 + 12 * int.from_bytes(data[at : at + 2], "little"), 12):
        if int.from_bytes(data[entry : entry + 2], "little") == 338:  # ExtraSamples
            data[entry] = 0x3B  # a tag that says nothing
    path.write_bytes(data)
    command = [sys.executable, "-m", "landcue", "index", tmp_path / "data", tmp_path / "archive"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in done.stderr.splitlines() if "TIFF" in line or "Warning" in line]
    assert lines
    assert all("a.tif" in line for line in lines)
    assert all("a.tif" in line or line[0].isdigit() for line in done.stderr.splitlines())


def test_a_reference_system_added_later_places_an_image(tmp_path):
    root, archive = tmp_path / "data", tmp_path / "a"
    for name, suffix in (("photo.png", "pgw"), ("scan.tif", "tfw")):
        root.mkdir(exist_ok=True)
        Image.fromarray(files.noise(6, 3, 90, 90, high=256, dtype="uint8").T.copy()).save(
            root / name
        )
        (root / name).with_suffix(f".{suffix}").write_text("10 0 0 -10 500000 5000000")
    report = index_source(root, archive)
    assert report.assumed == {
        "world file not used: add a .prj file with its coordinate reference system": 2
    }
    for name in ("photo", "scan"):
        (root / f"{name}.prj").write_text(rasterio.CRS.from_epsg(32633).to_wkt())
    report = index_source(root, archive)
    assert (report.updated, report.unchanged) == (2, 0)
    assert index_source(root, archive).unchanged == 2
    with landcue.open(archive) as opened:
        for name in ("photo.png", "scan.tif"):
            assert opened.record(name).bbox.west == pytest.approx(15, abs=1e-3)
    (root / "photo.pgw").write_text("10 0 0 -10 600000 5000000")
    assert index_source(root, archive).updated == 1
    with landcue.open(archive) as opened:
        assert opened.record("photo.png").bbox.west == pytest.approx(16.27, abs=1e-2)


@pytest.mark.parametrize("chip", [None, "32px"])
def test_a_new_mask_beside_a_raster_is_noticed(tmp_path, chip):
    root, archive = tmp_path / "data", tmp_path / "a"
    for i in range(2):
        files.write_scene(root / f"{i}.tif", files.noise(i, 3, 32, 32, high=256, dtype="uint8"))
    options = IndexOptions(chip=chip)
    assert index_source(root, archive, options=options).added == 2
    mask = np.zeros((32, 32), "uint8")
    mask[:20] = 255
    with rasterio.open(
        root / "0.tif.msk", "w", driver="GTiff", width=32, height=32, count=1, dtype="uint8"
    ) as file:
        file.write(mask, 1)
    report = index_source(root, archive, options=options)
    assert (report.updated, report.unchanged) == (1, 1)
    assert index_source(root, archive, options=options).unchanged == 2


def test_threads_that_read_rasters_print_no_warnings(tmp_path):
    """A TIFF without georeference is expected: nothing of it reaches the terminal."""
    for i in range(4):
        Image.fromarray(files.noise(i, 3, 8, 8, high=256, dtype="uint8").T.copy()).save(
            tmp_path / f"{i}.tif"
        )
    code = f"""
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from landcue.data.images import read_image
sys.setswitchinterval(1e-5)
paths = sorted(Path({str(tmp_path)!r}).iterdir()) * 100
with ThreadPoolExecutor(8) as pool:
    assert len(list(pool.map(read_image, paths))) == 400
"""
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True)
    assert (done.returncode, done.stderr.decode()) == (0, "")
