from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pystac.validation
import pytest
import shapely
import shapely.geometry

from landcue.archive.archive import ArchiveFolder
from landcue.archive.export import shape_of, write_geojson, write_geoparquet, write_stac
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.sources import open_source
from landcue.errors import DataError, LandcueError
from landcue.types import Bounds, Record

TIME = datetime(2023, 7, 1, 10, 30, tzinfo=UTC)
SKEWED = shapely.Polygon([(5.0, 46.1), (5.9, 46.0), (6.0, 45.0), (5.1, 45.1)])
OVER = shapely.Polygon([(179.0, -16.0), (-179.0, -16.2), (-179.1, -17.2), (178.9, -17.0)])


@pytest.fixture(scope="module")
def archive(tmp_path_factory, tools):
    root = tmp_path_factory.mktemp("source")
    places = {
        "box.png": {"bbox": Bounds(10, 50, 11, 51), "datetime": TIME, "sensor": "sentinel-2"},
        "fiji.png": {"bbox": Bounds(179, -17, -179, -16), "group": "Fiji", "labels": ("sea",)},
        "nowhere.png": {},
        "over.png": {
            "geometry": OVER,
            "bbox": Bounds(178.9, -17.2, -179, -16),
            "datetime": TIME,
        },
        "skewed.png": {
            "geometry": SKEWED,
            "bbox": Bounds(5, 45, 6, 46.1),
            "part": "test",
        },
    }
    records = []
    for i, (name, place) in enumerate(places.items()):
        tools.write_image(root / name, i)
        records.append(Record(name, root / name, **place))
    folder = tmp_path_factory.mktemp("made") / "archive"
    ingest(SourceImages(records, root), folder, tools.PixelEncoder())
    return ArchiveFolder.open(folder)


def row(west=None, south=None, east=None, north=None, geometry=None):
    return {"west": west, "south": south, "east": east, "north": north, "geometry": geometry}


def test_boxes_as_geometry():
    assert shape_of(row()) is None
    plain = shape_of(row(10, 50, 11, 51))
    assert list(plain.exterior.coords) == [(10, 50), (11, 50), (11, 51), (10, 51), (10, 50)]
    crossing = shape_of(row(170, -10, -160, 10))
    assert crossing.geom_type == "MultiPolygon"
    assert sorted(part.bounds for part in crossing.geoms) == [
        (-180, -10, -160, 10), (170, -10, 180, 10),
    ]  # fmt: skip
    wide = shape_of(row(-170, -10, 170, 10))
    assert (wide.geom_type, wide.area) == ("Polygon", 340 * 20)
    assert np.abs(np.diff(np.array(wide.exterior.coords)[:, 0])).max() <= 180
    assert shape_of(row(-180, -10, 180, 10)).geom_type == "Polygon"
    # A box that only touches the antimeridian has no part without area.
    assert shape_of(row(170, -10, -180, 10)).geom_type == "Polygon"
    for shape in (plain, crossing, wide):
        for part in shapely.get_parts(shape):
            assert part.exterior.is_ccw
            assert part.is_valid


