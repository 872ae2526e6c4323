from __future__ import annotations

import pytest

import made_archive
import pixel_encoder as tools
from landcue.archive.manifest import Manifest, write_manifest
from landcue.search import Archive


def test_facets_tell_values_spans_and_ids(start, photos):
    client = start()
    found = client.get("/v1/facets").json()
    assert found["archive"] == "photos"
    assert found["datetime"] == ["2024-01-01T00:00:00Z", "2024-01-30T00:00:00Z"]
    # The first footprint crosses the antimeridian.
    assert found["bbox"] == [1.0, -1.0, -179.0, 1.0]
    ids = [hit["id"] for hit in client.post("/v1/search", json={"k": 30}).json()["hits"]]
    assert len(found["examples"]) == 24
    assert found["examples"][0] == ids[0]
    assert found["examples"][-1] == ids[-1]
    assert found["examples"] == sorted(set(found["examples"]))


def test_facets_count_what_filters_find(start):
    client = start()
    found = client.get("/v1/facets", params={"archive": "made"}).json()
    assert found["groups"]
    assert [one["records"] for one in found["groups"]] == sorted(
        (one["records"] for one in found["groups"]), reverse=True
    )
    for one in found["groups"][:3]:
        asked = {"archive": "made", "filters": {"groups": [one["name"]]}, "k": 200}
        assert len(client.post("/v1/search", json=asked).json()["hits"]) == one["records"]


def test_modes_are_those_that_answer(start):
    client = start()
    for name in ("photos", "made"):
        modes = client.get("/v1/facets", params={"archive": name}).json()["modes"]
        id_ = client.post("/v1/search", json={"archive": name, "k": 1}).json()["hits"][0]["id"]
        assert {"auto", "embedding", "two-stage"} <= set(modes)
        for mode in ("auto", "embedding", "code", "cue", "two-stage"):
            asked = client.post("/v1/search", json={"archive": name, "id": id_, "mode": mode})
            assert (asked.status_code == 200) == (mode in modes)


def test_fused_answers_once_its_weight_was_measured(start, tmp_path):
    archive = Archive(made_archive.make_archive(tmp_path / "fused", 60))
    asked = {"id": archive.ids()[3], "mode": "fused", "fused_weight": 1.0, "rerank": "k-reciprocal"}
    refused = start(folders=[tmp_path / "fused"]).post("/v1/search", json=asked)
    assert refused.status_code == 409
    assert "has no measured weight of labels" in refused.json()["detail"]
    archive.measure_fusion()
    client = start(folders=[tmp_path / "fused"])
    assert "fused" in client.get("/v1/facets").json()["modes"]
    hits = client.post("/v1/search", json=asked).json()["hits"]
    assert len(hits) == 20
    for hit in hits:
        assert sum(hit["why"].values()) == pytest.approx(hit["score"], abs=1e-5)
    plain = client.post("/v1/search", json={"id": asked["id"]}).json()["hits"]
    assert all(hit.get("why") is None for hit in plain)


def test_facets_of_an_empty_archive(start, tmp_path):
    write_manifest(tmp_path, Manifest.of(tools.PixelEncoder(), {}, {}))
    found = start(folders=[tmp_path]).get("/v1/facets").json()
    assert found["examples"] == []
    assert found["datetime"] is None
    assert found["bbox"] is None


def test_an_empty_archive_is_no_failure_of_the_service(start, tmp_path, is_problem, log_lines):
    write_manifest(tmp_path, Manifest.of(tools.PixelEncoder(), {}, {}))
    client = start(folders=[tmp_path])
    for path in ("search", "scores", "map", "export?all=true"):
        answer = client.post(f"/v1/{path}", json={"filters": {"bbox": [0, 0, 1, 1]}})
        assert "holds no records" in is_problem(answer, 409)
    assert "holds no records" in is_problem(client.post("/v1/suggest", json={"label": "a"}), 409)
    assert not any('"level":"error"' in line for line in log_lines)


def test_predicted_labels_of_hits_where_asked_for(start):
    client = start()
    plain = client.post("/v1/search", json={"k": 30}).json()["hits"]
    assert all("predicted" not in hit for hit in plain)
    hits = client.post("/v1/search", json={"k": 30, "predicted": True}).json()["hits"]
    reported = {hit["id"]: hit["predicted"] for hit in hits}
    for id_, labels in reported.items():
        assert client.get(f"/v1/records/{id_}").json()["predicted_labels"] == labels
    assert any(reported.values())


def test_sources_and_ids_filter_a_search(start):
    client = start()
    facets = client.get("/v1/facets", params={"archive": "made"}).json()
    (source,) = facets["sources"]
    ids = facets["examples"][3:6]
    filters = {"sources": [source["name"]], "ids": ids}
    found = client.post("/v1/search", json={"archive": "made", "filters": filters}).json()
    assert [hit["id"] for hit in found["hits"]] == ids
    for wrong in ({"ids": [*ids, "gone"]}, {"sources": ["gone"]}):
        done = client.post("/v1/search", json={"archive": "made", "filters": wrong})
        assert done.status_code == 400
        assert "'gone'" in done.json()["detail"]
