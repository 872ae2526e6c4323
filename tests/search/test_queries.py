"""Images, chips of scenes and mixes as queries; everything that cannot be asked."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import from_origin
from rasterio.warp import transform

import pixel_encoder as tools
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.errors import ArchiveError, DataError, UsageError
from landcue.search import Archive, ById, Chip, Filter, Query, SearchOptions
from landcue.search.pages import Cursor
from landcue.search.place import box_of, read_polygon
from landcue.types import Bounds, Window

NAMES = [f"{i:02}.png" for i in range(20)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("queries")
    records = tools.write_images(folder / "source", NAMES)
    encoder = tools.PixelEncoder()
    ingest(SourceImages(records, folder / "source"), folder / "archive", encoder)
    return folder


@pytest.fixture(scope="module")
def searcher(world):
    return Archive(ArchiveFolder.open(world / "archive"), tools.PixelEncoder())


def pairs(result):
    return [(hit.id, round(hit.distance, 6)) for hit in result.hits]


def test_an_image_as_file_bytes_or_pixels_is_one_query(world, searcher):
    path = world / "source/07.png"
    found = [
        searcher.search(query, k=5)
        for query in (
            path,
            path.read_bytes(),
            np.asarray(Image.open(path)),
        )
    ]
    assert pairs(found[0]) == pairs(found[1]) == pairs(found[2])
    assert found[0].hits[0].id == "07.png"
    assert (found[0].query, found[1].query) == (str(path), "image")
    predicted = searcher.columns().predicted.row(7)
    assert found[0].labels == predicted
    # As a record it does not find itself, and the rest is the same.
    assert pairs(searcher.search(ById("07.png"), k=4)) == pairs(found[0])[1:]


def test_the_encoder_is_loaded_once_and_only_for_images(world):
    calls = []

    def load():
        calls.append(1)
        return tools.PixelEncoder()

    searcher = Archive(ArchiveFolder.open(world / "archive"), load)
    searcher.search(ById("07.png"))
    assert calls == []
    for _ in range(3):
        searcher.search(world / "source/07.png")
    assert calls == [1]


def test_another_model_is_refused(world):
    other = Archive(ArchiveFolder.open(world / "archive"), tools.PixelEncoder(seed=5))
    with pytest.raises(ArchiveError, match="was made by model"):
        other.search(world / "source/07.png")
    without = Archive(ArchiveFolder.open(world / "archive"))
    with pytest.raises(UsageError, match="no model"):
        without.search(world / "source/07.png")


def test_images_and_records_mix(world, searcher):
    path = world / "source/03.png"
    with_id = searcher.search(Query((ById("01.png"), ById("03.png")), (ById("05.png"),)), k=17)
    with_file = searcher.search(Query((ById("01.png"), path), (ById("05.png"),)), k=18)
    # The file is no record, so its record is found too; all others are in the same order.
    assert [p for p in pairs(with_file) if p[0] != "03.png"] == pairs(with_id)
    assert with_id.query == "01.png + 03.png - 05.png"


@pytest.mark.parametrize(
    ("query", "word"),
    [
        (Query(()), "only negatives"),
        (Query((), (ById("01.png"),)), "only negatives"),
        (Query((ById("01.png"),), rule="rochio"), "did you mean 'rocchio'"),
        (Query((ById("01.png"),), negative_weight=-1), "negative weight"),
        (Query((ById("01.png"),), negative_weight=float("nan")), "negative weight"),
        (Query((ById("01.png"),), (ById("01.png"),), negative_weight=1), "cancel each other"),
        (Query((ById("01.pgn"),)), "did you mean '01.png'"),
    ],
)
def test_mixes_that_cannot_be_asked(searcher, query, word):
    with pytest.raises(UsageError, match=word):
        searcher.search(query)


@pytest.mark.parametrize("rule", ["mean", "rocchio", "linear"])
def test_every_rule_brings_the_positives_nearer_than_the_negatives(searcher, rule):
    columns = searcher.columns()
    query = Query((ById("01.png"), ById("02.png")), (ById("11.png"), ById("12.png")), rule)
    shown = {hit.id: hit.distance for hit in searcher.search(query, k=20).hits}
    assert set(shown) == set(NAMES) - {"01.png", "02.png", "11.png", "12.png"}
    target = searcher.embed(query)[0]
    scores = columns.embedding @ target
    assert scores[[1, 2]].mean() > scores[[11, 12]].mean()


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A 120 x 90 scene in UTM, of three bytes a pixel."""
    path = tmp_path_factory.mktemp("scene") / "scene.tif"
    pixels = np.random.default_rng(0).integers(1, 255, (90, 120, 3)).astype(np.uint8)
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=120,
        height=90,
        count=3,
        dtype="uint8",
        crs=CRS.from_epsg(32633),
        transform=from_origin(500_000, 5_000_000, 10, 10),
    ) as out:
        out.write(pixels.transpose(2, 0, 1))
    return path, pixels


