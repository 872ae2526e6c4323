from __future__ import annotations

import csv
import inspect
import io
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely.geometry
from PIL import Image

from landcue.client import Client, SearchAnswer, SearchArguments, ServiceError
from landcue.errors import LandcueError, UsageError
from landcue.search import ById, Filter, Query
from landcue.server.schemas.searches import Filters, SearchRequest
from landcue.server.settings import Tokens
from landcue.types import Bounds


def expected(result):
    return [(hit.id, pytest.approx(hit.distance)) for hit in result.hits]


def found(page):
    return [(hit.id, hit.distance) for hit in page.hits]


@pytest.fixture
def client(url):
    return Client(url)


def test_search_by_record_is_the_plain_search(client, plain):
    for mode in ("embedding", "code", "cue", "two-stage"):
        page = client.search(record="port/01.png", k=7, mode=mode)
        result = plain.search(ById("port/01.png"), k=7, mode=mode)
        assert found(page) == expected(result)
        assert (page.mode, page.archive, page.query) == (mode, "photos", "port/01.png")
        assert page.labels == result.labels
        for hit, other in zip(page.hits, result.hits, strict=True):
            assert (hit.labels, hit.shared) == (other.labels, other.shared)
            assert hit.datetime == other.datetime
            if other.geometry is not None:
                assert shapely.geometry.shape(hit.geometry).equals(other.geometry)
            assert Bounds(*hit.bbox) == other.bbox
            assert (hit.sensor, hit.group, hit.near) == (other.sensor, other.group, other.near)
    assert page.plan.mode == "two-stage"
    assert len(client.search(archive="made", k=3).hits) == 3


def test_search_by_image_crop_and_examples(client, plain, png, tmp_path):
    image, other = png(seed=1), png(60, 50, seed=2)
    file = tmp_path / "query.png"
    file.write_bytes(image)
    for given in (image, file, str(file)):
        assert found(client.search(image=given, k=5)) == expected(plain.search(image, k=5))
    pixels = np.asarray(Image.open(io.BytesIO(image)))[5:25, 10:30]
    page = client.search(image=file, k=5, crop=(10, 5, 20, 20))
    assert found(page) == expected(plain.search(pixels, k=5))
    page = client.search(
        image=image,
        record="farm/02.png",
        positives=[other],
        negatives=["port/03.png"],
        rule="rocchio",
        negative_weight=0.25,
        k=30,
    )
    for_ = (image, ById("farm/02.png"), other)
    mix = Query(for_, (ById("port/03.png"),), "rocchio", 0.25)
    assert found(page) == expected(plain.search(mix, k=30))


@pytest.mark.parametrize(
    "interval",
    [
        (date(2024, 1, 3), date(2024, 12, 31)),
        (datetime(2024, 1, 3, tzinfo=UTC), None),
        "2024-01-03/..",
    ],
)
def test_filters_and_pages(client, plain, interval):
    asked = SearchArguments(
        record="port/01.png",
        labels="water and not field",
        bbox=(0, -5, 12, 5),
        datetime=interval,
        k=2,
    )
    where = Filter(
        expression="water and not field",
        bbox=Bounds(0, -5, 12, 5),
        datetime="2024-01-03/..",
    )
    whole = plain.search(ById("port/01.png"), k=30, where=where)
    assert 3 <= len(whole.hits) < 10
    pages = list(client.pages(**asked))
    assert [len(page.hits) for page in pages[:-1]] == [2] * (len(pages) - 1)
    assert [one for page in pages for one in found(page)] == expected(whole)
    again = client.search(**asked, cursor=pages[0].cursor)
    assert found(again) == found(pages[1])


def test_pages_are_asked_for_when_needed(client):
    asked = {"mode": "embedding", "record": "port/01.png", "k": 5}
    first, second = islice(client.pages(**asked), 2)
    assert found(first) + found(second) == found(client.search(**{**asked, "k": 10}))


def test_after_and_before_are_answered_with_datetime(client):
    for name in ("after", "before"):
        with pytest.raises(UsageError, match=f"no keyword '{name}': write datetime='2024-06-01/"):
            client.search(**{name: "2024-01-03"})
        with pytest.raises(UsageError, match='write "datetime": "2024-06-01/'):
            client.suggest(positives=["port/01.png"], filters={name: "2024-01-03"})
    with pytest.raises(UsageError, match="is no date: write 2024"):
        client.search(datetime="soon")
    pair = client.suggest(
        positives=["port/01.png"], filters={"datetime": (date(2024, 1, 3), date(2024, 1, 5))}
    )
    assert {hit.datetime.day for hit in pair.hits} <= {3, 4, 5}
    assert pair.hits


