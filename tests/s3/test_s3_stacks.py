"""Scenes of one object a band in a store: the same as those of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rasterio.transform import from_origin

import scene_files as files
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.images import read_image, read_picture
from landcue.data.objects import ObjectStore
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.data.stacks import band_files
from landcue.errors import DataError

pytestmark = pytest.mark.s3

SOURCE = Path("s3://bucket/bands")
SAFE = "S2.SAFE/IMG_DATA/R{}m/T33UUP_20200304T101021_{}_{}m.tif"
CHIP = SceneOptions(Length(30, meters=False), side=16)


@pytest.fixture
def folder(store, tmp_path):
    """A SAFE product, a Landsat scene and a lone red band; here and in the bucket."""
    root = tmp_path / "bands"
    names = {SAFE.format(10, b, 10): 60 for b in ("B02", "B03", "B04", "TCI")}
    names |= {SAFE.format(20, b, 20): 30 for b in ("B04", "B8A")}
    names |= {f"LC08_x_20200305_SR_B{i}.TIF": 60 for i in (2, 3, 4)}
    names |= {"lone_B04.tif": 60}
    for i, (name, size) in enumerate(names.items()):
        place = {"crs": "EPSG:32633", "transform": from_origin(5e5, 5.5e6, 600 / size, 600 / size)}
        files.write_scene(root / name, files.noise(i, 1, size, size, high=3000), place=place)
        ObjectStore(SOURCE).upload(root / name, f"bucket/bands/{name}")
    return root


def test_stacks_equal_those_of_a_folder(tools, folder, tmp_path):
    near, far = open_source(folder), open_source(SOURCE)
    facts = [(r.id, r.path.name, r.datetime, r.group) for r in far.records]
    assert facts == [(r.id, r.path.name, r.datetime, r.group) for r in near.records]
    assert len(facts) == 3
    assert {p.what for p in far.problems} == {
        "left out: 1 other layers of scenes whose bands are stacked",
        "8 objects of one band each stacked to scenes",
    }
    for one, other in zip(near.records, far.records, strict=True):
        a, b = (read_picture(path, SceneOptions()) for path in (one.path, other.path))
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert (a.bbox, a.reading) == (b.bbox, b.reading)
    red = folder / SAFE.format(10, "B04", 10)
    far_red = SOURCE / SAFE.format(10, "B04", 10)
    assert list(band_files(far_red)) == list(band_files(red)) == ["B04", "B03", "B02", "B8A"]
    bands = {"bands": ["B8A", "B04"]}
    np.testing.assert_array_equal(read_image(far_red, **bands), read_image(red, **bands))
    one, other = cut_scenes(near, CHIP), cut_scenes(far, CHIP)
    assert [(r.id, r.window, r.bbox) for r in one.records] == [
        (r.id, r.window, r.bbox) for r in other.records
    ]
    encoder = tools.PixelEncoder()
    report = ingest(SourceImages(other.records, other.root, CHIP), tmp_path / "a", encoder)
    assert (report.added, report.skipped) == (len(one.records), ())
    again = cut_scenes(open_source(SOURCE), CHIP)
    report = ingest(SourceImages(again.records, again.root, CHIP), tmp_path / "a", encoder)
    assert (report.added, report.updated) == (0, 0)
    assert report.unchanged + report.refreshed == len(one.records)
    name = "LC08_x_20200305_SR_B3.TIF"
    changed = files.write_scene(tmp_path / name, files.noise(99, 1, 60, 60, high=3000))
    ObjectStore(SOURCE).upload(changed, f"bucket/bands/{name}")
    report = ingest(SourceImages(again.records, again.root, CHIP), tmp_path / "a", encoder)
    assert (report.added, report.updated, report.skipped) == (0, 4, ())


def test_a_band_that_is_replaced_meanwhile_is_noticed(folder):
    name = "LC08_x_20200305_SR_B3.TIF"
    reader = SceneReader(SOURCE / name.replace("B3", "B4"), CHIP)
    whole = reader.whole()
    rendering = reader.rendering()
    assert reader.chip(whole, rendering) is not None
    other = files.write_scene(folder / name, files.noise(99, 1, 60, 60, high=3000))
    ObjectStore(SOURCE).upload(other, f"bucket/bands/{name}")
    with pytest.raises(DataError, match=r"B3\.TIF: changed while it was read"):
        reader.chip(whole, rendering)


def test_items_in_a_store_name_one_asset_a_band(folder):
    assets = {f"b{i}": {"href": f"LC08_x_20200305_SR_B{i}.TIF"} for i in (2, 3, 4)}
    item = {"type": "Feature", "id": "s", "properties": {}, "assets": assets}
    ObjectStore(SOURCE).upload(json.dumps(item).encode(), "bucket/bands/items.json")
    (record,) = open_source(SOURCE / "items.json").records
    assert record.path.name == "LC08_x_20200305_SR_B4.TIF"
    np.testing.assert_array_equal(
        read_image(record.path), read_image(folder / "LC08_x_20200305_SR_B4.TIF")
    )
