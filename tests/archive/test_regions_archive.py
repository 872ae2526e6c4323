"""Archives with regions: what is smaller than a chip, and where in it."""

import json
import os

import numpy as np
import pytest
import rasterio
import shapely
from PIL import Image
from rasterio.transform import from_origin

import landcue
from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import compact, delete
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import reembed, repair
from landcue.archive.verify import verify_archive
from landcue.codes.regions import encode_crop, region_boxes, region_windows, to_int8
from landcue.errors import ArchiveError, UsageError
from landcue.models.regions import RegionEncoder
from landcue.search.place import part_of

NAMES = [f"{i:02}.png" for i in range(10)]


@pytest.fixture
def made(tmp_path, tools):
    records = tools.write_images(tmp_path / "source", NAMES)
    encoder = RegionEncoder(tools.PixelEncoder(), 3)
    model = tools.write_model(tmp_path / "run", encoder)
    archive = tmp_path / "archive"
    ingest(SourceImages(records, tmp_path / "source"), archive, encoder, model_folder=model)
    return archive, records, encoder


def pixels_of(record):
    return np.asarray(Image.open(record.path).convert("RGB"))


def expected_regions(record, encoder):
    """Encode each window of an image by itself."""
    image = pixels_of(record)
    crops = [image[t:b, x:r] for x, t, r, b in region_windows(3, *image.shape[:2]).tolist()]
    base = encoder.encoder
    return to_int8(base.encode([base.prepare(crop) for crop in crops]).embedding).reshape(-1)


def stored_regions(archive):
    opened = ArchiveFolder.open(archive)
    rows = [row for batch in opened.batches(["id", "regions"]) for row in batch.to_pylist()]
    opened.close()
    return {row["id"]: row["regions"] for row in rows}


def all_as_expected(archive, records, encoder):
    stored = stored_regions(archive)
    assert stored.keys() == {record.id for record in records}
    for record in records:
        assert stored[record.id] == expected_regions(record, encoder).tolist()
    assert verify_archive(archive).problems == ()


def test_regions_follow_every_change(made, tmp_path, tools):
    archive, records, encoder = made
    all_as_expected(archive, records, encoder)
    tools.write_image(records[2].path, 99)
    os.utime(records[2].path, ns=(1, 1))
    records[4].path.unlink()
    left = [record for record in records if record is not records[4]]
    root = tmp_path / "source"
    report = ingest(SourceImages(left, root), archive, encoder, prune=True)
    assert (report.updated, report.pruned) == (1, 1)
    delete(archive, [NAMES[7]])
    compact(archive)
    left = [record for record in left if record.id != NAMES[7]]
    all_as_expected(archive, left, encoder)


def test_damaged_regions_are_named_and_encoded_again(made):
    archive, records, encoder = made
    wanted = np.array(stored_regions(archive)[NAMES[3]], np.int8).tobytes()
    files = list((archive / "records.lance/data").iterdir())
    (file,) = (one for one in files if wanted in one.read_bytes())
    content = bytearray(file.read_bytes())
    content[content.index(wanted) + 5] ^= 0x10
    file.write_bytes(content)
    (problem,) = verify_archive(archive).rows
    assert problem.where == NAMES[3]
    report = repair(archive, apply=True, load_encoder=lambda: (encoder, lambda _: None))
    assert report.encoded == [NAMES[3]]
    all_as_expected(archive, records, encoder)


def test_regions_are_added_and_removed_by_reembed(made, tools):
    archive, records, encoder = made
    with pytest.raises(UsageError, match="there is nothing to do"):
        reembed(archive, encoder)
    reembed(archive, encoder.encoder)
    assert landcue.open(archive).modes == ("auto", "embedding", "code", "cue", "two-stage")
    with pytest.raises(ArchiveError, match="holds 0 x 0 regions of each image, not 3 x 3"):
        ingest(SourceImages(records, records[0].path.parent), archive, encoder)
    reembed(archive, encoder)
    all_as_expected(archive, records, encoder)


def test_an_archive_without_regions_keeps_its_manifest(tmp_path, tools):
    records = tools.write_images(tmp_path / "source", NAMES[:2])
    ingest(SourceImages(records, tmp_path / "source"), tmp_path / "archive", tools.PixelEncoder())
    assert "regions" not in json.loads((tmp_path / "archive/manifest.json").read_text())
    with pytest.raises(UsageError, match="reembed --regions 3"):
        landcue.open(tmp_path / "archive").search(NAMES[0], mode="regions")


