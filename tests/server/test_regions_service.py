"""Mode regions over HTTP: where in a hit the query was found, and the export of boxes."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from fastapi.testclient import TestClient
from PIL import Image
from rasterio.transform import from_origin

import landcue
from landcue.server.app import create_app
from landcue.server.archives import Catalog


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A scene in two chips of 128 pixels, with regions; one lower right quarter is striped."""
    folder = tmp_path_factory.mktemp("regions")
    values = np.full((3, 128, 256), 90, np.uint8)
    values[:, 64:, 192:] = np.where(np.arange(64) % 8 < 4, 240, 20)
    scene = folder / "scenes" / "scene.tif"
    scene.parent.mkdir()
    with rasterio.open(
        scene, "w", driver="GTiff", width=256, height=128, count=3, dtype="uint8",
        crs="EPSG:4326", transform=from_origin(10, 51, 0.001, 0.001),
    ) as file:  # fmt: skip
        file.write(values)
    options = landcue.IndexOptions(chip="128px", regions=3, scale="fixed:0,255")
    landcue.index(scene.parent, folder / "archive", options=options)
    with TestClient(create_app(Catalog.open([folder / "archive"])), "http://127.0.0.1") as made:
        yield made


def crop():
    data = io.BytesIO()
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:] = np.where(np.arange(64) % 8 < 4, 240, 20)[None, :, None]
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


def send(client, url):
    asked = json.dumps({"mode": "regions", "k": 2})
    files = {"request": (None, asked, "application/json"), "image": ("crop.png", crop())}
    answer = client.post(url, files=files)
    assert answer.status_code == 200, answer.text
    return answer


def test_hits_say_where_the_query_was_found(client):
    assert "regions" in client.get("/v1/facets").json()["modes"]
    found = send(client, "/v1/search").json()
    assert found["mode"] == "regions"
    region = found["hits"][0]["region"]
    assert region["box"] == [0.5, 0.5, 1.0, 1.0]
    assert region["window"] == [192, 64, 64, 64]
    west, south, east, north = shapely.geometry.shape(region["geometry"]).bounds
    assert (west, south, east, north) == pytest.approx((10.192, 50.872, 10.256, 50.936))
    plain = client.post("/v1/search", json={"id": found["hits"][0]["id"], "mode": "embedding"})
    assert plain.json()["hits"][0].get("region") is None


def test_boxes_are_exported(client):
    box = pytest.approx((10.192, 50.872, 10.256, 50.936))
    feature = send(client, "/v1/export?format=geojson").json()["features"][0]
    assert shapely.geometry.shape(feature["geometry"]).bounds == box
    assert feature["properties"]["region"] == [0.5, 0.5, 1.0, 1.0]
    header, first = send(client, "/v1/export?format=csv").text.splitlines()[:2]
    row = dict(zip(header.split(","), first.split(","), strict=False))
    assert row["region"] == "0.5 0.5 1.0 1.0"
    assert row["region_window"] == "192 64 64 64"
    data = send(client, "/v1/export?format=geoparquet").content
    table = pq.read_table(io.BytesIO(data))
    assert table["region_window"].to_pylist()[0] == [192, 64, 64, 64]
    assert shapely.from_wkb(table["geometry"].to_pylist()[0]).bounds == box
