"""What a distance means: percentiles among nearest neighbors, and the remark where none is near."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import made_archive
from landcue.search import Archive, ById, SearchOptions, open_archive
from landcue.search.local import LocalBackend
from landcue.search.typical import Typical


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typical") / "archive"
    made_archive.make_archive(folder, n=200).close()
    return folder


@pytest.fixture(scope="module")
def archive(folder):
    with open_archive(folder) as archive:
        yield archive


def nearest_of(archive, mode):
    """The distance of each record to its nearest other one, one search at a time."""
    return np.array([archive.search(ById(i), k=1, mode=mode)[0].distance for i in archive.ids()])


@pytest.mark.parametrize("mode", ["embedding", "two-stage", "code", "cue"])
def test_percentiles_are_shares_of_records_without_a_nearer_neighbor(archive, mode):
    # 200 records are fewer than a sample has, so that every one is in it.
    nearest = nearest_of(archive, "embedding" if mode == "two-stage" else mode)
    for id_ in archive.ids()[:20]:
        result = archive.search(ById(id_), k=30, mode=mode)
        for hit in result:
            share = 100 * np.mean(nearest >= hit.distance - 1e-9)
            assert hit.percentile == pytest.approx(share, abs=0.06)  # shown with one digit
        values = [hit.percentile for hit in result]
        assert values == sorted(values, reverse=True)
        assert [hit["percentile"] for hit in result.to_json()["hits"]] == values


def test_what_has_no_likeness_has_no_percentile(archive):
    assert archive.search(where="water", k=3)[0].percentile is None
    weighted = archive.search(
        ById(archive.ids()[0]), mode="cue", options=SearchOptions(label_weight=2)
    )
    assert weighted[0].percentile is None
    assert weighted.remark is None


def test_a_remark_says_that_nothing_is_near(archive):
    vectors = archive.columns().embedding
    rare = sum(archive.search(ById(id_), k=1).remark is not None for id_ in archive.ids())
    assert rare <= 0.035 * len(archive)  # by definition 2.5 %, and ties
    remarks = 0
    for id_ in archive.ids()[:60]:
        result = archive.search(ById(id_), k=3, where="not water")
        assert (result.remark is None) == (result[0].percentile >= 2.5)
        assert result.to_json()["remark"] == result.remark
        if result.remark is not None:
            remarks += 1
            assert "nothing here is very similar" in result.remark
            after = SearchOptions(cursor=result.cursor)
            assert archive.search(ById(id_), where="not water", options=after).remark is None
    assert 0 < remarks < 60
    same = archive.search(vectors[7], k=1)
    assert (same.remark, same[0].percentile) == (None, 100)


def test_words_of_the_remark():
    typical = Typical(np.linspace(0.01, 0.1, 100), np.linspace(0.2, 1, 100))

    def remark(distance):
        return typical.remark(np.array([distance]), np.array([7]))

    assert remark(0.05) is None
    assert "nearest neighbors of 98 % of the records" in remark(0.099)
    assert remark(0.9).endswith("the best hit is no closer than chance")


def dense_archive(tmp_path):
    """Records around far apart centers, and a dense group of 40 that is nothing but itself."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(260, 24))
    dense = np.eye(24)[0] * 4 + 0.02 * rng.normal(size=(40, 24))
    vectors = np.concatenate([spread, dense])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes = made_archive.Sizes(24)
    other = made_archive.random_encoding(0, 300, sizes)
    encoding = replace(other, embedding=vectors.astype(np.float32))
    return made_archive.make_archive(tmp_path / "dense", sizes=sizes, encoding=encoding)


@pytest.mark.parametrize("mode", ["embedding", "two-stage"])
def test_a_query_beside_a_dense_group_is_unlike_its_records(tmp_path, mode):
    # As noise of pixels: nearer to some records than these 300 to each other, and unlike all.
    rng = np.random.default_rng(1)
    with Archive(dense_archive(tmp_path)) as archive:
        vectors = archive.columns().embedding.astype(np.float64)
        apart = 1 - vectors @ vectors.T
        np.fill_diagonal(apart, 9)
        around = np.sort(apart, axis=1)[:, :10].mean(axis=1)
        beside = np.eye(24)[0] * 4 + 0.4 * rng.normal(size=24)
        inside = np.eye(24)[0] * 4 + 0.02 * rng.normal(size=24)
        found, same = (
            archive.search((one / np.linalg.norm(one)).astype(np.float32), k=12, mode=mode)
            for one in (beside, inside)
        )
        assert found[0].percentile > 50
        rows = [archive.ids().index(id_) for id_ in found.ids]
        ratio = (found.distances[:10].mean() + 1e-3) / (around[rows[:10]].mean() + 1e-3)
        assert found.remark == (
            f"nothing here is very similar: the best hits are {ratio:.1f} times as far from the "
            "query as from their own nearest neighbors"
        )
        assert same.remark is None
        filtered = archive.search(
            (beside / np.linalg.norm(beside)).astype(np.float32), k=3, where="water or not water"
        )
        assert filtered.remark is None  # of some records it says nothing


def test_it_is_measured_once_for_each_version_and_kept(folder, monkeypatch, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with open_archive(copy) as first:
        wanted = first.search(ById(first.ids()[3]), k=5).to_json()
    assert list(copy.rglob("distances-embedding.arrow.json"))

    def measured(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("landcue.search.local.measure_typical", measured)
    with open_archive(copy) as second:
        assert second.search(ById(second.ids()[3]), k=5).to_json() == wanted
    json.dumps(wanted)
    with open_archive(folder, cache=False) as other:
        assert isinstance(other.backend, LocalBackend)
        with pytest.raises(AssertionError, match="again"):
            other.search(ById(other.ids()[3]), k=1).to_json()
