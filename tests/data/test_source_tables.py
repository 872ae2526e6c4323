"""Tables and catalogs of images: CSV with places, Parquet, GeoParquet, STAC items."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from landcue.data.label_table import read_label_table
from landcue.data.sources import open_source
from landcue.errors import DataError
from landcue.types import Bounds

BOX = shapely.box(10, 50, 11, 51)
DATELINE = shapely.MultiPolygon([shapely.box(179, -1, 180, 1), shapely.box(-180, -1, -178, 1)])


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "x/b.png", "c d.jpg", "thumb.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return tmp_path


def test_csv_without_labels_but_with_places(folder):
    (folder / "t.csv").write_text(
        "path,time,sensor,west,south,east,north\n"
        "a.png,2024-01-02,Landsat 9,179,-1,-178,1\nx/b.png,,,,,,\nhttps://a.b/c.png,,,,,,\n"
    )
    images = open_source(folder / "t.csv")
    first, second = images.records
    assert (first.labels, first.sensor, first.bbox) == (
        None, "Landsat 9", Bounds(179, -1, -178, 1),
    )  # fmt: skip
    assert (second.labels, second.sensor, second.bbox) == (None, None, None)
    assert "only files on this machine" in str(images.problems[0])
    with pytest.raises(DataError, match="no label column"):
        read_label_table(folder / "t.csv")


@pytest.mark.parametrize("cells", ["1,2,3,x", "1,2,,4", "1,5,2,4", "0,0,400,1"])
def test_csv_with_broken_places(folder, cells):
    (folder / "t.csv").write_text(f"path,west,south,east,north\na.png,{cells}\n")
    images = open_source(folder / "t.csv")
    assert [(r.id, r.bbox) for r in images.records] == [("a.png", None)]
    (problem,) = images.problems
    assert "t.csv line 2" in problem.where
    assert problem.what.endswith("; indexed without a place")
    with pytest.raises(DataError, match=r"t\.csv line 2"):
        read_label_table(folder / "t.csv", unlabeled=True)


def write_parquet(path, rows, geo=None):
    table = pa.Table.from_pylist(rows)
    if geo is not None:
        table = table.replace_schema_metadata({"geo": json.dumps(geo)})
    pq.write_table(table, path)
    return path


def test_parquet(folder):
    when = datetime(2024, 5, 6, 7, tzinfo=UTC)
    rows = [
        {"path": "a.png", "labels": ["water", "ship"], "timestamp": when, "product_id": "S2A",
         "unique_id": "one", "bbox": {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}},
        {"path": "x/b.png", "labels": None, "timestamp": None, "product_id": None,
         "unique_id": None, "bbox": None},
        {"path": "gone.png", "labels": None, "timestamp": None, "product_id": None,
         "unique_id": "gone", "bbox": None},
    ]  # fmt: skip
    images = open_source(write_parquet(folder / "t.parquet", rows))
    assert [(r.id, r.labels, r.group, r.datetime, r.bbox) for r in images.records] == [
        ("one", ("water", "ship"), "S2A", when, Bounds(1, 2, 3, 4)),
        ("x/b.png", None, None, None, None),
    ]
    assert images.label_names == ("ship", "water")
    assert [str(p) for p in images.problems] == ["t.parquet row 2: no image 'gone.png'"]


def geo(crs=...):
    column = {"encoding": "WKB", "geometry_types": []}
    if crs is not ...:
        column["crs"] = crs
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}


@pytest.mark.parametrize("crs", [..., {"id": {"authority": "EPSG", "code": 4326}}])
def test_geoparquet(folder, crs):
    rows = [
        {"path": "a.png", "labels": "water;ship", "geometry": shapely.to_wkb(BOX)},
        {"path": "x/b.png", "labels": "", "geometry": shapely.to_wkb(DATELINE)},
        {"path": "c d.jpg", "labels": "", "geometry": b"no geometry"},
    ]
    images = open_source(write_parquet(folder / "t.geoparquet", rows, geo(crs)))
    found = {r.path.name: (r.bbox, r.geometry, r.labels) for r in images.records}
    assert found["a.png"] == (Bounds(10, 50, 11, 51), BOX, ("water", "ship"))
    assert found["b.png"][0::2] == (Bounds(179, -1, -178, 1), ())
    assert found["b.png"][1].equals(DATELINE)
    assert found["c d.jpg"] == (None, None, ())
    assert [p.where for p in images.problems] == ["t.geoparquet row 2"]
    assert "indexed without a place" in images.problems[0].what


@pytest.mark.parametrize(
    ("rows", "meta", "word"),
    [
        ([{"file": "a.png"}], None, "no 'path' column, only file"),
        ([{"path": "a.png", "geometry": b""}], geo({"id": {"authority": "EPSG", "code": 3857}}),
         "not in EPSG:4326"),
        ([{"path": "a.png", "geometry": b""}], geo(None), "not in EPSG:4326"),
        ([{"path": "a.png", "geometry": b""}], {"columns": 3}, "metadata is broken"),
        ([{"path": "gone.png"}], None, "no image 'gone.png'"),
        ([{"path": "/vsicurl/a.png"}], None, "only files on this machine"),
        ([{"path": "a.png", "labels": 3}], None, "neither a list nor text"),
        ([{"path": "a.png", "time": "soon"}], None, "not an ISO 8601 time"),
    ],
)  # fmt: skip
def test_broken_parquet(folder, rows, meta, word):
    with pytest.raises(DataError, match=word) as caught:
        open_source(write_parquet(folder / "t.parquet", rows, meta))
    assert "t.parquet" in str(caught.value)


def test_no_parquet(folder):
    (folder / "t.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        open_source(folder / "t.parquet")


def item(id_, assets, **changes):
    properties = {"datetime": "2024-05-06T07:08:09Z", "platform": "sentinel-2a"}
    value = {
        "type": "Feature", "stac_version": "1.0.0", "id": id_, "collection": "s2",
        "geometry": shapely.geometry.mapping(BOX), "bbox": [10, 50, 0, 11, 51, 99],
        "properties": properties, "assets": {k: {"href": v} for k, v in assets.items()},
    }  # fmt: skip
    value["properties"] = properties | changes.pop("properties", {})
    return value | changes


def write_stac(folder, *items):
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


def test_stac_items(folder):
    images = open_source(
        write_stac(
            folder,
            item("one", {"image": "./a.png", "thumbnail": "thumb.png", "meta": "a.xml"}),
            item("two", {"B04": "x/b.png", "visual": "c%20d.jpg"},
                 bbox=[179, -1, -178, 1], geometry=shapely.geometry.mapping(DATELINE),
                 properties={"constellation": "sentinel-2", "datetime": None,
                             "start_datetime": "2024-05-06T00:00:00+02:00"}),
        )
    )  # fmt: skip
    one, two = images.records
    assert (one.path.name, one.group, one.sensor) == ("a.png", "s2", "sentinel-2a")
    assert one.datetime == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    assert (one.bbox, one.geometry) == (Bounds(10, 50, 11, 51), BOX)
    assert (two.path.name, two.sensor) == ("c d.jpg", "sentinel-2")
    assert two.datetime == datetime(2024, 5, 5, 22, tzinfo=UTC)
    assert two.bbox == Bounds(179, -1, -178, 1)
    assert two.geometry.equals(DATELINE)
    assert images.problems == ()


def test_one_stac_item_and_a_chosen_asset(folder):
    (folder / "item.json").write_text(json.dumps(item("one", {"B04": "a.png", "B03": "x/b.png"})))
    assert open_source(folder / "item.json", asset="B03").records[0].path.name == "b.png"
    with pytest.raises(DataError, match=r"several images \(B03, B04\); choose with --asset"):
        open_source(folder / "item.json")
    with pytest.raises(DataError, match="has no asset 'B99', only B03, B04"):
        open_source(folder / "item.json", asset="B99")


def test_stac_items_that_cannot_be_used_are_named(folder):
    path = write_stac(
        folder,
        item("good", {"image": "a.png"}),
        item("far", {"image": "https://example.org/a.png"}),
        item("s3", {"image": "s3://bucket/a.png"}),
        item("vsi", {"image": "/vsicurl/http://x/a.png"}),
        item("gone", {"image": "gone.png"}),
        item("none", {"metadata": "a.xml"}),
        item("late", {"image": "a.png"}, properties={"datetime": "soon"}),
        {"type": "Feature"},
        7,
    )
    images = open_source(path)
    assert [record.id for record in images.records] == ["good"]
    problems = {
        str(p).split(":")[0].removeprefix("items.json item "): p.what for p in images.problems
    }
    assert set(problems) == {"far", "s3", "vsi", "gone", "none", "late", "7", "8"}
    for name in ("far", "s3", "vsi"):
        assert "only files on this machine are read" in problems[name]
    assert problems["gone"] == "no image 'gone.png'"
    assert "no asset that is an image" in problems["none"]
    assert "not an ISO 8601 time" in problems["late"]
    assert problems["7"] == "has no id"
    assert problems["8"] == "is of type None, no STAC item"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not valid JSON"),
        ("[1]", "is of type None, no STAC item"),
        ("3", "holds no JSON object"),
        ('{"type": "Catalog"}', "no usable image"),
        ('{"type": "Blob"}', "is of type 'Blob'; use STAC items"),
        ('{"type": "FeatureCollection", "features": 3}', "is of type 'FeatureCollection'; use"),
        ("[" * 100_000, "JSON"),
        ('{"type": "FeatureCollection", "features": []}', "no usable image"), ("\udcff", "JSON"),
    ],
)  # fmt: skip
def test_broken_stac(folder, text, word):
    (folder / "items.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=word):
        open_source(folder / "items.json")


def test_stac_in_lists_lines_and_catalogs(folder):
    one, two = item("one", {"image": "a.png"}), item("two", {"image": "x/b.png"})
    (folder / "list.json").write_text(json.dumps([one, two]))
    (folder / "lines.ndjson").write_text(f"{json.dumps(one)}\n\n{json.dumps(two)}\n")
    (folder / "x" / "two.json").write_text(json.dumps(item("two", {"image": "./b.png"})))
    child = {"type": "Collection", "id": "c", "links": [{"rel": "item", "href": "two.json"}]}
    child["links"] += [{"rel": "parent", "href": "../catalog.json"}, {"rel": "root", "href": ".."}]
    child["links"] += [{"rel": "child", "href": "../catalog.json"}]  # in circles
    (folder / "x" / "collection.json").write_text(json.dumps(child))
    (folder / "one.json").write_text(json.dumps(one))
    catalog = {
        "type": "Catalog", "id": "all",
        "links": [
            {"rel": "self", "href": "https://example.org/catalog.json"},
            {"rel": "item", "href": "./one.json"},
            {"rel": "child", "href": "./x/collection.json"},
            {"rel": "child", "href": "gone.json"},
            {"rel": "child", "href": "https://example.org/other.json"},
        ],
    }  # fmt: skip
    (folder / "catalog.json").write_text(json.dumps(catalog))
    for name in ("list.json", "lines.ndjson", "catalog.json"):
        images = open_source(folder / name)
        assert [(r.id, r.path.name) for r in images.records] == [("one", "a.png"), ("two", "b.png")]
    said = " ".join(str(problem) for problem in images.problems)
    assert len(images.problems) == 2
    assert "no image 'gone.json'" in said
    assert "https://example.org/other.json: only files on this machine are read" in said


def test_stac_assets_by_media_type_and_with_a_query(folder):
    (folder / "scene").write_bytes((folder / "a.png").read_bytes())
    typed = item("typed", {"B01": "scene", "info": "x"})
    typed["assets"]["B01"]["type"] = "image/tiff; application=geotiff; profile=cloud-optimized"
    asked = item("asked", {"picture": "x/b.png?sig=1&se=2", "preview": "thumb.png"})
    asked["assets"]["preview"]["roles"] = ["thumbnail"]
    images = open_source(write_stac(folder, typed, asked))
    assert {r.id: r.path.name for r in images.records} == {"typed": "scene", "asked": "b.png"}
    assert images.problems == ()


def test_duplicate_and_wrong_stac_items_are_named(folder):
    twin = item("one", {"image": "x/b.png"})
    swapped = item("swapped", {"image": "c d.jpg"}, bbox=None)
    swapped["geometry"] = shapely.geometry.mapping(shapely.box(50, 100, 51, 110))
    images = open_source(write_stac(folder, item("one", {"image": "a.png"}), twin, swapped))
    assert [(r.id, r.bbox is None) for r in images.records] == [("one", False), ("swapped", True)]
    twins, place = (
        str(problem) for problem in sorted(images.problems, key=lambda p: "place" in p.what)
    )
    assert "b.png: left out: " in twins
    assert "a.png has the same id 'one'" in twins
    assert "latitude 110, not -90..90 (are longitude and latitude swapped?)" in place
    assert place.endswith("indexed without a place")


def test_stac_geoparquet(folder):
    rows = [
        {
            "id": name, "collection": "s2", "datetime": datetime(2024, 5, 6, tzinfo=UTC),
            "platform": "sentinel-2a", "geometry": shapely.to_wkb(DATELINE),
            "bbox": {"xmin": -180.0, "ymin": -1.0, "xmax": 180.0, "ymax": 1.0},
            "assets": {"visual": {"href": href, "type": "image/png"}, "other": other},
        }
        for name, href, other in (
            ("one", "a.png", None), ("two", "x/b.png", {"href": "thumb.png", "type": "image/png"}),
        )
    ]  # fmt: skip
    images = open_source(write_parquet(folder / "t.parquet", rows, geo()))
    assert [(r.id, r.path.name, r.group, r.sensor) for r in images.records] == [
        ("one", "a.png", "s2", "sentinel-2a"), ("two", "b.png", "s2", "sentinel-2a"),
    ]  # fmt: skip
    assert images.records[0].datetime == datetime(2024, 5, 6, tzinfo=UTC)
    assert images.records[0].bbox == Bounds(179, -1, -178, 1)
    chosen = open_source(folder / "t.parquet", asset="other")
    assert [r.path.name for r in chosen.records] == ["thumb.png"]


@pytest.mark.parametrize("encoding", ["polygon", "multipolygon", "point"])
def test_geoarrow_encodings(folder, encoding):
    ring = [{"x": x, "y": y} for x, y in shapely.box(190, -1, 200, 1).exterior.coords]
    value = {"polygon": [ring], "multipolygon": [[ring]], "point": ring[0]}[encoding]
    meta = geo()
    meta["columns"]["geometry"]["encoding"] = encoding
    images = open_source(
        write_parquet(folder / "t.parquet", [{"path": "a.png", "geometry": value}], meta)
    )
    (record,) = images.records
    assert images.problems == ()
    if encoding == "point":
        assert record.geometry is None
    else:
        assert record.bbox == Bounds(-170, -1, -160, 1)
        assert record.geometry.equals(shapely.box(-170, -1, -160, 1))


FAR = "0001-01-01T00:00:00+14:00"
"""A time that in UTC is before the year 1."""


def test_a_time_outside_of_the_calendar_costs_one_row(folder):
    table = folder / "t.csv"
    table.write_text(f"path,datetime\na.png,{FAR}\nx/b.png,2020-01-01\n")
    images = open_source(table)
    assert [record.id for record in images.records] == ["x/b.png"]
    assert [str(problem) for problem in images.problems] == [
        "t.csv line 2: 0001-01-01 00:00:00+14:00: the year must lie in 1..9999, in UTC"
    ]
    far, good = item("far", {"image": "a.png"}), item("good", {"image": "a.png"})
    images = open_source(write_stac(folder, {**far, "properties": {"datetime": FAR}}, good))
    assert [record.id for record in images.records] == ["good"]
    assert "the year must lie in 1..9999" in images.problems[0].what


@pytest.mark.parametrize(
    "kind", [pa.timestamp("us"), pa.timestamp("s", "UTC"), pa.timestamp("ms", "Etc/GMT+12")]
)
def test_a_time_in_parquet_that_python_has_no_value_for(folder, kind):
    times = pa.array([10**14 if kind.unit == "s" else 10**18, 0], pa.int64()).cast(kind)
    table = pa.table({"path": ["a.png", "x/b.png"], "time": times})
    pq.write_table(table, folder / "t.parquet")
    images = open_source(folder / "t.parquet")
    assert [record.id for record in images.records] == ["x/b.png"]
    assert [str(problem) for problem in images.problems] == [
        "t.parquet row 0: has a time outside of the years 1 to 9999"
    ]


def test_stac_items_with_odd_values(folder):
    """A list in the place of a geometry, and half a character in names."""
    made = item("half \ud800", {"image": "a.png"}, properties={"platform": "\ud800"})
    images = open_source(write_stac(folder, {**made, "geometry": [1], "collection": "\udc00"}))
    (record,) = images.records
    assert (record.id, record.sensor, record.group) == ("half \\ud800", "\\ud800", "\\udc00")
    assert record.geometry is None
    assert "its geometry cannot be read" in images.problems[0].what