def test_search_returns_the_place_in_the_image(made):
    archive, records, encoder = made
    opened = landcue.open(archive, model=encoder.encoder)
    image = pixels_of(records[5])
    left, top, right, bottom = region_windows(3, *image.shape[:2])[5].tolist()
    result = opened.search(image[top:bottom, left:right], k=4, mode="regions")
    assert result[0].id == NAMES[5]
    assert result[0].region.box == tuple(region_boxes(3)[5].tolist())
    assert result.to_json()["hits"][0]["region"] == {
        "box": [0.5, 0.25, 1.0, 0.75],
        "window": None,
        "geometry": None,
    }
    query = encode_crop(encoder.encoder, image[top:bottom, left:right]).embedding[0]
    query = query.astype(np.float64)
    scores = {}
    for record in records:
        parts = expected_regions(record, encoder).reshape(9, -1).astype(np.float64)
        scores[record.id] = (parts @ query / np.linalg.norm(parts, axis=1)).max()
    order = sorted(scores, key=lambda id_: (-scores[id_], id_))
    every = opened.search(image[top:bottom, left:right], k=100, mode="regions")
    assert list(every.ids) == order
    assert every.scores == pytest.approx([scores[id_] for id_ in order], abs=1e-4)
    pages = list(result.ids)
    while result.cursor:
        options = landcue.SearchOptions(cursor=result.cursor)
        result = opened.search(image[top:bottom, left:right], k=4, mode="regions", options=options)
        pages += result.ids
    assert pages == order
    some = opened.search(
        image[top:bottom, left:right], k=9, where="water", mode="regions",
        options=landcue.SearchOptions(min_score=0.5),
    )  # fmt: skip
    water = {record.id for record in records if "water" in (record.labels or ())}
    assert list(some.ids) == [i for i in order if i in water and scores[i] >= 0.5]
    assert opened.search(NAMES[0], k=3)[0].region is None


def test_places_of_chips_are_in_pixels_and_degrees(tmp_path, tools):
    values = np.random.default_rng(0).integers(0, 255, (3, 128, 256), np.uint8)
    values[:, :, 128:] //= 4
    values[:, 64:, 192:] = np.where(np.arange(64) % 8 < 4, 240, 20)
    scene = tmp_path / "scenes" / "scene.tif"
    scene.parent.mkdir()
    with rasterio.open(
        scene, "w", driver="GTiff", width=256, height=128, count=3, dtype="uint8",
        crs="EPSG:4326", transform=from_origin(10, 51, 0.001, 0.001),
    ) as file:  # fmt: skip
        file.write(values)
    options = landcue.IndexOptions(chip="128px", regions=3)
    opened = landcue.index(scene.parent, tmp_path / "archive", options=options)
    assert len(opened) == 2
    crop = np.ascontiguousarray(values[:, 64:128, 192:256].transpose(1, 2, 0))
    hit = opened.search(crop, k=1, mode="regions")[0]
    assert hit.region.box == (0.5, 0.5, 1.0, 1.0)
    at = hit.region.window
    assert (at.col, at.row, at.width, at.height) == (192, 64, 64, 64)
    assert hit.region.geometry.bounds == pytest.approx((10.192, 50.872, 10.256, 50.936))
    assert hit.region.geometry.exterior.is_ccw


def test_other_numbers_of_regions_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(UsageError, match="9 regions a side: use 2 to 8"):
        landcue.IndexOptions(regions=9)


@pytest.mark.parametrize(
    ("area", "bounds"),
    [
        (shapely.box(10, 50, 14, 52), (12, 51, 14, 52)),
        # turned by a few degrees: the middle of the quadrilateral is a corner of the part
        (shapely.Polygon([(0, 0.2), (4, 0), (4.2, 2), (0.2, 2.2)]), (2.1, 1.0, 4.2, 2.1)),
        # over the antimeridian: the eastern half is all west of it
        (
            shapely.MultiPolygon([shapely.box(178, 0, 180, 2), shapely.box(-180, 0, -178, 2)]),
            (-180, 1, -178, 2),
        ),
        (shapely.Point(1, 1).buffer(1), (1, 1, 2, 2)),
    ],
)
def test_upper_right_quarter_of_a_footprint(area, bounds):
    assert part_of(area, (0.5, 0.0, 1.0, 0.5)).bounds == pytest.approx(bounds, abs=1e-2)


def test_no_footprint_has_no_part():
    assert part_of(None, (0, 0, 1, 1)) is None
