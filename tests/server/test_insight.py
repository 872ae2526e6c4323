from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient

import services
import tiny_models
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.sources import open_source
from landcue.errors import UsageError
from landcue.models.load import load_model
from landcue.server.app import create_app
from landcue.server.archives import Catalog
from landcue.server.page import check_basemap
from landcue.server.schemas.archives import MapAnswer, ModelAnswer, OwnScoresAnswer, RegionsAnswer
from landcue.server.settings import Limits, Settings

BASE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def client(views):
    with TestClient(services.application(Catalog.open([views[1]])), BASE) as client:
        yield client


def test_the_model_tells_how_it_was_made_and_scored(client, views):
    answer = client.get("/v1/model").json()
    ModelAnswer.model_validate(answer, extra="forbid")
    made = load_model("builtin").card
    assert answer["settings"]["backbone"] == made.model["backbone"]
    assert answer["training"]["split"] == made.provenance["split"]
    assert answer["test"]["spaces"] == made.provenance["test"]["spaces"]
    assert answer["validation"] == made.provenance["scores"]
    statistics = made.provenance["label_statistics"]
    names = made.model["label_names"]
    assert answer["training_images"] == statistics["n_images"]
    assert (
        answer["training_labels"]["ship"]
        == statistics["counts"][names.index("ship")][names.index("ship")]
    )
    assert answer["regions"]
    assert client.get("/v1/archive").json()["regions"]
    assert str(views[1]) not in json.dumps(answer)


def test_scores_are_those_of_the_part_that_was_not_trained_on(client, views):
    from landcue.evaluation import evaluate

    answer = client.get("/v1/model/scores").json()
    OwnScoresAnswer.model_validate(answer, extra="forbid")
    assert (answer["part"], answer["annotated"], answer["taken"]) == ("test", 8, 8)
    assert "not trained on" in answer["about"]
    theirs = evaluate(views[1], part="test").scores
    for space in ("embedding", "code"):
        found = answer["spaces"][space]
        assert found["metrics"]["mAP"] == pytest.approx(theirs[space].metrics["mAP"])
        low, high = found["intervals"]["mAP"]
        assert low <= found["metrics"]["mAP"] <= high
        assert found["per_label"].keys() == set(services.KINDS)


def test_without_parts_the_scores_say_that_images_may_have_been_trained_on(start, photos):
    with start(folders=[photos]) as client:
        answer = client.get("/v1/model/scores").json()
    assert (answer["part"], answer["annotated"]) == ("all", 20)
    assert "may include images that the model was trained on" in answer["about"]


def test_the_map_holds_the_principal_components_of_the_embeddings(client, views):
    answer = client.get("/v1/model/map").json()
    MapAnswer.model_validate(answer, extra="forbid")
    assert answer["records"] == len(answer["ids"]) == 14
    columns = ArchiveFolder.open(views[1]).columns()
    assert answer["ids"] == list(columns.ids)
    centered = columns.embedding - columns.embedding.mean(axis=0)
    values = np.linalg.eigvalsh(centered.T.astype(np.float64) @ centered)[::-1]
    x, y = np.array(answer["x"]), np.array(answer["y"])
    assert (x**2).sum() == pytest.approx(values[0], rel=1e-3)
    assert (y**2).sum() == pytest.approx(values[1], rel=1e-3)
    assert answer["shares"] == pytest.approx((values[:2] / values.sum()).tolist(), abs=1e-3)
    assert abs((x * y).sum()) < 1e-3
    colors = dict(zip(answer["ids"], (answer["kinds"][k] for k in answer["kind"]), strict=True))
    assert colors["road01.png"] == "road"
    assert client.get("/v1/model/map").json() == answer


def test_too_few_records_and_labels_are_said(start, tmp_path, source, encoder, is_problem):
    root, records = source
    folder = tmp_path / "two"
    ingest(SourceImages([replace(r, labels=None) for r in records[:2]], root), folder, encoder)
    with start(folders=[folder]) as client:
        assert "too few" in is_problem(client.get("/v1/model/map"), 404)
        assert "annotated" in is_problem(client.get("/v1/model/scores"), 404)
        assert client.get("/v1/model").json()["settings"] == {}


def test_the_quarter_like_the_query_lights_up(client):
    for row, column in ((0, 0), (1, 1)):
        url = f"/v1/records/quarter{row}{column}.png/regions"
        answer = client.get(url, params={"query": "road05.png"}).json()
        RegionsAnswer.model_validate(answer, extra="forbid")
        parts = np.array(answer["record"]["parts"])
        assert parts.shape == (6, 6)
        assert parts.mean() == pytest.approx(answer["similarity"], abs=1e-3)
        ends = (slice(0, 2), slice(4, 6))
        here, across = parts[ends[row], ends[column]], parts[ends[1 - row], ends[1 - column]]
        assert here.min() > across.max()
        asked = np.array(answer["query"]["parts"])
        assert asked.mean() == pytest.approx(answer["similarity"], abs=2e-2)  # stored in bfloat16


