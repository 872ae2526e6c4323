"""Change, timelines and similarity rasters over HTTP: as in the library."""

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from fastapi.testclient import TestClient

import landcue
import made_archive
import services
from landcue.client import Client
from landcue.errors import UsageError
from landcue.server.archives import Catalog
from landcue.server.collections import Collections
from landcue.server.kept_images import KeptImage
from landcue.types import Bounds, Encoding

BASE = "http://127.0.0.1"
N, YEARS = 60, (2012, 2018, 2019)
SIZES = made_archive.Sizes(dim=16)


def write(folder, sizes=SIZES, seed=0, years=YEARS, side="640m", east=15, **more):
    """Chips of N cells at three dates; place 7 differs from 2018 on."""
    rng = np.random.default_rng(seed)
    place = rng.normal(size=(N, sizes.dim))
    rows, vectors = [], []
    for year in years:
        for i in range(N):
            west = east + 0.01 * i
            id_ = f"{year}/utm33N-{side}-n005500-e{int(100 * (east - 15)) + 700 + i:06}"
            time = datetime(year, 7, 1, tzinfo=UTC)
            row = made_archive.plain_record(0)
            box = Bounds(west, 50, west + 0.01, 50.01)
            rows.append(replace(row, id=id_, path=id_, bbox=box, datetime=time, sensor="S2"))
            vectors.append(
                place[i] + 0.1 * rng.normal(size=sizes.dim) + (5 if i == 7 < year - 2005 else 0)
            )
    vectors = np.float32(vectors)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    made = made_archive.random_encoding(0, len(rows), sizes)
    encoding = Encoding(vectors, made.code, sizes.n_bits, made.label_scores)
    options = {"sizes": sizes, "facts": rows, "encoding": encoding, **more}
    made_archive.make_archive(folder, len(rows), **options).close()
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("dates") / "area")


@pytest.fixture(scope="module")
def dated(folder, made, tmp_path_factory):
    root = tmp_path_factory.mktemp("other")
    others = [
        write(root / "wider", made_archive.Sizes(dim=8)),
        write(root / "late", years=(2018,)),
        write(root / "far", years=(2018,), east=18),
        write(root / "small", years=(2018,), side="320m", east=18),
        write(root / "bands", reading=lambda a: json.dumps({"bands": [a.datetime.year % 2, 2]})),
    ]
    app = services.application(Catalog.open([folder, made, *others]))
    with TestClient(app, base_url=BASE, raise_server_exceptions=False) as client:
        yield client


DATES = {"before": "2015", "after": "2018"}


def test_change_equals_the_library(dated, folder):
    answer = dated.post("/v1/change", json={**DATES, "alpha": 1, "k": 10})
    assert answer.status_code == 200, answer.text
    value = answer.json()
    changes = landcue.open(folder).change(**DATES, alpha=1, k=10)
    wanted = json.loads(json.dumps(changes.to_json()))
    assert {name: value[name] for name in wanted} == wanted
    assert len(value["changes"]) == 10
    assert value["changes"][0]["after"].endswith("e000707")
    inside = dated.post("/v1/change", json={**DATES, "filters": {"bbox": [15, 50, 15.1, 51]}})
    assert inside.json()["pairs"] < N


def test_change_by_a_label_equals_the_library(dated, folder):
    answer = dated.post("/v1/change", json={**DATES, "alpha": 1, "by": "water", "k": N})
    assert answer.status_code == 200, answer.text
    changes = landcue.open(folder).change(**DATES, alpha=1, by="water")
    got = [(one["after"], one["p"], one["rise"]) for one in answer.json()["changes"]]
    assert got == [(one.after, one.p, one.rise) for one in changes]
    assert len({abs(rise) for _, _, rise in got}) > N // 2
    wrong = dated.post("/v1/change", json={**DATES, "by": "watr"})
    assert wrong.status_code == 400
    assert "no scores for label 'watr' (did you mean 'water'?)" in wrong.text


