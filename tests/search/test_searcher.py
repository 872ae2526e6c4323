from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

import pixel_encoder as tools
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.manifest import Manifest, write_manifest
from landcue.archive.plan import SourceImages
from landcue.errors import ArchiveError, UsageError
from landcue.search import Archive, ById, Filter, Query
from landcue.search.place import touches
from landcue.types import Bounds, Encoding

NAMES = [f"{i:02}.png" for i in range(40)]
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def searcher(tmp_path_factory):
    """40 records; 30..39 are copies of 00 and 01, by turns."""
    folder = tmp_path_factory.mktemp("search")
    root = folder / "source"
    records = tools.write_images(root, NAMES)
    for i in range(30, 40):
        shutil.copyfile(records[i % 2].path, records[i].path)
    for i in range(20):
        box = Bounds(i, 0, i + 0.5, 1) if i else Bounds(179, -1, -179, 1)
        records[i] = replace(records[i], bbox=box, datetime=START + timedelta(days=i))
    ingest(SourceImages(records, root), folder / "archive", tools.PixelEncoder())
    return Archive(ArchiveFolder.open(folder / "archive"))


@functools.cache
def columns_of(searcher):
    """The same records, read the plain way."""
    return searcher.columns()


def encoding_of(seed, encoder=None):
    """Encode an image that no record has."""
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    return (encoder or tools.PixelEncoder()).encode([pixels])


def brute_force(searcher, embedding, code, mode, own=None, mask=None):
    """Sort (distance, id, row) of every allowed record, one at a time."""
    found = []
    columns = columns_of(searcher)
    for row, id_ in enumerate(columns.ids):
        if row == own or (mask is not None and not mask[row]):
            continue
        if mode == "code":
            distance = sum(int(byte).bit_count() for byte in columns.code[row] ^ code)
        else:
            dot = sum(
                float(a) * float(b) for a, b in zip(columns.embedding[row], embedding, strict=True)
            )
            distance = max(0.0, float(np.float32(1 - dot)))
        found.append((distance, id_))
    return sorted(found)


def pairs(result):
    return [(hit.distance, hit.id) for hit in result.hits]


def check(result, expected, mode):
    if mode == "code":
        assert pairs(result) == expected
    else:
        assert [id_ for _, id_ in pairs(result)] == [id_ for _, id_ in expected]
        distances = [distance for distance, _ in expected]
        np.testing.assert_allclose([hit.distance for hit in result.hits], distances, atol=2e-7)


@pytest.mark.parametrize("mode", ["embedding", "code"])
@pytest.mark.parametrize("k", [1, 7, 39, 40, 1000])
def test_records_find_what_brute_force_finds(searcher, mode, k):
    columns = columns_of(searcher)
    for row in (0, 1, 5, 31, 39):
        result = searcher.search(ById(columns.ids[row]), k=k, mode=mode)
        expected = brute_force(searcher, columns.embedding[row], columns.code[row], mode, own=row)
        check(result, expected[:k], mode)
        assert columns.ids[row] not in {hit.id for hit in result.hits}
        assert len(result.hits) == min(k, 39)


@pytest.mark.parametrize("mode", ["embedding", "code"])
def test_images_find_what_brute_force_finds(searcher, mode):
    for seed in range(10):
        query = encoding_of(seed)
        result = searcher.search(query, k=40, mode=mode)
        check(result, brute_force(searcher, query.embedding[0], query.code[0], mode), mode)
        assert len(result.hits) == 40


@pytest.mark.parametrize("mode", ["embedding", "code"])
def test_duplicates_come_first_in_the_order_of_their_ids(searcher, mode):
    copies = ["00.png", *[f"{i}.png" for i in range(30, 40, 2)]]
    for query in ("00.png", "34.png", "38.png"):
        others = [id_ for id_ in copies if id_ != query]
        hits = searcher.search(ById(query), k=5, mode=mode).hits
        assert [hit.id for hit in hits] == others
        assert [hit.distance for hit in hits] == pytest.approx([0] * 5, abs=1e-6)
        # Even when more copies than asked for come before the query's own row.
        assert [hit.id for hit in searcher.search(ById(query), k=1, mode=mode).hits] == others[:1]


def test_auto_searches_embeddings(searcher):
    automatic = searcher.search(ById("03.png"), k=9)
    assert automatic == searcher.search(ById("03.png"), k=9, mode="embedding")
    assert automatic.mode == "embedding"
    assert len(searcher.search(ById("03.png")).hits) == 20