def test_other_filters_reach_the_search(client):
    triangle = [[[1, 0], [4, 0], [4, 2], [1, 0]]]
    page = client.search(polygon={"type": "Polygon", "coordinates": triangle})
    assert page.mode == "place"
    assert 0 < len(page.hits) < 6
    only = client.search(path="farm/", datetime="../2024-01-08", k=100)
    assert sorted(hit.id for hit in only.hits) == [f"farm/0{i}.png" for i in (0, 2, 4, 6)]
    assert client.search(groups=["nowhere"]).hits == ()
    assert "nowhere" in client.search(groups=["nowhere"]).note
    assert client.search(scores={"bright": 1.0}, sensors=["none"], parts=["test"]).hits == ()


def test_predicted_labels_of_hits(client):
    asked = {"record": "port/01.png", "k": 3}
    for hit in client.search(**asked, predicted=True).hits:
        assert hit.predicted == client.record(hit.id).predicted_labels
    assert {hit.predicted for hit in client.search(**asked).hits} == {None}


def test_a_search_has_every_field_of_the_service():
    of_examples = {"image", "positives", "negatives"}
    of_filters = set(Filters.model_fields)
    of_request = set(SearchRequest.model_fields) - {"id", "filters"} | {"record"}
    assert set(SearchArguments.__annotations__) == of_examples | of_filters | of_request


def test_records_and_their_pixels(client, source):
    record = client.record("port/01.png")
    assert (record.archive, record.labels) == ("photos", ("water", "ship"))
    assert (record.bbox, record.window) == ((1, 0, 1.5, 1), None)
    assert record.datetime == datetime(2024, 1, 2, tzinfo=UTC)
    assert client.record("port/29.png").labels is None
    assert Image.open(io.BytesIO(client.thumbnail("port/01.png"))).format == "JPEG"
    shown = np.asarray(Image.open(io.BytesIO(client.chip("port/01.png")))).astype(int)
    original = np.asarray(Image.open(source[0] / "port/01.png")).astype(int)
    assert abs(shown - original).mean() < 10
    assert Image.open(io.BytesIO(client.chip("port/01.png", side=16))).size == (16, 16)


@pytest.mark.parametrize("id_", ["none", "a/../port/01.png", "./x", "a b/ü?#%2e", "port//01.png"])
def test_ids_arrive_as_they_are(client, id_):
    with pytest.raises(ServiceError) as caught:
        client.record(id_)
    assert caught.value.status == 404
    assert f"No record has the id {id_!r}" in caught.value.detail


def test_archives_and_labels(client):
    assert client.archives() == ("photos", "made")
    about = client.archive()
    assert (about.name, about.records, about.dim, about.encodes_images) == ("photos", 30, 16, True)
    assert not about.stale
    assert client.archive("made").records == 200
    counts = {one.name: one for one in client.labels()}
    assert (counts["ship"].annotated, counts["ship"].records) == (10, 10)
    assert client.labels(archive="made") != client.labels()


def test_exports_hold_the_hits(client, tmp_path):
    asked = {"record": "port/01.png", "k": 30}
    ids = [hit.id for hit in client.search(**asked).hits]
    geojson = json.loads(client.export(tmp_path / "a.geojson", **asked).read_text())
    assert [feature["id"] for feature in geojson["features"]] == ids
    rows = csv.DictReader(io.StringIO(client.export(tmp_path / "a.CSV", **asked).read_text()))
    assert [row["id"] for row in rows] == ids
    assert pq.read_table(client.export(tmp_path / "a.parquet", **asked))["id"].to_pylist() == ids
    counted = client.score_counts(record="port/01.png", min_score=0.5)
    every = client.export(
        tmp_path / "all.csv", all=True, record="port/01.png", k=1, min_score=0.5
    ).read_text()
    assert 0 < counted.passing == len(every.splitlines()) - 1 < counted.matched == 29
    shown = client.places(record="port/01.png", inside=(0, -1, 4.2, 2), label="ship", most=0)
    assert sum(one.count for one in shown.clusters) == shown.inside == 3  # 2 to 4
    assert sum(one.labeled for one in shown.clusters) == 1
    plain = json.loads(client.export(tmp_path / "hits", format="json", **asked).read_text())
    assert [hit["id"] for hit in plain["hits"]] == ids


