from __future__ import annotations

import numpy as np
import pytest

import made_archive
from landcue.archive.archive import ArchiveFolder
from landcue.errors import UsageError
from landcue.search import Archive
from landcue.search.overview import flat_map, own_scores


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overview") / "made"
    made_archive.make_archive(folder, n=200).close()
    return Archive(ArchiveFolder.open(folder))


def test_a_map_takes_a_bounded_sample_the_same_each_time(searcher):
    found, again = flat_map(searcher, most=50), flat_map(searcher, most=50)
    assert len(found.ids) == len(found.kinds) == 50
    assert list(found.ids) == sorted(set(found.ids))
    assert found.ids == again.ids
    assert np.array_equal(found.points, again.points)
    assert 1 >= found.shares[0] >= found.shares[1] > 0
    assert len(flat_map(searcher).ids) == 200


def test_scores_take_a_bounded_sample_of_what_is_annotated(searcher):
    known = searcher.backend.records.labels.known
    held_out = known & searcher.backend.records.among("part", ["test"])
    found = own_scores(searcher, most=20)
    assert found.part == ("test" if held_out.sum() >= 2 else "all")
    assert found.annotated == int((held_out if found.part == "test" else known).sum())
    assert found.spaces["embedding"].counts["n_query"] == min(20, found.annotated)
    assert found.spaces.keys() == {"embedding", "code"}
    again = own_scores(searcher, most=20)
    assert found.spaces["code"].metrics == pytest.approx(again.spaces["code"].metrics, nan_ok=True)


def test_an_archive_without_labels_has_no_scores(tmp_path):
    made_archive.make_archive(tmp_path / "made", n=10, metadata=False).close()
    searcher = Archive(ArchiveFolder.open(tmp_path / "made"))
    if searcher.backend.records.labels.names:
        pytest.fail("made records without metadata must carry no labels")
    with pytest.raises(UsageError, match="retrieval cannot be measured"):
        own_scores(searcher)