def test_scores_and_labels(searcher):
    columns = columns_of(searcher)
    for mode in ("embedding", "code"):
        for hit in searcher.search(ById("02.png"), k=39, mode=mode).hits:
            row = columns.find(hit.id)
            if mode == "code":
                assert hit.score == pytest.approx(1 - hit.distance / 20)
            else:
                cosine = float(columns.embedding[row] @ columns.embedding[columns.find("02.png")])
                assert hit.score == pytest.approx(cosine, abs=1e-6)
            annotated = (None, (), ("water",), ("trees", "water"))[row % 4]
            expected = columns.predicted.row(row) if annotated is None else annotated
            assert hit.labels == expected
            assert hit.path == hit.id
    assert searcher.labels_of("03.png") == ("trees", "water")
    assert searcher.labels_of("00.png") is None


def test_json(searcher):
    result = searcher.search(ById("02.png"), k=3, mode="code")
    value = json.loads(json.dumps(result.to_json()))
    assert list(value)[:3] == ["query", "mode", "hits"]
    assert (value["query"], value["mode"]) == ("02.png", "code")
    for hit in value["hits"]:
        assert list(hit)[:5] == ["id", "path", "distance", "score", "labels"]
    assert all(isinstance(hit["distance"], int) for hit in value["hits"])
    named = searcher.search(Query(encoding_of(1), name="my.tif"), k=1)
    assert named.to_json()["query"] == "my.tif"


FILTERS = [
    Filter(labels=("water",)),
    Filter(labels=("trees", "water")),
    Filter(labels=("bright",)),
    Filter(bbox=Bounds(2.25, 0.5, 6, 3)),
    Filter(bbox=Bounds(-179.5, 0, -170, 1)),
    Filter(bbox=Bounds(170, 0, -170, 1)),
    Filter(datetime=(START + timedelta(days=4), None)),
    Filter(datetime=(None, START + timedelta(days=4))),
    Filter(datetime=START + timedelta(days=4)),
    Filter(
        ("water",), Bounds(0, 0, 15, 1), (START + timedelta(days=2), START + timedelta(days=12))
    ),
]


def allowed(searcher, where, row):
    """Decide one record by the words of the filter."""
    columns = columns_of(searcher)
    labels = columns.labels.row(row)
    labels = columns.predicted.row(row) if labels is None else labels
    fits = all(name in labels for name in where.labels)
    if where.bbox is not None:
        west, south, east, north = columns.bounds[row]
        # Half degrees, exactly as the footprints and boxes are laid out.
        boxes = [degrees(west, east), degrees(where.bbox.west, where.bbox.east)]
        fits &= (
            bool(boxes[0] & boxes[1]) and south <= where.bbox.north and north >= where.bbox.south
        )
    time = columns.time[row]
    if where.datetime is not None:
        ends = where.datetime.replace("Z", "").split("/")
        fits &= not np.isnat(time)
        fits &= ends[0] == ".." or bool(time >= np.datetime64(ends[0]))
        fits &= ends[-1] == ".." or bool(time <= np.datetime64(ends[-1]))
    return fits


def degrees(west, east):
    """Return the quarter degrees of a span of longitudes, going east from its west end."""
    if np.isnan(west):
        return set()
    steps = round(((east - west) % 360) * 4)
    return {(round(west * 4) + step) % 1440 for step in range(steps + 1)}


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("mode", ["embedding", "code"])
def test_filters_apply_before_ranking(searcher, where, mode):
    mask = where.mask(searcher.backend.records, searcher.backend.vectors)
    assert mask.tolist() == [allowed(searcher, where, row) for row in range(40)]
    assert 0 < mask.sum() < 40
    row = columns_of(searcher).find("03.png")
    embedding, code = columns_of(searcher).embedding[row], columns_of(searcher).code[row]
    result = searcher.search(ById("03.png"), k=5, mode=mode, where=where)
    check(result, brute_force(searcher, embedding, code, mode, row, mask)[:5], mode)


def test_filter_that_leaves_nothing(searcher):
    nowhere = Filter(bbox=Bounds(-90, 50, -80, 60))
    for mode in ("embedding", "code"):
        result = searcher.search(ById("03.png"), k=5, mode=mode, where=nowhere)
        assert result.hits == ()
        assert result.to_json()["hits"] == []
    only_itself = Filter(datetime=(START + timedelta(days=3), START + timedelta(days=3, hours=1)))
    assert searcher.search(ById("03.png"), k=5, where=only_itself).hits == ()
    assert len(searcher.search(ById("04.png"), k=5, where=only_itself).hits) == 1