def test_an_upload_is_compared_as_its_search_is(client, send):
    url = "/v1/records/quarter11.png/regions"
    image = services.file_of(np.hstack([services.texture("road"), services.texture("field")]))
    answer = send(client, ("image", image), url=url, crop=[0, 0, 160, 160])
    RegionsAnswer.model_validate(answer.json(), extra="forbid")
    same = client.get(url, params={"query": "road07.png"}).json()
    assert answer.json()["similarity"] != same["similarity"]
    searched = send(client, ("image", image), crop=[0, 0, 160, 160], k=14, mode="embedding").json()
    hit = next(hit for hit in searched["hits"] if hit["id"] == "quarter11.png")
    assert answer.json()["similarity"] == pytest.approx(1 - hit["distance"], abs=2e-2)
    several = client.post(url, json={"positives": ["road01.png", "road03.png"]}).json()
    assert several["query"] is None
    assert several["record"]["parts"] != same["record"]["parts"]


def test_large_uploads_are_compared_and_larger_ones_refused(client, send, is_problem):
    noise = np.random.default_rng(0).integers(0, 255, (700, 700, 3)).astype(np.uint8)
    url = "/v1/records/road01.png/regions"
    assert send(client, ("image", services.file_of(noise)), url=url).status_code == 200
    is_problem(client.post(url, content=b"x" * (40 << 20)), 413)


def test_what_cannot_be_compared_is_said(client, start, photos, made, views, is_problem):
    is_problem(client.get("/v1/records/none.png/regions?query=road01.png"), 404)
    is_problem(client.get("/v1/records/road01.png/regions?query=none.png"), 404)
    is_problem(client.get("/v1/records/road01.png/regions"), 422)
    is_problem(client.post("/v1/records/road01.png/regions", json={}), 400)
    is_problem(client.get("/v1/records/road01.png/regions?query=road01.png&archive="), 404)
    with start(folders=[photos, made]) as other:
        url = "/v1/records/port/01.png/regions?query=port/03.png"
        assert "model as it was trained" in is_problem(other.get(url), 409)
        ids = other.get("/v1/model/map?archive=made").json()["ids"]
        url = f"/v1/records/{ids[0]}/regions?query={ids[1]}&archive=made"
        assert "no model" in is_problem(other.get(url), 409)
        assert not other.get("/v1/model?archive=made").json()["regions"]
        assert not other.get("/v1/archive?archive=made").json()["regions"]
    (views[0] / "field00.png").rename(views[0] / "away.png")
    is_problem(client.get("/v1/records/field00.png/regions?query=road01.png"), 404)
    answer = client.get("/v1/records/road01.png/regions?query=field00.png").json()
    assert answer["query"] is None
    (views[0] / "away.png").rename(views[0] / "field00.png")


def test_an_exported_model_has_no_regions(views, tmp_path, is_problem):
    exported = tmp_path / "model" / "model.onnx"
    exported.parent.mkdir()
    tiny_models.exported_model(exported, {"dataset": "ucmerced"})
    encoder = load_model(exported)
    source = open_source(views[0])
    ingest(
        SourceImages(source.records, source.root),
        tmp_path / "places",
        encoder,
        model_folder=exported,
    )
    with TestClient(create_app(Catalog.open([tmp_path / "places"])), BASE) as client:
        reported = client.get("/v1/model").json()
        assert not reported["regions"]
        assert reported["settings"]["precision"] == "float32"
        assert reported["training"]["dataset"] == "ucmerced"
        answer = client.get("/v1/records/road01.png/regions?query=road03.png")
        assert "exported" in is_problem(answer, 409)


def test_requests_over_the_limit_are_turned_away(views, is_problem):
    app = create_app(Catalog.open([views[1]]), Settings(limits=Limits(insights_waiting=0)))
    with TestClient(app, BASE) as client:
        insights = app.state.service.insights
        insights.jobs += 1  # as if one were computed
        answer = client.get("/v1/model/scores")
        assert "insight" in is_problem(answer, 429)
        assert int(answer.headers["retry-after"]) >= 1
        insights.jobs -= 1
        assert client.get("/v1/model/scores").status_code == 200


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://tiles.example.org/{z}/{x}.png", "lacks {y}"),
        ("https://tiles.example.org/", "lacks {z}, {x}, {y}"),
        ("https://tiles.example.org/{z}/{x}/{y}" + "a" * 500, "too long"),
        ("https://tiles.example.org/{z}/{x}/{y}\n", "plain"),
        ("ftp://tiles.example.org/{z}/{x}/{y}", "basemap"),
        ("https://me:secret@tiles.example.org/{z}/{x}/{y}", "basemap"),
    ],
)
def test_a_basemap_that_cannot_work_is_refused_at_the_start(address, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        check_basemap(address)


def test_the_page_is_told_of_the_basemap(start):
    tiles = check_basemap("https://tiles.example.org/{z}/{x}/{y}.png")
    with start(basemap=tiles, basemap_credit="© Somebody") as client:
        reported = client.get("/v1/archive").json()
        assert (reported["basemap"], reported["basemap_credit"]) == (tiles, "© Somebody")
    with start() as client:
        assert client.get("/v1/archive").json()["basemap"] is None
