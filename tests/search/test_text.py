"""Texts as queries: alone, beside images, places and labels, and refused without a text tower."""

import json
import shutil

import numpy as np
import pytest

import landcue as api
import tiny_models
from commands import error_line, landcue
from landcue.archive.indexing import IndexOptions, index_source
from landcue.errors import UsageError
from landcue.search import Query, Text


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("text")
    tiny_models.write_pictures(root / "photos", 40)
    clip = tiny_models.open_clip_folder(root / "clip")
    options = IndexOptions(labels=root / "labels.csv", dim=12, bits=16)
    index_source(root / "photos", root / "archive", model=f"open_clip:{clip}", options=options)
    return root


@pytest.fixture(scope="module")
def archive(folder):
    return api.open(folder / "archive")


def test_a_text_ranks_by_the_cosine_of_its_averaged_prompts(archive):
    result = archive.search(text="a harbor", k=40)
    text = archive.encoder().encode_text("a harbor")[0]
    columns = archive.columns()
    wanted = 1 - columns.embedding @ text
    order = np.argsort(wanted, kind="stable")
    assert result.ids == tuple(columns.ids[row] for row in order)
    np.testing.assert_allclose([hit.distance for hit in result], wanted[order], atol=1e-5)
    assert result.query == '"a harbor"'
    assert result.labels == ()