def test_the_least_percentile_is_sent(client, plain):
    asked = {"record": "port/01.png", "mode": "embedding", "k": 29}
    hits = client.search(**asked).hits
    least = min(hit.percentile for hit in hits if hit.percentile)
    kept = [hit.id for hit in client.search(**asked, min_percentile=least).hits]
    assert kept == [hit.id for hit in hits if hit.percentile >= least]
    assert 0 < len(kept) < 29


def test_a_failed_export_keeps_the_old_file(client, tmp_path):
    file = tmp_path / "hits.csv"
    file.write_text("old")
    with pytest.raises(ServiceError, match="No record has the id"):
        client.export(file, record="none")
    with pytest.raises(UsageError, match=r"\.xlsx.*no such format.*\.csv"):
        client.export(tmp_path / "hits.xlsx", record="port/01.png")
    with pytest.raises(UsageError, match="did you mean 'geojson'"):
        client.export(file, format="geojsn", record="port/01.png")
    with pytest.raises(LandcueError, match="cannot write"):
        client.export(file / "below.csv", record="port/01.png")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["hits.csv"]


def test_health_tells_when_models_are_loaded(start, encoder):
    loaded = threading.Event()

    def slow():
        loaded.wait()
        return encoder

    with start(encoder=slow) as url:
        client = Client(url)
        try:
            assert client.health() == "starting"
        finally:
            loaded.set()
        while client.health() != "ready":
            pass


def test_problems_are_one_clear_error(client, url):
    with pytest.raises(ServiceError) as caught:
        client.search(record="port/2l.png")
    error = caught.value
    assert isinstance(error, LandcueError)
    assert error.status == 404
    assert "did you mean 'port/" in error.detail  # a near match
    assert str(error) == f"{url}: 404: {error.detail} (request {error.request_id})"
    assert len(error.request_id) >= 16
    with pytest.raises(ServiceError, match="side: ") as caught:
        client.chip("port/01.png", side=0)
    assert caught.value.status == 422
    assert [one["at"] for one in caught.value.errors] == ["query.side"]
    with pytest.raises(ServiceError, match="JPEG, PNG, TIFF"):
        client.search(image=b"no image")


def test_tokens(start):
    read, feedback = "r" * 24, "f" * 24
    with start(tokens=Tokens(read=(read,), feedback=(feedback,))) as url:
        for token, status in ((None, 401), ("wrong" * 8, 401)):
            with pytest.raises(ServiceError) as caught:
                Client(url, token=token).labels()
            assert caught.value.status == status
            assert str(token) not in str(caught.value)
        client = Client(url, token=read)
        assert client.labels()
        with pytest.raises(ServiceError, match="lacks the scope") as caught:
            client.create_collection("a")
        assert caught.value.status == 403
        assert read not in repr(client) + str(caught.value)
        assert Client(url).health() in ("ready", "starting")


def test_threads_share_a_client(client):
    ids = [f"port/{i:02}.png" for i in range(1, 30, 2)] * 2
    alone = [found(client.search(record=id_)) for id_ in ids]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda id_: found(client.search(record=id_)), ids)) == alone


def test_wrong_usage_is_told_before_anything_is_sent(tmp_path):
    client = Client("http://127.0.0.1:9")  # nobody is there
    for asked, part in (
        ({"recrod": "a"}, "no keyword 'recrod' (did you mean 'record'"),
        ({"image": tmp_path / "none.png"}, "none.png cannot be read"),
        ({"positives": "port/01.png"}, "positives: pass a list"),
        ({"k": 0}, "k: input should be greater than or equal to 1"),
        ({"bbox": (0, 5, 1, 4)}, "filters.bbox: bounds"),
        ({"min_score": float("nan")}, "JSON"),
        ({"min_percentile": 101}, "min_percentile: input should be less than or equal to 100"),
        ({"record": object()}, "JSON"),
    ):
        with pytest.raises(UsageError) as caught:
            client.search(**asked)
        assert part in str(caught.value)
    with pytest.raises(UsageError, match="id is empty"):
        client.record("")


def test_importing_the_client_is_light():
    code = "import sys, landcue.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "landcue" in loaded
    assert not loaded & {"torch", "numpy", "pyarrow", "fastapi", "starlette", "PIL", "rasterio"}


