from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely

from landcue.archive.archive import ArchiveFolder
from landcue.archive.export import write_geoparquet
from landcue.archive.import_columns import ImportColumns
from landcue.archive.importing import import_table
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed
from landcue.archive.verify import verify_archive
from landcue.errors import ArchiveError, DataError, UsageError
from landcue.search import Archive, ById
from landcue.types import Bounds, Encoding, Record

N, DIM = 50, 6
TIME = datetime(2023, 1, 1, tzinfo=UTC)


@pytest.fixture
def values():
    return np.random.default_rng(3).normal(size=(N, DIM)).astype(np.float32) * 3


def write(file, columns, geo=None):
    table = pa.table(columns)
    if geo is not None:
        table = table.replace_schema_metadata({"geo": json.dumps(geo)})
    pq.write_table(table, file, row_group_size=16)
    return file


def lists(values, kind=None):
    return pa.array([list(map(float, row)) for row in values], pa.list_(kind or pa.float32()))


def test_import_and_search(tmp_path, values):
    """Neighbors in the archive are those of NumPy, by record and by vector."""
    ids = [f"r{i:02}" for i in range(N)]
    file = write(tmp_path / "t.parquet", {"name": ids, "vector": lists(values)})
    report = import_table(file, tmp_path / "archive", ImportColumns("vector", id="name"))
    assert (report.records, report.added, report.dim, report.n_bits) == (N, N, DIM, 0)
    norms = np.linalg.norm(values.astype(np.float64), axis=1)
    assert report.normalized
    assert (report.least_norm, report.largest_norm) == pytest.approx((norms.min(), norms.max()))
    unit = values / norms[:, None]
    opened = ArchiveFolder.open(tmp_path / "archive")
    np.testing.assert_allclose(opened.columns().embedding, unit, atol=1e-6)
    assert opened.manifest.imported
    assert verify_archive(tmp_path / "archive").problems == ()
    searcher = Archive(opened)
    nearest = [ids[i] for i in np.argsort(-(unit @ unit[7]), kind="stable") if i != 7][:5]
    assert [hit.id for hit in searcher.search(ById("r07"), k=5).hits] == nearest
    vector = Encoding(
        unit[[7]].astype(np.float32), np.empty((1, 0), np.uint8), 0, np.empty((1, 0), np.float32)
    )
    assert [hit.id for hit in searcher.search(vector, k=6).hits] == ["r07", *nearest]


def test_new_images_are_refused(tmp_path, values, tools):
    file = write(tmp_path / "t.parquet", {"v": lists(values)})
    import_table(file, tmp_path / "archive", ImportColumns("v"))
    records = tools.write_images(tmp_path / "source", ["a.png"])
    encoder = tools.PixelEncoder(dim=DIM, n_bits=0, label_names=())
    for change in (
        lambda: ingest(SourceImages(records, tmp_path / "source"), tmp_path / "archive", encoder),
        lambda: reembed(tmp_path / "archive", encoder),
    ):
        with pytest.raises(ArchiveError, match="holds imported embeddings"):
            change()
    assert ArchiveFolder.open(tmp_path / "archive").columns().ids[:2] == ("000000000", "000000001")


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("fixed", [True, False])
def test_types_of_embeddings(tmp_path, values, kind, fixed):
    column = lists(values, kind)
    if fixed:
        column = column.cast(pa.list_(kind, DIM))
    file = write(tmp_path / "t.parquet", {"v": column})
    import_table(file, tmp_path / "archive", ImportColumns("v"))
    unit = values / np.linalg.norm(values, axis=1)[:, None]
    found = ArchiveFolder.open(tmp_path / "archive").columns().embedding
    np.testing.assert_allclose(found, unit, atol=2e-3 if kind == pa.float16() else 1e-6)


def test_rows_that_cannot_be_used_are_named(tmp_path, values):
    rows = [list(map(float, row)) for row in values]
    rows[3][1] = float("nan")
    rows[5][2] = float("inf")
    rows[8] = [0.0] * DIM
    rows[20] = rows[20][:-1]
    rows[30] = None
    ids = [f"r{i}" for i in range(N)]
    ids[40] = None
    ids[45] = "r44"
    column = pa.array(rows, pa.list_(pa.float32()))
    file = write(tmp_path / "t.parquet", {"id": ids, "v": column})
    report = import_table(file, tmp_path / "archive", ImportColumns("v"))
    reported = {problem.where: problem.what for problem in report.skipped}
    assert reported == {
        "t.parquet row 3": "has an embedding that is not finite",
        "t.parquet row 5": "has an embedding that is not finite",
        "t.parquet row 8": "has an embedding of length 0",
        "t.parquet row 20": "has 5 values in its embedding, not 6",
        "t.parquet row 30": "lacks its embedding",
        "t.parquet row 40": "has no id",
        "t.parquet": "1 rows with a repeated id were left out",
    }
    assert report.records == N - 7
    assert ArchiveFolder.open(tmp_path / "archive").columns().find("r44") is not None