def test_change_is_exported(dated, folder):
    changes = landcue.open(folder).change(**DATES, alpha=0.2)
    request = json.dumps({**DATES, "alpha": 0.2})
    answer = dated.get("/v1/change/export", params={"request": request, "format": "geoparquet"})
    table = pq.read_table(io.BytesIO(answer.content))
    assert table["after"].to_pylist() == [one.after for one in changes]
    assert answer.headers["x-row-count"] == str(len(changes)) != "0"
    answer = dated.get("/v1/change/export", params={"request": request})
    assert [one["properties"]["z"] for one in answer.json()["features"]] == [c.z for c in changes]
    answer = dated.get("/v1/change/export", params={"request": request, "format": "csv"})
    assert len(answer.text.splitlines()) == len(changes) + 1


def test_timeline_of_a_place(dated, folder):
    id_ = "2018/utm33N-640m-n005500-e000707"
    answer = dated.get(f"/v1/records/{id_}/timeline")
    assert answer.status_code == 200, answer.text
    moments = answer.json()["moments"]
    assert [one["id"] for one in moments] == [id_.replace("2018", str(year)) for year in YEARS]
    assert moments[0]["distance"] is None
    assert moments[1]["distance"] > 5 * moments[2]["distance"]
    found = landcue.open(folder).timeline(id_)
    assert [one.distance for one in found] == [one["distance"] for one in moments]