def test_the_query_may_be_anything_that_names_or_is_one(client, plain, png, tmp_path):
    data = png(seed=1)
    file = tmp_path / "query.png"
    file.write_bytes(data)
    picture = Image.open(file)
    wanted = expected(plain.search(data, k=5))
    for query in (data, file, picture, np.asarray(picture)):
        assert found(client.search(query, k=5)) == wanted
    page = client.search("port/01.png", k=5)
    assert found(page) == expected(plain.search(ById("port/01.png"), k=5))
    assert found(client.search(page[0], k=3)) == expected(plain.search(ById(page[0].id), k=3))
    both = [page[0], "port/01.png"]
    query = Query([ById(page[0].id), ById("port/01.png")])
    assert found(client.search(both, k=3)) == expected(plain.search(query, k=3))
    vector = plain.embed(ById("port/03.png"))
    wanted = expected(plain.search(vector, k=4, mode="embedding"))
    for query in (vector, vector[0], vector[0].tolist()):
        assert found(client.search(query, k=4, mode="embedding")) == wanted
    pages = list(client.pages("port/01.png", k=12))
    assert [hit.id for hit in page] == [hit.id for hit in pages[0]][:5]
    with pytest.raises(UsageError, match="pass the query once"):
        client.search("port/01.png", record="port/03.png")
    with pytest.raises(UsageError, match="dict is no id"):
        client.search({})


def test_an_answer_is_a_sequence_a_table_and_a_map(client, plain):
    page = client.search("port/01.png", k=8)
    assert (len(page), list(page), page[-1]) == (8, list(page.hits), page.hits[7])
    assert client.search("port/01.png", labels="field and ship")  # true, though empty
    table = page.to_geopandas()
    assert table.crs.to_epsg() == 4326
    assert list(table["id"]) == [hit.id for hit in page]
    for shape, hit in zip(table.geometry, plain.search(ById("port/01.png"), k=8), strict=True):
        assert shape.equals(hit.geometry)
    everything = client.search(k=100)
    crossing = next(hit for hit in everything if hit.bbox[0] > hit.bbox[2])
    outline = shapely.geometry.shape(crossing.__geo_interface__["geometry"])
    assert outline.bounds == (-180, -1, 180, 1)
    text = page._repr_html_()
    assert text.count("<tr>") == 9
    assert text.count("data:image/jpeg;base64,") == 8


def test_names_in_a_table_are_text():
    hit = {"id": "<script>", "distance": 0, "score": 1, "labels": ["<b>"], "shared": [], "near": 0}
    nothing = dict.fromkeys(("bbox", "geometry", "window", "datetime", "sensor", "group"))
    plan = {"mode": "code", "why": "", "recall": None, "lists": None, "milliseconds": 0}
    plan |= dict.fromkeys(("records", "allowed", "scanned", "reranked"), 1)
    answer = SearchAnswer.model_validate(
        {
            **{"archive": "a", "query": "q", "mode": "code", "labels": [], "cursor": None},
            **{"note": None, "plan": plan, "hits": [{**hit, **nothing, "source": "s"}]},
        }
    )
    assert "<script>" not in answer._repr_html_()
    assert "<b>" not in answer._repr_html_()
    assert answer.__geo_interface__["features"][0]["geometry"] is None


def test_embeddings_are_exported(client, plain, tmp_path):
    ids = plain.search_all(ById("port/01.png")).ids
    wanted = np.concatenate([plain.embed(ById(id_)) for id_ in ids])
    file = client.export(tmp_path / "all.npy", record="port/01.png", all=True)
    assert np.array_equal(np.load(file), wanted)
    file = client.export(tmp_path / "all.arrow", record="port/01.png", all=True)
    with pa.ipc.open_stream(file) as stream:
        table = stream.read_all()
    assert tuple(table["id"].to_pylist()) == ids
    assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32), wanted)
    nothing = client.export(tmp_path / "none.npy", labels="field and ship")
    assert np.load(nothing).shape == (0, wanted.shape[1])
    some = client.search(np.load(tmp_path / "all.npy")[3], k=1, mode="embedding")
    assert some[0].id == ids[3]


def test_the_signature_names_the_keywords():
    known = inspect.signature(Client.search).parameters
    assert list(known)[:2] == ["self", "query"]
    assert set(SearchArguments.__annotations__) <= set(known)