def test_a_chip_by_window_is_that_of_its_pixels(searcher, scene):
    path, pixels = scene
    window = Window(30, 20, 40, 35)
    found = searcher.search(Chip(path, window), k=20)
    assert pairs(found) == pairs(searcher.search(pixels[20:55, 30:70], k=20))
    whole = searcher.search(Chip(path), k=20)
    assert pairs(whole) != pairs(found)
    swapped = searcher.search(Chip(path, window, bands=(3, 2, 1)), k=20)
    assert pairs(swapped) == pairs(searcher.search(pixels[20:55, 30:70, ::-1], k=20))


def test_a_chip_by_box_covers_the_box(searcher, scene):
    from landcue.search.scene import read_chip

    path, pixels = scene
    xs, ys = [500_000 + 300, 500_000 + 700], [5_000_000 - 550, 5_000_000 - 200]
    (west, east), (south, north) = transform("EPSG:32633", "EPSG:4326", xs, ys)
    chip = read_chip(Chip(path, bbox=Bounds(west, south, east, north)))
    # A box in degrees is a little askew in UTM: at most a pixel more on each side.
    assert 40 <= chip.shape[1] <= 42
    assert 35 <= chip.shape[0] <= 37
    rows, cols = np.nonzero((pixels[:, :, None] == chip[0, 0]).all(axis=3).any(axis=2))
    assert any(
        np.array_equal(pixels[r : r + chip.shape[0], c : c + chip.shape[1]], chip)
        and 28 <= c <= 30
        and 18 <= r <= 20
        for r, c in zip(rows.tolist(), cols.tolist(), strict=True)
    )


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"window": Window(100, 0, 40, 40)}, UsageError, "is not inside the scene of 120 x 90"),
        ({"bbox": Bounds(100, 0, 101, 1)}, UsageError, "is outside the scene"),
        ({"bbox": Bounds(170, 0, -170, 1)}, UsageError, "antimeridian"),
        ({"window": Window(0, 0, 9, 9), "bbox": Bounds(0, 0, 1, 1)}, UsageError, "not both"),
        ({"bands": (1, 2, 7)}, DataError, "no band 7"),
        ({"scale": "fixd:0,1"}, UsageError, "--scale"),
    ],
)
def test_chips_that_cannot_be_read(searcher, scene, options, error, word):
    with pytest.raises(error, match=word):
        searcher.search(Chip(scene[0], **options))


