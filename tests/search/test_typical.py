"""What a distance means: percentiles among nearest neighbors, and the remark where none is near."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import made_archive
from landcue.archive.changes import delete
from landcue.codes.packing import pack_bits
from landcue.search import Archive, ById, Query, SearchOptions, open_archive
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
    near, pairs, none = np.linspace(0.01, 0.1, 100), np.linspace(0.2, 1, 100), np.empty(0)
    typical = Typical(near, near, pairs, none, None, lambda _: np.empty((0, 4), np.float32))

    def remark(distance):
        return typical.remark(distance, np.array([7]))

    assert remark(0.05) is None
    assert "nearest neighbors of 98 % of general descriptions" in remark(0.099)
    assert remark(0.9).endswith("the best hit is no closer than chance")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Records around far apart centers, and a dense group of 40 that is nothing but itself."""
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(216, 24))
    group = np.eye(24)[0] * 4 + 0.02 * rng.normal(size=(40, 24))
    vectors = np.concatenate([spread, group])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sizes = made_archive.Sizes(24)
    other = made_archive.random_encoding(0, 256, sizes)
    code = pack_bits(vectors @ rng.normal(size=(24, other.n_bits)) > 0)
    encoding = replace(other, embedding=vectors.astype(np.float32), code=code)
    folder = tmp_path_factory.mktemp("dense") / "archive"
    with Archive(
        made_archive.make_archive(folder, n=256, sizes=sizes, encoding=encoding)
    ) as archive:
        yield archive


def beside(encoding, distance):
    """A query at some distance from the middle of the dense group."""
    vector = np.random.default_rng(1).normal(size=24)
    vector[0] = 0
    vector *= np.sqrt(1 - (1 - distance) ** 2) / np.linalg.norm(vector)
    vector[0] = 1 - distance
    return replace(encoding, embedding=vector[None].astype(np.float32))


def expected_ratio(archive, query, ids):
    """Ten nearest of the sample, which is all 256 records, from the query and from its hits."""
    vectors = archive.columns().embedding.astype(np.float64)
    apart = 1 - vectors @ vectors.T
    np.fill_diagonal(apart, 9)
    around = np.sort(apart, axis=1)[:, :10].mean(axis=1)
    own = np.sort(1 - vectors @ query)[:10].mean()
    return (own + 1e-3) / (around[[archive.ids().index(id_) for id_ in ids]].mean() + 1e-3)


@pytest.mark.parametrize(("mode", "far"), [("embedding", 0.5), ("two-stage", 0.5), ("code", 0.7)])
def test_a_query_beside_a_dense_group_is_unlike_its_records(dense, mode, far):
    # As noise of pixels: as near to some records as others are to each other, and unlike all.
    code = dense.columns().code[-1:]
    blank = made_archive.random_encoding(1, 1, made_archive.Sizes(24))
    beside_it, inside = (beside(replace(blank, code=code), distance) for distance in (far, 1e-4))
    found = dense.search(beside_it, k=12, mode=mode)
    assert mode == "code" or 2.5 < found[0].percentile < 50
    ratio = expected_ratio(dense, beside_it.embedding[0].astype(np.float64), found.ids[:10])
    assert found.remark == (
        f"nothing here is very similar: the query is {ratio:.1f} times as far from a sample of "
        "the records as the best hits are"
    )
    assert dense.search(beside_it, k=1, mode=mode).remark == found.remark
    collapsed = SearchOptions(collapse=0.1)
    assert dense.search(beside_it, k=2, mode=mode, options=collapsed).remark == found.remark
    assert dense.search(inside, k=12, mode=mode).remark is None
    # Of some of the records it says nothing.
    assert dense.search(beside_it, k=3, mode=mode, where="water or not water").remark is None


def test_codes_say_that_nothing_is_near_by_their_embeddings(dense):
    # The code of a record, and an embedding that is opposite to it.
    encoding = made_archive.random_encoding(1, 1, made_archive.Sizes(24))
    columns = dense.columns()
    far = replace(encoding, code=columns.code[-1:], embedding=-columns.embedding[-1:])
    found = dense.search(far, k=5, mode="code")
    assert (found[0].distance, found[0].percentile) == (0, 100)
    assert found.remark == "nothing here is very similar: the best hit is no closer than chance"
    same = replace(encoding, code=columns.code[-1:], embedding=columns.embedding[-1:])
    assert dense.search(same, k=5, mode="code").remark is None


def test_marked_records_are_compared_by_embeddings_in_mode_code(dense):
    first, second, *_ = dense.ids()[-2:]
    assert dense.search(Query([first, second]), k=5, mode="code").remark is None
    apart = dense.search(Query([dense.ids()[0], first], negatives=[second]), k=5, mode="code")
    assert apart.to_json()["remark"] == apart.remark


def test_percentiles_follow_deletions(tmp_path):
    folder = tmp_path / "archive"
    made_archive.make_archive(folder, n=120).close()

    def check(n):
        with open_archive(folder) as archive:
            assert len(archive) == n
            for mode in ("embedding", "code"):
                nearest = nearest_of(archive, mode)
                for hit in archive.search(ById(archive.ids()[3]), k=20, mode=mode):
                    share = 100 * np.mean(nearest >= hit.distance - 1e-9)
                    assert hit.percentile == pytest.approx(share, abs=0.06)

    check(120)
    with open_archive(folder) as archive:
        ids = archive.ids()
    assert delete(folder, ids[::3]).deleted == 40
    check(80)


def test_it_is_measured_once_for_each_version_and_kept(folder, monkeypatch, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    with open_archive(copy) as first:
        wanted = first.search(ById(first.ids()[3]), k=5).to_json()
    assert list(copy.rglob("typical-embedding.arrow.json"))

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
