"""Tables and STAC items in an object store, and commands on archives of what they name."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scene_files as files
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed
from landcue.audit.images import summarize_image
from landcue.data.objects import ObjectStore, look_up_all
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import ArchiveError, DataError, StoreError, UsageError
from landcue.search import Archive, open_archive
from landcue.search.scene import Chip, read_chip
from landcue.server.errors import ProblemError, without_paths
from landcue.server.model_views import chip_pixels
from landcue.types import Window

pytestmark = pytest.mark.s3

ITEMS = Path("s3://bucket/items")
OPTIONS = SceneOptions(Length(64, meters=False), side=32)
REFUSED = {
    "web": ("https://example.org/a.tif", "only objects"),
    "here": ("/etc/passwd.tif", "only objects"),
    "file": ("file:///etc/passwd.tif", "only objects"),
    "vsi": ("/vsicurl/http://x/a.tif", "only objects"),
    "out": ("../../other/a.tif", "leads out of its bucket"),
    "virtual": ("a.vrt", "a VRT can name any other file"),
    "gone": ("gone.tif", "no image 'gone.tif'"),
    "elsewhere": ("s3://bucket/none/a.tif", "no image 's3://bucket/none/a.tif'"),
}


def put(key, data):
    ObjectStore(ITEMS).upload(data, f"bucket/{key}")


@pytest.fixture
def folder(store, tmp_path):
    """``items`` and, beside it, ``scenes``; here and in the bucket."""
    root = tmp_path / "local"
    for i, name in enumerate(("items/a.tif", "items/b c.tif", "scenes/far.tif")):
        files.write_scene(root / name, files.noise(i, 3, 100, 130, high=256, dtype="uint8"))
        put(name, root / name)
    return root


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def item(id_, href, **properties):
    return {
        "type": "Feature", "id": id_, "collection": "s2", "bbox": [10, 50, 11, 51],
        "properties": {"datetime": "2024-05-06T07:08:09Z", "platform": "sentinel-2a"} | properties,
        "assets": {"visual": {"href": href}, "thumbnail": {"href": "t.png"}},
    }  # fmt: skip


def stac(*items):
    return json.dumps({"type": "FeatureCollection", "features": items}).encode()


def facts(images):
    """What records say but where their files are."""
    return [replace(record, path=record.path.name) for record in images.records]


def rows(tools, archive, *aside):
    opened = ArchiveFolder.open(archive)
    found = tools.contents(opened)
    opened.close()
    aside = {"mtime_ns", "metadata_check", "content", "check", *aside}
    return [{name: row[name] for name in row if name not in aside} for row in found]


TABLE = [
    {"path": "a.tif", "id": "one", "labels": ["water"], "time": "2024-01-02", "group": "g"},
    {"path": "b c.tif", "id": "two", "labels": [], "time": None, "group": None},
    {"path": "../scenes/far.tif", "id": "far", "labels": None, "time": None, "group": "h"},
]


def test_parquet_equals_a_local_one(tools, folder, tmp_path):
    path = write_parquet(folder / "items" / "table.parquet", TABLE)
    put("items/table.parquet", path)
    here, far = open_source(path), open_source(ITEMS / "table.parquet")
    assert facts(far) == facts(here)
    assert not far.problems
    for images, name in ((here, "plain"), (far, "a")):
        cut = cut_scenes(images, OPTIONS)
        ingest(SourceImages(cut.records, cut.root, OPTIONS), tmp_path / name, tools.PixelEncoder())
    assert rows(tools, tmp_path / "a", "path") == rows(tools, tmp_path / "plain", "path")
    opened = ArchiveFolder.open(tmp_path / "a")
    found = {opened.file(id_).as_posix() for id_ in opened.columns().ids}
    opened.close()
    assert found == {
        "s3:/bucket/items/a.tif", "s3:/bucket/items/b c.tif", "s3:/bucket/scenes/far.tif",
    }  # fmt: skip


def test_csv_equals_a_local_one(folder):
    path = folder / "items" / "table.csv"
    path.write_text("path,labels,group\na.tif,water;trees,g\n../scenes/far.tif,,h\nno.tif,,h\n")
    put("items/table.csv", path)
    here, far = open_source(path), open_source(ITEMS / "table.csv")
    assert facts(far) == facts(here)
    assert far.problems == here.problems
    assert far.label_names == here.label_names == ("trees", "water")


def test_stac_equals_a_local_one(folder):
    items = [item("one", "./a.tif"), item("two", "b%20c.tif"), item("far", "../scenes/far.tif"),
             item("late", "a.tif", datetime="soon"), item("gone", "gone.tif")]  # fmt: skip
    (folder / "items" / "items.json").write_bytes(stac(*items))
    put("items/items.json", stac(*items))
    here, far = open_source(folder / "items" / "items.json"), open_source(ITEMS / "items.json")
    assert facts(far) == facts(here)
    assert far.problems == here.problems
    assert len(far) == 3


def test_hrefs_of_other_buckets(folder, store):
    store.create_dir("second")
    try:
        ObjectStore(Path("s3://second")).upload(folder / "items" / "a.tif", "second/x/a.tif")
        put("items/item.json", json.dumps(item("one", "s3://second/x/a.tif")).encode())
        images = open_source(ITEMS / "item.json")
        assert images.records[0].path == Path("s3://second/x/a.tif")
        assert len(cut_scenes(images, OPTIONS)) == 6
    finally:
        store.delete_dir("second")


def test_names_that_are_not_followed(folder):
    put("items/a.vrt", b"<VRTDataset/>")
    names = {id_: href for id_, (href, _) in REFUSED.items()} | {"good": "a.tif"}
    vrt = item("virtual", "a.vrt")
    put("items/items.json", stac(*(item(*pair) for pair in names.items() if pair[0] != "virtual")))
    put("items/item.json", json.dumps(vrt).encode())
    images = open_source(ITEMS / "items.json")
    assert [record.id for record in images.records] == ["good"]
    problems = {p.where.removeprefix("items.json item "): p.what for p in images.problems}
    assert problems.keys() == REFUSED.keys() - {"virtual"}
    for name, what in problems.items():
        assert REFUSED[name][1] in what
    with pytest.raises(DataError, match="a VRT can name any other file"):
        open_source(ITEMS / "item.json", asset="visual")
    rows = [{"path": href, "id": id_} for id_, href in names.items()]
    put("items/table.parquet", write_parquet(folder / "t.parquet", rows))
    images = open_source(ITEMS / "table.parquet")
    assert [record.id for record in images.records] == ["good"]
    order = list(names)
    for problem in images.problems:
        assert REFUSED[order[int(problem.where.split()[-1])]][1] in problem.what
    assert len(images.problems) == len(REFUSED)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("t.parquet", b"PAR1 but not really", "s3://bucket/items/t.parquet is not a readable"),
        ("t.csv", b"file,labels\na.tif,x\n", "s3://bucket/items/t.csv has no 'path' column"),
        ("t.json", b"{", "s3://bucket/items/t.json is not valid JSON"),
        ("t.json", b'{"type": "Catalog"}', "s3://bucket/items holds no usable image"),
        ("t.tif", b"no scene", "s3://bucket/items holds no scene to cut .*t.tif: not a JPEG"),
        ("t.parquet", None, "s3://bucket/items/t.parquet: there is nothing"),
        ("t.tif", None, "s3://bucket/items/t.tif: there is nothing"),
    ],
)
def test_broken_sources(store, name, data, said):
    if data is not None:
        put(f"items/{name}", data)
    with pytest.raises(DataError, match=said) as caught:
        cut_scenes(open_source(ITEMS / name), OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_store_that_fails_is_no_broken_table(folder, throttle, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    put("items/table.parquet", write_parquet(folder / "t.parquet", TABLE))
    exists = ObjectStore.exists

    def failing_from_then_on(self, key):
        found = exists(self, key)
        throttle.refuse = 10**6
        return found

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "exists", failing_from_then_on)
        with pytest.raises(StoreError, match="asks to slow down"):
            open_source(ITEMS / "table.parquet")
    throttle.refuse = 0
    images = open_source(ITEMS / "table.parquet")
    throttle.refuse = 10**6
    with pytest.raises(StoreError, match="asks to slow down"):
        cut_scenes(images, OPTIONS)  # no scene is taken for broken
    with pytest.raises(StoreError, match="asks to slow down"):
        look_up_all(record.path for record in images.records)  # nor for missing


def test_another_model_reads_the_objects_again(tools, folder, store, tmp_path):
    put("items/table.parquet", write_parquet(folder / "t.parquet", TABLE))
    cut = cut_scenes(open_source(ITEMS / "table.parquet"), OPTIONS)
    ingest(SourceImages(cut.records, cut.root, OPTIONS), tmp_path / "a", tools.PixelEncoder())
    other = tools.PixelEncoder(seed=5)
    report = reembed(tmp_path / "a", other, scenes=lambda source: OPTIONS)
    assert (report.records, report.dropped) == (18, ())
    ingest(SourceImages(cut.records, cut.root, OPTIONS), tmp_path / "b", other)
    assert rows(tools, tmp_path / "a") == rows(tools, tmp_path / "b")
    store.delete_file("bucket/scenes/far.tif")
    with pytest.raises(ArchiveError, match="6 of 18 records cannot be encoded again"):
        reembed(tmp_path / "a", tools.PixelEncoder(seed=6), scenes=lambda source: OPTIONS)


def test_images_are_encoded_again(tools, store, tmp_path):
    tools.write_images(tmp_path / "images", ["x/1.png", "x/2.png"])
    for name in ("1.png", "2.png"):
        put(f"images/x/{name}", tmp_path / "images" / "x" / name)
    images = open_source(Path("s3://bucket/images"))
    ingest(SourceImages(images.records, images.root), tmp_path / "a", tools.PixelEncoder())
    assert reembed(tmp_path / "a", tools.PixelEncoder(seed=5)).records == 2


def test_a_chip_as_a_query(folder):
    window = Window(10, 20, 64, 64)
    far = read_chip(Chip(ITEMS / "a.tif", window), 32)
    np.testing.assert_array_equal(far, read_chip(Chip(folder / "items" / "a.tif", window), 32))
    with pytest.raises(UsageError, match=r"items/a\.tif: window .* is not inside the scene"):
        read_chip(Chip(ITEMS / "a.tif", Window(100, 0, 64, 64)))
    with pytest.raises(DataError, match=r"s3://bucket/items/none\.tif: there is nothing"):
        read_chip(Chip(ITEMS / "none.tif", window))


def test_service_names_no_bucket(tools, folder, tmp_path):
    put("items/table.parquet", write_parquet(folder / "t.parquet", TABLE))
    cut = cut_scenes(open_source(ITEMS / "table.parquet"), OPTIONS)
    ingest(SourceImages(cut.records, cut.root, OPTIONS), tmp_path / "a", tools.PixelEncoder())
    opened = open_archive(tmp_path / "a")
    for id_ in opened.ids()[:7]:
        with pytest.raises(ProblemError, match="object store") as caught:
            chip_pixels(None, opened, id_)
        assert caught.value.status_code == 404
        assert "bucket" not in caught.value.detail
    opened.close()
    text = "s3://bucket/items/a.tif: there is nothing; s3:/bucket/items, (s3://bucket)"
    assert without_paths(text) == "…: there is nothing; …, (…)"


def test_an_image_as_a_query(tools, store, tmp_path):
    tools.write_image(tmp_path / "query.png", 1)
    put("query.png", tmp_path / "query.png")
    records = tools.write_images(tmp_path / "images", ["1.png", "2.png"])
    ingest(SourceImages(records, tmp_path / "images"), tmp_path / "a", tools.PixelEncoder())
    archive = Archive(ArchiveFolder.open(tmp_path / "a"), tools.PixelEncoder())
    near = archive.search(tmp_path / "query.png")
    assert archive.search("s3://bucket/query.png").hits == near.hits
    with pytest.raises(DataError, match=r"^s3://bucket/none\.png: there is nothing$"):
        archive.search("s3://bucket/none.png")


def test_audit_reads_objects(tools, store, tmp_path, throttle, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    tools.write_images(tmp_path / "images", ["x/1.png", "x/2.png"])
    for name in ("1.png", "2.png"):
        put(f"images/x/{name}", tmp_path / "images" / "x" / name)
    here, far = open_source(tmp_path / "images"), open_source(Path("s3://bucket/images"))
    assert [summarize_image(r)[0].content for r in far.records] == [
        summarize_image(r)[0].content for r in here.records
    ]
    store.delete_file("bucket/images/x/1.png")
    assert "there is nothing" in summarize_image(far.records[0]).reason
    throttle.refuse = 10**6
    with pytest.raises(StoreError):
        summarize_image(far.records[1])


def landcue(*args):
    command = [sys.executable, "-m", "landcue.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def test_commands(folder, tmp_path):
    """Scenes of a prefix become chips, and a chip in the store finds itself."""
    archive = tmp_path / "a"
    done = landcue("index", "s3://bucket/items", archive, "--chip", "64px", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["added"], report["skipped"]) == (12, [])
    found = landcue("search", archive, "s3://bucket/items/a.tif", "--window", "0,0,64,64", "--json")
    best = json.loads(found.stdout)["hits"][0]
    assert best["id"] == "a/r000000-c000000-64x64"
    assert best["distance"] < 0.01