def test_scenes_that_cannot_be_read(searcher, tmp_path):
    with pytest.raises(DataError, match=r"gone\.tif"):
        searcher.search(Chip(tmp_path / "gone.tif"))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: not a JPEG"):
        searcher.search(Chip(tmp_path / "text.png"))
    with pytest.raises(UsageError, match="it has no pixels"):
        searcher.search(np.zeros((0, 4, 3), np.uint8))
    with pytest.raises(DataError, match="only files on this machine"):
        searcher.search(Chip(Path("/vsicurl/http://localhost/x.tif")))
    with pytest.raises(DataError, match="not a JPEG"):
        searcher.search(b"nonsense")
    broken = io.BytesIO()
    Image.new("RGB", (50, 50)).save(broken, "PNG")
    with pytest.raises(DataError, match="truncated"):
        searcher.search(broken.getvalue()[:60])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"k": 0}, "k is 0"),
        ({"mode": "anm"}, "did you mean 'ann'"),
        ({"mode": "place"}, "unknown mode"),
        ({"options": SearchOptions(min_score=1.5)}, "minimum score"),
        ({"options": SearchOptions(min_score=float("nan"))}, "minimum score"),
        ({"options": SearchOptions(collapse=-0.1)}, "collapse"),
        ({"options": SearchOptions(shortlist=0)}, "shortlist"),
        ({"options": SearchOptions(shortlist=2.5)}, "shortlist"),
        ({"options": SearchOptions(recall=1.1)}, "recall"),
        ({"options": SearchOptions(label_weight=-1)}, "label weight"),
        ({"options": SearchOptions(cursor="garbage")}, "cursor 'garbage' cannot be read"),
        ({"options": SearchOptions(cursor="äöü")}, "cannot be read"),
        ({"options": SearchOptions(cursor="")}, "cannot be read"),
        ({"options": SearchOptions(cursor="e30")}, "cannot be read"),
        ({"where": Filter(expression="water and watr")}, "did you mean 'water'"),
        ({"where": Filter(any_labels=("watr",))}, "did you mean 'water'"),
        ({"where": Filter(no_labels=("watr",))}, "did you mean 'water'"),
        ({"where": Filter(expression="water or")}, "found the end"),
        ({"where": Filter(scores=(("water", 0.5),))}, "no scores for label 'water'"),
        ({"where": Filter(scores=(("dark", 1.5),))}, "label score is 1.5"),
        ({"where": Filter(cql2="datetime > 5")}, "holds no ISO 8601 time"),
        ({"where": Filter(polygon=shapely.Polygon())}, "empty"),
        ({"where": Filter(polygon="0,0,1,1")}, "is a str; use a geometry"),
        (
            {"where": Filter(polygon=shapely.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]))},
            "intersects itself",
        ),
    ],
)
def test_searches_that_cannot_be_made(searcher, options, word):
    with pytest.raises(UsageError, match=word):
        searcher.search(ById("03.png"), **options)


def test_a_mode_without_an_example(searcher):
    with pytest.raises(UsageError, match="mode code needs a query"):
        searcher.search(mode="code", where=Filter(path="0"))


def test_cursors_of_other_searches(searcher):
    cursor = searcher.search(ById("03.png"), k=3).cursor
    with pytest.raises(UsageError, match="another search"):
        searcher.search(ById("04.png"), k=3, options=SearchOptions(cursor=cursor))
    with pytest.raises(UsageError, match="another search"):
        searcher.search(
            ById("03.png"), k=3, where=Filter(path="1"), options=SearchOptions(cursor=cursor)
        )
    with pytest.raises(UsageError, match="use the same mode"):
        searcher.search(ById("03.png"), k=3, mode="code", options=SearchOptions(cursor=cursor))
    known = Cursor.decode(cursor)
    assert Cursor.decode(known.encode()) == known
    for changed in (
        ("mark", 3),
        ("seen", -1),
        ("seen", True),
        ("distance", "far"),
        ("shortlist", 0),
        ("lists", 0),
    ):
        with pytest.raises(UsageError, match="cannot be read"):
            Cursor.decode(replace(known, **{changed[0]: changed[1]}).encode())


def test_an_empty_answer_names_the_filter(searcher):
    where = Filter(expression="water", bbox=Bounds(1, 2, 3, 4), sensors=("S2A",))
    found = searcher.search(ById("03.png"), where=where)
    assert found.hits == ()
    assert found.note == (
        "no record matches labels water (10 of 20 records) and bbox 1,2,3,4 (0 of 20 records) "
        "and sensor S2A (0 of 20 records)"
    )
    only = searcher.search(ById("03.png"), where=Filter(path="03"))
    assert (only.hits, only.note) == ((), "no other record matches")
    none = searcher.search(ById("03.png"), options=SearchOptions(min_score=1))
    assert (none.hits, none.note) == ((), "no record reaches the score 1")


