"""Facets, a model's making and scores, the map and similar regions, as the service tells them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

import services
from landcue.archive.archive import ArchiveFolder
from landcue.client import Client, MapPoint, ServiceError, ValueCount
from landcue.errors import UsageError
from landcue.evaluation import evaluate
from landcue.server.archives import Catalog


@pytest.fixture(scope="module")
def client(views):
    with services.running(services.application(Catalog.open([views[1]]))) as port:
        yield Client(f"http://127.0.0.1:{port}")


def test_facets_are_what_filters_find(start):
    with start() as url:
        client = Client(url)
        found = client.facets()
        assert found.datetime == (
            datetime(2024, 1, 1, tzinfo=UTC),
            datetime(2024, 1, 30, tzinfo=UTC),
        )
        assert found.bbox == (1, -1, -179, 1)  # across the antimeridian
        assert "ann" not in found.modes
        assert client.record(found.examples[0]).id == found.examples[0]
        made = client.facets(archive="made")
        assert (made.archive, len(made.examples)) == ("made", 24)
        for one in made.groups[:3]:
            hits = client.search(archive="made", groups=[one.name], k=200).hits
            assert one == ValueCount(name=one.name, records=len(hits))


def test_facets_without_times_and_places(client):
    found = client.facets()
    assert (found.datetime, found.bbox, found.sensors) == (None, None, ())
    assert found.parts == (ValueCount(name="test", records=8), ValueCount(name="train", records=4))


def test_the_model_as_its_archive_keeps_it(client, start):
    found = client.model()
    assert found.fingerprint == client.archive().fingerprint
    assert found.settings["dim"] == client.archive().dim
    assert found.regions
    assert client.archive().regions
    assert set(found.training_labels) == set(client.archive().label_names)
    assert max(found.training_labels.values()) <= found.training_images
    assert 0 < found.test.spaces["embedding"]["mAP"] < 1
    with start() as url:
        bare = Client(url).model(archive="made")
    assert (bare.settings, bare.test, bare.training_images, bare.regions) == ({}, None, None, False)


def test_scores_are_those_of_the_archive(client, views):
    found = client.scores()
    assert (found.part, found.annotated, found.taken) == ("test", 8, 8)
    theirs = evaluate(views[1], part="test").scores
    assert set(found.spaces) == {"embedding", "code"}
    for name, space in found.spaces.items():
        assert space.metrics["mAP"] == pytest.approx(theirs[name].metrics["mAP"])
        assert space.chance["mAP"] == pytest.approx(theirs[name].chance["mAP"])
        low, high = space.intervals["mAP"]
        assert low <= space.metrics["mAP"] <= high
        assert space.rules == tuple(theirs[name].protocol.describe())
        assert set(space.definitions) == set(space.metrics)
        for label, score in space.per_label.items():
            known = theirs[name].per_label[label]
            assert score.mean == pytest.approx(known.mean)
            assert (score.n_query, score.n_gallery) == (known.n_query, known.n_gallery)
            assert score.third == (known.third or None)


def test_the_map_holds_each_record_where_it_lies(client, views):
    found = client.embedding_map()
    columns = ArchiveFolder.open(views[1]).columns()
    assert [point.id for point in found.points] == list(columns.ids)
    assert found.records == 14
    centered = columns.embedding - columns.embedding.mean(axis=0)
    values = np.linalg.eigvalsh(centered.T.astype(np.float64) @ centered)[::-1]
    assert sum(point.x**2 for point in found.points) == pytest.approx(values[0], rel=1e-3)
    assert sum(point.y**2 for point in found.points) == pytest.approx(values[1], rel=1e-3)
    assert found.shares == pytest.approx((values[:2] / values.sum()).tolist(), abs=1e-3)
    kinds = {point.id: point.kind for point in found.points}
    assert (kinds["road01.png"], kinds["field00.png"]) == ("road", "field")
    assert set(kinds.values()) == set(found.kinds)
    assert isinstance(found.points[0], MapPoint)


def test_the_quarter_like_the_query_lights_up(client):
    found = client.regions("quarter00.png", record="road05.png")
    parts = np.array(found.record.parts)
    assert parts.shape == np.array(found.record.cosines).shape == (6, 6)
    assert parts.mean() == pytest.approx(found.similarity, abs=1e-3)
    assert parts[:2, :2].min() > parts[3:, 3:].max()
    assert np.array(found.query.parts).shape == (6, 6)


def test_regions_of_images_and_of_several_examples(client, tmp_path):
    file = tmp_path / "road.png"
    Image.fromarray(services.texture("road", seed=5)).save(file)
    by_record = client.regions("quarter11.png", record="road05.png")
    by_image = client.regions("quarter11.png", image=file)
    assert by_image.similarity == pytest.approx(by_record.similarity, abs=2e-2)
    several = client.regions("quarter11.png", positives=["road01.png", "road03.png"])
    assert several.query is None
    assert (several.archive, several.id) == ("places", "quarter11.png")


def test_what_cannot_be_told_is_one_clear_error(client, start):
    for id_, asked, status in (
        ("none.png", {"record": "road01.png"}, 404),
        ("road01.png", {"record": "none.png"}, 404),
        ("road01.png", {}, 400),
        ("road01.png", {"record": "road03.png", "archive": "none"}, 404),
    ):
        with pytest.raises(ServiceError) as caught:
            client.regions(id_, **asked)
        assert caught.value.status == status
    with pytest.raises(UsageError, match="no keyword 'recrod'"):
        client.regions("road01.png", recrod="road03.png")
    with pytest.raises(UsageError, match="id is empty"):
        client.regions("", record="road03.png")
    with start() as url:
        other = Client(url)
        with pytest.raises(ServiceError, match="model as it was trained") as caught:
            other.regions("port/01.png", record="port/03.png")
        assert caught.value.status == 409