def test_second_run_adds_nothing_and_other_tables_are_refused(tmp_path, values):
    file = write(tmp_path / "t.parquet", {"v": lists(values)})
    import_table(file, tmp_path / "archive", ImportColumns("v"))
    again = import_table(file, tmp_path / "archive", ImportColumns("v"))
    assert (again.added, again.present, again.records) == (0, N, N)
    assert again.skipped == []
    other = write(tmp_path / "o.parquet", {"v": lists(values[:5])})
    with pytest.raises(ArchiveError, match="holds another archive"):
        import_table(other, tmp_path / "archive", ImportColumns("v"))


SKEWED = shapely.Polygon([(5.0, 46.0), (5.9, 45.9), (6.0, 45.0), (5.1, 45.1)])


def test_what_was_exported_is_imported(tmp_path, tools):
    root = tmp_path / "source"
    places = {
        "box.png": {"bbox": Bounds(10, 50, 11, 51), "labels": ("a", "b"), "group": "g"},
        "over.png": {"bbox": Bounds(179, -17, -179, -16), "datetime": TIME},
        "skew.png": {"bbox": Bounds(5, 45, 6, 46),
                     "geometry": SKEWED},
    }  # fmt: skip
    records = []
    for i, (name, place) in enumerate(places.items()):
        tools.write_image(root / name, i)
        records.append(Record(name, root / name, **place))
    ingest(SourceImages(records, root), tmp_path / "first", tools.PixelEncoder())
    first = ArchiveFolder.open(tmp_path / "first")
    write_geoparquet(first, tmp_path / "t.parquet")
    columns = ImportColumns(
        "embedding", geometry="geometry", code="code", bits=20, time="timestamp",
        labels="labels", path="path", group="product_id",
    )  # fmt: skip
    report = import_table(tmp_path / "t.parquet", tmp_path / "second", columns)
    assert not report.normalized
    second = ArchiveFolder.open(tmp_path / "second")
    one, two = first.columns(), second.columns()
    assert one.ids == two.ids
    np.testing.assert_allclose(one.embedding, two.embedding, atol=1e-7)
    np.testing.assert_array_equal(one.code, two.code)
    np.testing.assert_allclose(one.bounds, two.bounds)
    np.testing.assert_array_equal(one.time, two.time)
    assert [one.labels.row(i) for i in range(3)] == [two.labels.row(i) for i in range(3)]
    assert (one.group, one.paths) == (two.group, two.paths)
    assert second.read_records(["box.png"])[0]["geometry"] is None
    assert second.read_records(["skew.png"])[0]["geometry"] is not None