def test_similarity_as_a_raster(dated, folder, tmp_path):
    id_ = "2018/utm33N-640m-n005500-e000707"
    answer = dated.get("/v1/raster/export", params={"request": json.dumps({"id": id_})})
    assert answer.status_code == 200, answer.text
    landcue.open(folder).map(id_, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as one, rasterio.open(io.BytesIO(answer.content)) as two:
        np.testing.assert_array_equal(one.read(1), two.read(1))
        assert two.crs == one.crs
        assert two.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    posted = dated.post("/v1/raster/export", json={"id": id_})
    assert len(posted.content) == len(answer.content)


def test_a_raster_of_images_that_a_collection_keeps(folder, tmp_path):
    file, archive = tmp_path / "picks.sqlite", landcue.open(folder)
    image = made_archive.random_encoding(1, 1, SIZES)
    image = replace(image, model=archive.space.fingerprint)
    kept = KeptImage("image", image.model, image, b"")
    app = services.application(Catalog.open([folder]), collections_file=file)
    with TestClient(app, base_url=BASE) as client:
        made = Collections(file).create("area", "kept", None, [], None, [kept])
        answer = client.post("/v1/raster/export", json={"images_of": made["id"]})
    assert answer.status_code == 200, answer.text
    archive.map(image, tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as one, rasterio.open(io.BytesIO(answer.content)) as two:
        np.testing.assert_array_equal(one.read(1), two.read(1))


def test_files_of_changes_and_rasters_are_limited(folder, is_problem):
    app = services.application(Catalog.open([folder]), {"files": 0})
    with TestClient(app, base_url=BASE) as client:
        for path, given in (("change", DATES), ("raster", {"id": landcue.open(folder).ids()[0]})):
            query = {"request": json.dumps(given)}
            is_problem(client.get(f"/v1/{path}/export", params=query), 429)


@pytest.mark.parametrize(
    ("change", "status", "word"),
    [
        ({"before": "2018", "after": "2012"}, 400, "use the earlier date as before"),
        ({"before": "soon"}, 400, "is no date: write 2013"),
        (
            {"before": "1990"},
            400,
            "^No record has a time that fits before 1990; times are 2012-07-01 to",
        ),
        ({"gained": ["shipz"]}, 400, "did you mean 'ships'"),
        ({"scoring": "trained"}, 400, "^There is no trained model of change for this encoder"),
        ({"other": "wider"}, 409, "^Archives 'area' and 'wider' were made by different models"),
        ({"other": "nowhere"}, 404, "^No archive is called 'nowhere'"),
        ({"unchanged": [["x", "y"]]}, 400, "^unchanged: no record has the id 'x'"),
        ({"alpha": 0}, 422, "alpha"),
        ({"befor": "2012"}, 422, "did you mean 'before'"),
        ({"before": None}, 422, "^before: "),
        ({"before": ""}, 400, "^before: a date is missing: write 2013, 2013-06"),
        ({"before": "2013/2012"}, 400, "^before: 2013/2012 ends before it starts; swap its dates"),
        ({"other": "far"}, 400, "^No place was recorded in both periods with an overlap"),
        (
            {"other": "small"},
            400,
            "^The grids do not match: utm 640m before, utm 320m after; index",
        ),
        (
            {"archive": "bands", "before": "2013", "after": "2019"},
            400,
            "^2012/.* was made of bands 0,2, 2019/.* of bands 1,2: index both dates with the same",
        ),
        ({"archive": "made"}, 400, "times are|has a time"),
    ],
)
def test_bad_requests_get_one_line(dated, is_problem, change, status, word):
    detail = is_problem(dated.post("/v1/change", json={**DATES, **change}), status)
    assert re.search(word, detail), detail
    request = json.dumps({**DATES, **change})
    is_problem(dated.get("/v1/change/export", params={"request": request}), status)


def test_a_missing_date_is_named(dated, is_problem):
    for name, given in (("before", {"after": "2018"}), ("after", {"before": "2012"})):
        line = f"{name}: a date is missing: write 2013, 2013-06, 2013-06-30 or an interval of two"
        assert is_problem(dated.post("/v1/change", json=given), 422).startswith(line)
        request = {"request": json.dumps(given)}
        assert is_problem(dated.get("/v1/change/export", params=request), 422).startswith(line)


def test_two_archives_are_compared_as_one(dated):
    asked = {**DATES, "alpha": 1, "k": 1000}
    one = dated.post("/v1/change", json=asked).json()
    two = dated.post("/v1/change", json={**asked, "archive": "area", "other": "late"}).json()
    assert (two["archive"], two["other"], two["pairs"]) == ("area", "late", N)
    pairs = [[(c["before"], c["after"]) for c in each["changes"]] for each in (one, two)]
    assert sorted(pairs[0]) == sorted(pairs[1])


def test_records_without_a_place(dated, is_problem):
    is_problem(dated.get("/v1/records/nothing/timeline"), 404)
    query = {"request": json.dumps({"archive": "made", "id": landcue_id(dated)})}
    assert "No chip lies on a fixed grid" in is_problem(
        dated.get("/v1/raster/export", params=query), 400
    )
    assert "several grids" not in is_problem(
        dated.get("/v1/raster/export", params={"request": "{}"}), 400
    )


def landcue_id(client):
    return client.get("/v1/facets", params={"archive": "made"}).json()["examples"][0]


def test_the_client_asks_for_changes_timelines_and_rasters(folder, tmp_path):
    archive = landcue.open(folder)
    id_ = archive.ids()[0]
    with services.running(services.application(Catalog.open([folder]))) as port:
        client = Client(f"http://127.0.0.1:{port}")
        found = client.change(before="2013", after="2018", alpha=1)
        wanted = archive.change(before="2013", after="2018", alpha=1, k=100)
        assert [one.after for one in found.changes] == [one.after for one in wanted]
        file = client.export_change(tmp_path / "a.csv", before="2013", after="2018", alpha=1)
        assert len(file.read_text().splitlines()) == 1 + len(found.changes)
        with pytest.raises(UsageError, match=r"use \.geojson"):
            client.export_change(tmp_path / "a.tif", before="2013", after="2018")
        moments = client.timeline(id_)
        assert [one.id for one in moments] == [one.id for one in archive.timeline(id_)]
        file = client.export_raster(tmp_path / "map.tif", record=id_)
        with rasterio.open(file) as raster:
            assert raster.read(1).max() == pytest.approx(1)