def test_filter_times_without_a_zone_are_utc(searcher):
    naive = Filter(datetime=(datetime(2024, 1, 5), None))
    shifted = Filter(datetime="2024-01-05T02:00:00+02:00/..")
    assert (
        naive.mask(searcher.backend.records, searcher.backend.vectors).tolist()
        == shifted.mask(searcher.backend.records, searcher.backend.vectors).tolist()
    )
    with pytest.raises(UsageError, match="swap its dates"):
        Filter(datetime=(datetime(2024, 2, 1), datetime(2024, 1, 1)))


def test_label_names_ignore_case(searcher):
    same = searcher.search(ById("03.png"), k=40, where=Filter(labels=("water",)))
    for where in (Filter(labels=("Water",)), Filter(expression="not (not WATER)")):
        assert searcher.search(ById("03.png"), k=40, where=where).ids == same.ids


def test_unknown_label_names_near_ones(searcher):
    with pytest.raises(UsageError, match=r"no record has the label 'watr' .*'water'"):
        searcher.search(ById("03.png"), where=Filter(labels=("water", "watr")))


def test_touching_at_the_antimeridian():
    boxes = np.array([[170, 0, 180, 1], [-180, 0, -170, 1], [175, 0, -175, 1], [0, 0, 1, 1]], float)
    assert touches(boxes, Bounds(179, 0, -179, 1)).tolist() == [True, True, True, False]
    assert touches(boxes, Bounds(-180, 1, -180, 2)).tolist() == [True, True, True, False]
    assert touches(boxes, Bounds(-180, 0, 180, 1)).tolist() == [True] * 4
    assert touches(boxes, Bounds(1, 1, 2, 2)).tolist() == [False, False, False, True]
    assert touches(boxes, Bounds(-180, 1.5, 180, 2)).tolist() == [False] * 4


@pytest.mark.parametrize("k", [0, -3, 2.5, True])
def test_k_below_one(searcher, k):
    with pytest.raises(UsageError, match="k is"):
        searcher.search(ById("03.png"), k=k)


def test_unknown_id_and_mode(searcher):
    with pytest.raises(
        UsageError, match=r"no record has the id '03\.pgn' \(did you mean '03\.png'"
    ):
        searcher.search(ById("03.pgn"))
    with pytest.raises(UsageError, match=r"unknown mode 'codes' \(did you mean 'code'"):
        searcher.search(ById("03.png"), mode="codes")


def test_encodings_that_do_not_fit(searcher):
    good = encoding_of(3)
    for other in ({"dim": 8}, {"n_bits": 24}, {"n_bits": 0}):
        with pytest.raises(UsageError, match="archive's own model"):
            searcher.search(encoding_of(3, tools.PixelEncoder(**other)))
    for broken in (np.nan, np.inf, 0.0):
        bad = replace(good, embedding=np.full_like(good.embedding, broken))
        with pytest.raises(UsageError, match="norm"):
            searcher.search(bad)
    two = Encoding(
        good.embedding.repeat(2, 0), good.code.repeat(2, 0), 20, good.label_scores.repeat(2, 0)
    )
    with pytest.raises(UsageError, match="2 images"):
        searcher.search(two)
    with pytest.raises(UsageError, match="query codes"):
        searcher.search(replace(good, code=good.code[:, :1]), mode="code")


def test_code_mode_needs_a_hash_head(tmp_path):
    encoder = tools.PixelEncoder(n_bits=0)
    records = tools.write_images(tmp_path / "source", NAMES[:5])
    ingest(SourceImages(records, tmp_path / "source"), tmp_path / "archive", encoder)
    searcher = Archive(ArchiveFolder.open(tmp_path / "archive"))
    with pytest.raises(UsageError, match="no hash head"):
        searcher.search(ById("03.png"), mode="code")
    assert len(searcher.search(encoding_of(1, encoder)).hits) == 5
    assert [hit.id for hit in searcher.search(ById("03.png"), k=99).hits] != []


def test_empty_archive(tmp_path):
    write_manifest(tmp_path, Manifest.of(tools.PixelEncoder(), {}, {}))
    searcher = Archive(ArchiveFolder.open(tmp_path))
    for query in (ById("a"), encoding_of(1)):
        with pytest.raises(ArchiveError, match="holds no records"):
            searcher.search(query)


def test_many_threads_agree(searcher):
    from concurrent.futures import ThreadPoolExecutor

    fresh = Archive(searcher.backend.archive)
    queries = [(ById(name), mode) for name in NAMES for mode in ("embedding", "code")]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda query: fresh.search(query[0], k=9, mode=query[1]), queries))
    assert found == [searcher.search(query, k=9, mode=mode) for query, mode in queries]