def test_geoparquet(archive, tmp_path, tools):
    out = tmp_path / "out.parquet"
    assert write_geoparquet(archive, out) == 5
    table = pq.read_table(out)
    geo = json.loads(table.schema.metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    column = geo["columns"]["geometry"]
    assert column["encoding"] == "WKB"
    assert column["geometry_types"] == ["MultiPolygon", "Polygon"]
    assert "crs" not in column  # which means longitude and latitude (OGC:CRS84)
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    shapes = shapely.from_wkb(table["geometry"].to_pylist())
    present = [shape for shape in shapes if shape is not None]
    assert len(present) == 4
    assert {shape.geom_type for shape in present} == set(column["geometry_types"])
    whole = shapely.total_bounds(np.array(present))
    assert column["bbox"] == pytest.approx(whole.tolist())
    for shape, box in zip(shapes, table["bbox"].to_pylist(), strict=True):
        expected = None if shape is None else shape.bounds
        assert (None if box is None else tuple(box.values())) == expected
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    rows = {found["unique_id"]: found for found in table.to_pylist()}
    for stored in tools.contents(archive):
        found = rows[stored["id"]]
        assert found["embedding"] == stored["embedding"]
        assert found["code"] == stored["code"]
        assert found["timestamp"] == stored["time"]
        assert found["labels"] == stored["labels"]
        assert found["product_id"] == stored["group"]
    assert (rows["fiji.png"]["centre_lon"], rows["fiji.png"]["centre_lat"]) == (180, -16.5)
    model = json.loads(table.schema.metadata[b"landcue"])
    assert model["landcue:model_fingerprint"] == archive.manifest.fingerprint


def test_geoparquet_without_vectors(archive, tmp_path):
    write_geoparquet(archive, tmp_path / "o.parquet", vectors=False)
    names = pq.read_schema(tmp_path / "o.parquet").names
    assert "embedding" not in names
    assert "code" not in names
    assert "geometry" in names


def test_geojson(archive, tmp_path):
    out = tmp_path / "out.geojson"
    assert write_geojson(archive, out) == 5
    value = json.loads(out.read_text())
    assert value["type"] == "FeatureCollection"
    features = {feature["id"]: feature for feature in value["features"]}
    assert features["nowhere.png"]["geometry"] is None
    assert "bbox" not in features["nowhere.png"]
    assert features["fiji.png"]["bbox"] == [179, -17, -179, -16]  # west > east, RFC 7946 5.2
    assert features["fiji.png"]["properties"]["labels"] == ["sea"]
    assert features["box.png"]["properties"]["datetime"] == "2023-07-01T10:30:00Z"
    assert len(features["box.png"]["properties"]["embedding"]) == 16
    assert len(bytes.fromhex(features["box.png"]["properties"]["code"])) == 3
    skewed = shapely.geometry.shape(features["skewed.png"]["geometry"])
    assert skewed.equals(SKEWED)
    over = shapely.geometry.shape(features["over.png"]["geometry"])
    unrolled = shapely.Polygon([(x + 360 if x < 0 else x, y) for x, y in OVER.exterior.coords])
    assert over.area == pytest.approx(unrolled.area)
    assert sorted(part.bounds[0] for part in over.geoms) == pytest.approx([-180, 178.9])


def check(value):
    """Validate by the STAC 1.1 schemas that pystac ships; the extension's own rules are below."""
    assert value["stac_extensions"] == [
        "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json"
    ]
    assert pystac.validation.validate_dict({**value, "stac_extensions": []})


def test_stac(archive, tmp_path):
    with pytest.raises(DataError, match=r"'fiji\.png' has no time, and a STAC item needs one"):
        write_stac(archive, tmp_path / "out.json")
    assert list(tmp_path.iterdir()) == []  # nothing half-written
    default = datetime(2020, 1, 1, tzinfo=UTC)
    assert write_stac(archive, tmp_path / "out.json", time=default) == 5
    items = {i["id"]: i for i in json.loads((tmp_path / "out.json").read_text())["features"]}
    for item in items.values():
        check(item)
        assert item["assets"]["embeddings"]["href"] == "./out.parquet"
        assert item["collection"] == "out"
        assert not [name for name in item["properties"] if name.startswith("emb:")]
    item = items["box.png"]
    assert (item["type"], item["stac_version"]) == ("Feature", "1.1.0")
    assert item["properties"]["datetime"] == "2023-07-01T10:30:00Z"
    assert item["properties"]["platform"] == "sentinel-2"
    assert items["fiji.png"]["properties"]["datetime"] == "2020-01-01T00:00:00Z"
    file = archive.file("box.png").as_posix()
    assert item["assets"]["image"] == {"href": file, "roles": ["data"], "type": "image/png"}
    assert {"rel": "emb:source-data", "href": file} in item["links"]

    collection = json.loads((tmp_path / "out-collection.json").read_text())
    check(collection)
    assert (collection["emb:type"], collection["emb:dimensions"]) == ("chip", 16)
    assert collection["data_type"] == "float32"
    assert collection["landcue:model_fingerprint"] == archive.manifest.fingerprint
    links = {link["rel"]: link["href"] for link in collection["links"]}
    assert links["emb:model"] == f"urn:sha256:{archive.manifest.fingerprint}"
    (source,) = archive.manifest.sources.values()
    assert links["emb:source-data"] == source.location
    assert links["items"] == "./out.json"
    (interval,) = collection["extent"]["temporal"]["interval"]
    assert interval == ["2020-01-01T00:00:00Z", "2023-07-01T10:30:00Z"]
    table = pq.read_table(tmp_path / "out.parquet")
    assert set(table["unique_id"].to_pylist()) == set(archive.columns().ids)
    # The whole archive as items is a source again: the images, not the table.
    again = open_source(tmp_path / "out.json")
    assert {record.path for record in again.records} == {
        archive.file(id_) for id_ in archive.columns().ids
    }


def test_stac_without_vectors(archive, tmp_path):
    write_stac(archive, tmp_path / "out.json", vectors=False, time=datetime(2020, 1, 1, tzinfo=UTC))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-collection.json", "out.json"]
    for name in ("out.json", "out-collection.json"):
        assert "stac-extensions" not in (tmp_path / name).read_text()
        assert "emb:dimensions" not in (tmp_path / name).read_text()


def test_stac_ids_have_no_slashes(tmp_path, tools):
    names = ["a/b.png", "a__b.png", "a/c/d.png"]
    records = tools.write_images(tmp_path / "source", names)
    ingest(SourceImages(records, tmp_path / "source"), tmp_path / "archive", tools.PixelEncoder())
    opened = ArchiveFolder.open(tmp_path / "archive")
    write_stac(opened, tmp_path / "out.json", time=datetime(2020, 1, 1, tzinfo=UTC))
    features = json.loads((tmp_path / "out.json").read_text())["features"]
    ids = {item["id"]: item["properties"].get("landcue:id", item["id"]) for item in features}
    assert sorted(ids.values()) == sorted(names)
    assert len(ids) == 3
    assert not any("/" in id_ for id_ in ids)
    assert {record.id for record in open_source(tmp_path / "out.json").records} == set(names)


def test_file_that_cannot_be_written(archive, tmp_path):
    (tmp_path / "file").write_text("")
    for write in (write_geoparquet, write_geojson):
        with pytest.raises(LandcueError, match="cannot write"):
            write(archive, tmp_path / "file" / "out")
    (tmp_path / "old.geojson").write_text("old")
    with pytest.raises(DataError):
        write_stac(archive, tmp_path / "old.geojson")
    assert (tmp_path / "old.geojson").read_text() == "old"