def test_polygons_from_text_and_files(tmp_path):
    square = shapely.box(1, 2, 3, 4)
    feature = f'{{"type": "Feature", "properties": {{}}, "geometry": {shapely.to_geojson(square)}}}'
    collection = f'{{"type": "FeatureCollection", "features": [{feature}]}}'
    (tmp_path / "a.geojson").write_text(collection)
    (tmp_path / "b.wkt").write_text(square.wkt)
    for source in (
        square.wkt,
        shapely.to_geojson(square),
        feature,
        collection,
        str(tmp_path / "a.geojson"),
        tmp_path / "b.wkt",
        f"  multipolygon(({square.wkt.removeprefix('POLYGON ')[1:-1]}))",
    ):
        assert read_polygon(source).equals(square)


@pytest.mark.parametrize("name", ["plots.geojson", "Polygon.json", "meadow", "points (2).wkt"])
def test_files_of_polygons_may_have_any_name_and_a_byte_order_mark(name, tmp_path, monkeypatch):
    square = shapely.box(1, 2, 3, 4)
    (tmp_path / name).write_text(shapely.to_geojson(square), encoding="utf-8-sig")
    monkeypatch.chdir(tmp_path)
    assert read_polygon(name).equals(square)


def test_a_list_of_ids_may_be_longer_than_a_name_of_a_file(searcher):
    wanted = ",".join(NAMES) + "," * 5_000 + NAMES[0]
    assert searcher.search(where=Filter.parse(ids=wanted), k=50).ids == tuple(NAMES)
    with pytest.raises(UsageError, match="of no record, first 'gone'"):
        searcher.search(where=Filter.parse(ids=wanted + ",gone"))


def test_names_that_are_no_valid_text_match_nothing(searcher):
    for where in (Filter(groups=("\udcff",)), Filter(sensors=("\udcff",)), Filter(path="\udcff")):
        assert searcher.search(where=where).ids == ()


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("gone.geojson", "not a polygon"),
        ("POLYGON ((", "not a polygon"),
        ('{"type": "Nothing"}', "not a polygon"),
        ('{"type": "FeatureCollection", "features": []}', "0 features"),
        ("{", "not a polygon"),
        ("POLYGON EMPTY", "is empty"),
        ("POINT (1 2)", "use a Polygon"),
        ("POLYGON ((0 0, 1 1, 1 0, 0 1, 0 0))", "intersects itself"),
        ("POLYGON ((0 0, 1 0, 1 100, 0 0))", "latitude"),
        ("POLYGON ((500000 0, 500001 0, 500001 1, 500000 0))", "longitude"),
    ],
)
def test_polygons_that_cannot_be_used(source, word):
    with pytest.raises(UsageError, match=word):
        read_polygon(source)


def test_boxes_of_polygons_over_the_antimeridian():
    assert box_of(shapely.box(170, 0, 190, 1)) == Bounds(170, 0, -170, 1)
    assert box_of(shapely.box(-190, 0, -170, 1)) == Bounds(170, 0, -170, 1)
    assert box_of(shapely.box(170, 0, 180, 1)) == Bounds(170, 0, 180, 1)
    assert box_of(shapely.box(-10, 0, 360, 1)) == Bounds(-180, 0, 180, 1)
    assert box_of(shapely.box(190, 0, 200, 1)) == Bounds(-170, 0, -160, 1)


def test_labels_of_marked_results_are_not_labels_of_the_query(searcher):
    labels = {name: searcher.search(ById(name), k=1).labels for name in NAMES}
    own = NAMES[0]
    marks = [name for name in NAMES if not set(labels[name]) <= set(labels[own])][:2]
    both = searcher.search(Query([own, *marks]), k=5)
    assert set(both.labels) == {one for name in (own, *marks) for one in labels[name]}
    marked = searcher.search(Query([own, *marks], marks=2), k=5)
    assert marked.labels == labels[own]
    assert pairs(marked) == pairs(both)
    for hit in marked.hits:
        assert set(hit.shared) == set(hit.labels) & set(labels[own])
    assert searcher.search(Query(marks, marks=2), k=5).labels == ()
    assert searcher.search(Query(marks[0], marks=1), k=5).labels == ()