def test_whether_texts_are_queries_is_known_without_loading_the_model(folder, tmp_path):
    shutil.copytree(folder / "archive", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy/model/tower")
    with api.open(tmp_path / "copy") as opened:
        assert opened.encodes_text
    api.index(folder / "photos", tmp_path / "plain").close()
    with api.open(tmp_path / "plain") as opened:
        assert opened.encodes
        assert not opened.encodes_text


def test_texts_images_records_and_negatives_mix_with_weights(archive):
    encoder = archive.encoder()
    assert encoder.text_weight > 0
    assert encoder.space.facts["text"]["threshold"] <= 1
    picture = tiny_models.picture("water", 900)
    query = Query([picture, "sand003.png", Text("a lake")], negatives=[Text("a city")])
    image = encoder.encode([encoder.prepare(picture)]).embedding[0]
    columns = archive.columns()
    record = columns.embedding[columns.ids.index("sand003.png")]
    lake, city = (encoder.encode_text(text)[0] for text in ("a lake", "a city"))
    weight = encoder.text_weight
    wanted = (image + record + weight * lake) / 3 - 0.5 * weight * city
    wanted /= np.linalg.norm(wanted)
    found = archive.embed(query)[0]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    same = archive.search(picture, text="a lake", k=3)
    assert same.ids == archive.search(Query([picture, Text("a lake")]), k=3).ids


def test_texts_obey_filters_and_thresholds(archive):
    result = archive.search(text="a lake", where="water", k=40)
    assert {hit.labels for hit in result} == {("water",)}
    least = archive.search(text="a lake", k=5)[4].score
    options = api.SearchOptions(min_score=least)
    assert len(archive.search(text="a lake", k=40, options=options)) == 5


def hamming(codes, code):
    return np.unpackbits(codes ^ code, axis=1).sum(axis=1)


def test_mode_code_compares_the_code_of_the_text(archive):
    encoder, columns = archive.encoder(), archive.columns()
    code = encoder.encode_texts(["a harbor"]).code
    wanted = hamming(columns.code, code)
    result = archive.search(text="a harbor", mode="code", k=40)
    assert [hit.distance for hit in result] == sorted(wanted)
    assert set(result.ids) == set(columns.ids)
    assert result[0].distance == wanted[columns.ids.index(result[0].id)]


def test_modes_cue_and_fused_compare_the_labels_that_a_text_names(archive):
    names = archive.manifest.label_names
    code = archive.encoder().encode_texts(["two waters"]).code
    result = archive.search(text="two waters", mode="cue", k=40)
    assert result.labels == ("water",)
    predicted = archive.label_scores() >= 0.5
    cue = (predicted != (np.array(names) == "water")).sum(axis=1)
    columns = archive.columns()
    wanted = cue + hamming(columns.code, code)
    found = {hit.id: hit.distance for hit in result}
    assert found == dict(zip(columns.ids, wanted.tolist(), strict=True))
    fused = archive.search(
        text="water", mode="fused", k=40, options=api.SearchOptions(fused_weight=50.0)
    )
    assert {hit.labels for hit in fused[:10]} == {("water",)}  # of 10; so heavy a weight decides
    for mode in ("cue", "fused"):
        with pytest.raises(UsageError, match="names none of the archive's labels"):
            archive.search(text="an airport", mode=mode)


def test_auto_compares_embeddings_even_where_labels_were_measured_to_help(archive):
    archive.search(archive.ids()[0], mode="fused", k=1)  # measures
    assert archive.search(text="an airport", k=1).mode == "embedding"


@pytest.mark.parametrize("mode", ["embedding", "code"])
def test_percentiles_of_texts_are_among_general_descriptions(archive, mode):
    general, columns = archive.encoder().general_encoding, archive.columns()
    if mode == "embedding":
        nearest = (1 - general.embedding @ columns.embedding.T).min(axis=1)
    else:
        nearest = np.array([hamming(columns.code, code[None]).min() for code in general.code])
    result = archive.search(text="a lake", mode=mode, k=40)
    for hit in result:
        # Distances that differ by rounding, which depends on the size of a batch, may count or not.
        least, most = (100 * np.mean(nearest >= hit.distance + by) for by in (1e-5, -1e-5))
        assert least - 0.06 <= hit.percentile <= most + 0.06
    least = result[9].percentile
    options = api.SearchOptions(min_percentile=least)
    kept = archive.search(text="a lake", mode=mode, k=40, options=options)
    if least:
        assert kept.ids == tuple(hit.id for hit in result if hit.percentile >= least - 1e-6)
    image = archive.search(archive.ids()[0], mode=mode, k=40)
    least = max(image[1].percentile, 1)
    options = api.SearchOptions(min_percentile=least)
    kept = archive.search(archive.ids()[0], mode=mode, k=40, options=options)
    assert kept.ids == tuple(hit.id for hit in image if hit.percentile >= least)
    assert len(kept) < len(image)


def test_percentiles_that_are_not_known_are_refused(archive):
    options = api.SearchOptions(min_percentile=30)
    with pytest.raises(UsageError, match="mode fused are not known"):
        archive.search(archive.ids()[0], mode="fused", options=options)
    archive.search(archive.ids()[0], mode="fused", k=1)  # measures; auto takes another mode
    assert archive.search(archive.ids()[0], k=1, options=options).mode == "embedding"
    with pytest.raises(UsageError, match="minimum percentile is 101"):
        archive.search(archive.ids()[0], options=api.SearchOptions(min_percentile=101))


def test_empty_texts_and_negatives_alone_are_refused(archive):
    with pytest.raises(UsageError, match="the text is empty"):
        archive.search(text=" ")
    with pytest.raises(UsageError, match="only negatives"):
        archive.search(Query([], negatives=[Text("a city")]))


def test_the_command_searches_by_text(folder, archive):
    place = folder / "archive"
    done = landcue("search", place, "--text", "a lake", "--negative-text", "a city", "--json")
    assert done.returncode == 0, done.stderr
    query = Query([Text("a lake")], negatives=[Text("a city")])
    listed = [hit["id"] for hit in json.loads(done.stdout)["hits"]]
    assert listed == list(archive.search(query).ids)
    shown = landcue("models", "show", archive.model_folder).stdout
    assert "1 % of images score above" in shown
    assert "Texts can be queries: yes" in shown


def test_models_without_a_text_tower_refuse_in_one_line(tmp_path):
    tiny_models.write_pictures(tmp_path / "photos", 4)
    index_source(tmp_path / "photos", tmp_path / "archive")
    line = error_line(2, "search", tmp_path / "archive", "--text", "a lake")
    assert "the archive's model has no text tower" in line


def test_the_service_searches_by_text(folder, archive):
    from fastapi.testclient import TestClient

    from landcue.server.app import create_app

    app = create_app([folder / "archive"])
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/v1/search", json={"text": "a lake", "k": 4})
        assert answer.status_code == 200, answer.text
        ids = [hit["id"] for hit in answer.json()["hits"]]
        assert ids == list(archive.search(text="a lake", k=4).ids)
        mixed = client.post(
            "/v1/search", json={"id": "sand003.png", "text": "a lake", "negative_text": "a city"}
        )
        assert mixed.status_code == 200, mixed.text
        wrong = client.post("/v1/search", json={"text": "an airport", "mode": "cue"})
        assert wrong.status_code == 400
        assert "names none of the archive's labels" in wrong.json()["detail"]