def test_geometry(tmp_path, values):
    shapes = [shapely.Point(3, 4), shapely.box(1, 2, 3, 4), None, shapely.box(500, 0, 501, 1)]
    shapes += [shapely.MultiPolygon([shapely.box(-180, 0, -170, 5), shapely.box(175, 1, 180, 6)])]
    wkb = [None if s is None else s.wkb for s in shapes] + [b"no geometry"]
    file = write(tmp_path / "t.parquet", {"v": lists(values[:6]), "g": pa.array(wkb, pa.binary())})
    report = import_table(file, tmp_path / "archive", ImportColumns("v", geometry="g"))
    assert [p.where for p in report.skipped] == ["t.parquet row 3", "t.parquet row 5"]
    bounds = ArchiveFolder.open(tmp_path / "archive").columns().bounds
    np.testing.assert_array_equal(
        bounds, [[3, 4, 3, 4], [1, 2, 3, 4], [np.nan] * 4, [175, 0, -170, 6]]
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (ImportColumns("vektor"), r"--embedding: t\.parquet has no column 'vektor' \(did you mean"),
        (ImportColumns("vector", id="nmae"), r"--id: .* no column 'nmae' \(did you mean 'name'"),
        (ImportColumns("name"), "--embedding: column 'name' holds string, not lists of floats"),
        (ImportColumns("vector", geometry="name"), "holds string, not WKB"),
        (ImportColumns("vector", code="bytes", bits=20), "codes of 2 bytes have 16 bits or less"),
        (ImportColumns("vector", time="name"), "not timestamps"),
        (ImportColumns("vector", geometry="geometry"), "is in CRS 'UTM 33N', not longitude"),
    ],
)
def test_columns_that_do_not_fit(tmp_path, values, columns, message):
    utm = {"name": "UTM 33N", "id": {"authority": "EPSG", "code": 32633}}
    geo = {"columns": {"geometry": {"encoding": "WKB", "crs": utm}}}
    file = write(
        tmp_path / "t.parquet",
        {
            "name": [str(i) for i in range(N)],
            "vector": lists(values),
            "bytes": pa.array([b"ab"] * N, pa.binary(2)),
            "geometry": pa.array([None] * N, pa.binary()),
        },
        geo,
    )
    with pytest.raises(UsageError, match=message):
        import_table(file, tmp_path / "archive", columns)
    assert not (tmp_path / "archive").exists()


def test_codes_with_bits_beyond(tmp_path, values):
    code = pa.array([bytes([255, i % 16]) for i in range(N - 1)] + [bytes([0, 255])], pa.binary(2))
    file = write(tmp_path / "t.parquet", {"v": lists(values), "c": code})
    report = import_table(file, tmp_path / "archive", ImportColumns("v", code="c", bits=12))
    assert [problem.what for problem in report.skipped] == ["has code bits beyond 12"]
    assert ArchiveFolder.open(tmp_path / "archive").columns().code[3].tolist() == [255, 3]


def test_times_that_python_has_no_value_for(tmp_path, values):
    times = pa.array([10**18 if i == 4 else i for i in range(N)], pa.int64()).cast(
        pa.timestamp("us")
    )
    file = write(tmp_path / "t.parquet", {"v": lists(values), "t": times})
    report = import_table(file, tmp_path / "archive", ImportColumns("v", time="t"))
    assert (report.added, list(map(str, report.skipped))) == (
        N - 1, ["t.parquet row 4: has a time outside of the years 1 to 9999"],
    )  # fmt: skip


@pytest.mark.parametrize("fixed", [False, True])
def test_lists_with_unset_values(tmp_path, values, fixed):
    """What is missing is no 0."""
    vectors, codes = values.tolist(), [[i, 1] for i in range(N)]
    vectors[3][2] = codes[5][1] = None
    columns = {
        "v": pa.array(vectors, pa.list_(pa.float32(), DIM if fixed else -1)),
        "c": pa.array(codes, pa.list_(pa.uint8(), 2 if fixed else -1)),
    }
    file = write(tmp_path / "t.parquet", columns)
    report = import_table(file, tmp_path / "archive", ImportColumns("v", code="c"))
    assert list(map(str, report.skipped)) == [
        "t.parquet row 3: has unset values in its embedding",
        "t.parquet row 5: has unset values in its code",
    ]
    code = ArchiveFolder.open(tmp_path / "archive").columns().code
    assert code.tolist() == [row for i, row in enumerate(codes) if i not in (3, 5)]


def test_files_that_are_no_table(tmp_path, values):
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    empty = write(tmp_path / "e.parquet", {"v": pa.array([], pa.list_(pa.float32()))})
    whole = write(tmp_path / "w.parquet", {"v": lists(values)})
    nulls = write(tmp_path / "n.parquet", {"v": pa.array([None] * 3, pa.list_(pa.float32()))})
    (tmp_path / "short.parquet").write_bytes(whole.read_bytes()[:-20])
    for name in ("t.parquet", "short.parquet", "missing.parquet"):
        with pytest.raises(DataError, match=rf"{name} cannot be read") as caught:
            import_table(tmp_path / name, tmp_path / "archive", ImportColumns("v"))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="has no rows"):
        import_table(empty, tmp_path / "archive", ImportColumns("v"))
    with pytest.raises(DataError, match="column 'v' is empty"):
        import_table(nulls, tmp_path / "archive", ImportColumns("v"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.docx").write_bytes(b"")
    with pytest.raises(ArchiveError, match="not empty"):
        import_table(whole, tmp_path / "full", ImportColumns("v"))
