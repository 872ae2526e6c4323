"""Chips of scenes in an archive: what is stored, what is done again, and what goes wrong."""

from __future__ import annotations

import itertools
import os
import struct
from hashlib import blake2b

import numpy as np
import pytest
import shapely

import scene_files as files
from landcue.archive.archive import ArchiveFolder
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.archive.schema import footprint_of, to_wkb, window_of
from landcue.data.header import read_facts
from landcue.data.images import read_image
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length, Scale, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import ArchiveError, DataError, UsageError
from landcue.types import Record, Window

CHIP = Length(32, meters=False)
OPTIONS = SceneOptions(CHIP, side=32)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "scenes"
    for i, name in enumerate(("a", "b", "c")):
        files.write_scene(folder / f"{name}.tif", files.noise(i, 3, 70, 100))
    return folder


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


def index(root, archive, tools, options=OPTIONS, encoder=None, encoding=None, **more):
    scenes = cut_scenes(open_source(root), options)
    encoder = encoder or tools.PixelEncoder()
    report = ingest(
        SourceImages(scenes.records, root, options, unread=scenes.unread), archive, encoder,
        options=encoding or EncodingOptions(), **more,
    )  # fmt: skip
    names = ("added", "updated", "refreshed", "unchanged", "vanished", "pruned", "empty")
    counts = {name: getattr(report, name) for name in names if getattr(report, name)}
    return counts, [str(p) for p in (*scenes.problems, *report.skipped)], encoder.encoded


def rewrite(path, values, at=1, **options):
    files.write_scene(path, values, **options)
    os.utime(path, ns=(at, at))


def test_chips_hold_what_the_encoder_says_of_their_pixels(root, archive, tools):
    assert index(root, archive, tools, encoding=EncodingOptions(5, workers=3)) == (
        {"added": 36},
        [],
        36,
    )
    opened = ArchiveFolder.open(archive)
    columns = opened.columns()
    records = {r.id: r for r in cut_scenes(open_source(root), OPTIONS).records}
    assert columns.ids == tuple(sorted(records))
    encoder = tools.PixelEncoder()
    for name in ("a", "b", "c"):
        reader = SceneReader(root / f"{name}.tif", OPTIONS)
        limits = reader.rendering()
        for id_ in (i for i in columns.ids if i.startswith(f"{name}/")):
            record, row = records[id_], columns.find(id_)
            expected = encoder.encode([encoder.prepare(reader.chip(record.window, limits))])
            np.testing.assert_array_equal(columns.embedding[row], expected.embedding[0])
            box = record.bbox
            assert columns.bounds[row].tolist() == [box.west, box.south, box.east, box.north]
            assert columns.group[row] == name
            stored = opened.read_records([id_])[0]
            assert window_of(stored["pixel_bbox"]) == record.window
            assert footprint_of(stored["geometry"]) == record.geometry
            assert stored["path"] == f"{name}.tif"
        reader.close()
    assert opened.verify() == ()
    assert read_image(opened.thumbnail(columns.ids[0])).shape == (32, 32, 3)


def test_nothing_is_done_twice(root, archive, tools):
    index(root, archive, tools)
    assert index(root, archive, tools) == ({"unchanged": 36}, [], 0)
    # Touched: the same bytes under another time are hashed, and not decoded.
    os.utime(root / "b.tif", ns=(5, 5))
    assert index(root, archive, tools) == ({"refreshed": 12, "unchanged": 24}, [], 0)
    assert index(root, archive, tools) == ({"unchanged": 36}, [], 0)
    # New pixels, a new scene, a scene that is gone.
    rewrite(root / "a.tif", files.noise(9, 3, 70, 100))
    files.write_scene(root / "d.tif", files.noise(10, 3, 32, 32))
    (root / "c.tif").unlink()
    assert index(root, archive, tools) == (
        {"added": 1, "updated": 12, "unchanged": 12, "vanished": 12}, [], 13,
    )  # fmt: skip
    assert index(root, archive, tools, prune=True)[0] == {
        "unchanged": 25, "vanished": 12, "pruned": 12,
    }  # fmt: skip
    assert ArchiveFolder.open(archive).verify() == ()


@pytest.mark.parametrize(
    "changes", [{"bands": (3, 2, 1)}, {"scale": Scale.parse("fixed:0,3000")}, {"nodata": 0.1}]
)
def test_other_options_make_chips_again(root, archive, tools, changes):
    index(root, archive, tools)
    other = SceneOptions(CHIP, side=32, **changes)
    assert index(root, archive, tools, other) == ({"updated": 36}, [], 36)
    assert index(root, archive, tools, other) == ({"unchanged": 36}, [], 0)


def test_another_grid_leaves_old_chips_until_pruned(root, archive, tools):
    index(root, archive, tools)
    coarse = SceneOptions(Length(64, meters=False), side=32)
    counts, _, _ = index(root, archive, tools, coarse)
    assert counts == {"added": 12, "vanished": 36}
    counts, _, _ = index(root, archive, tools, coarse, prune=True)
    assert counts == {"unchanged": 12, "vanished": 36, "pruned": 36}


def test_a_scene_is_hashed_once(root, archive, tools):
    """A run that goes on knows the digest from the chips that are there."""

    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index(root, archive, tools, encoding=EncodingOptions(4, workers=1), progress=stop)
    # Other bytes of the same size and time: a second digest would differ.
    path = root / "b.tif"
    before, data = path.stat(), path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert index(root, archive, tools)[0] == {"added": 20, "unchanged": 16}
    columns = ArchiveFolder.open(archive)
    digests = {
        name: {
            columns.read_records([id_])[0]["content"]
            for id_ in columns.columns().ids
            if id_[0] == name
        }
        for name in "abc"
    }
    assert {name: len(found) for name, found in digests.items()} == {"a": 1, "b": 1, "c": 1}
    assert next(iter(digests["b"])).startswith(blake2b(data, digest_size=16).hexdigest())


def test_chips_without_data_are_counted_and_kept_out(root, archive, tools):
    values = files.noise(0, 3, 70, 100)
    values[:, :, :40] = 0
    rewrite(root / "a.tif", values, nodata=0)
    counts, problems, encoded = index(root, archive, tools)
    assert counts == {"added": 33, "empty": 3}
    assert problems == []
    assert encoded == 33
    assert index(root, archive, tools)[0] == {"unchanged": 33, "empty": 3}
    # A scene whose data goes away: its rows are vanished.
    values[:, :, :70] = 0
    rewrite(root / "a.tif", values, at=3, nodata=0)
    counts, _, _ = index(root, archive, tools)
    assert counts == {"updated": 6, "unchanged": 24, "vanished": 3, "empty": 6}
    counts, _, _ = index(root, archive, tools, prune=True)
    assert counts == {"unchanged": 30, "vanished": 3, "pruned": 3, "empty": 6}


def test_a_scene_without_any_data_is_named(root, archive, tools):
    rewrite(root / "b.tif", np.zeros((3, 70, 100), np.uint16), nodata=0)
    for counted in ({"added": 24, "empty": 12}, {"unchanged": 24, "empty": 12}):
        counts, problems, _ = index(root, archive, tools)
        assert counts == counted
        assert len(problems) == 1
        assert problems[0].startswith("b.tif: its 12 chips all hold too little data; check its")


def test_nodata_everywhere(root, archive, tools):
    for name in ("a", "b", "c"):
        rewrite(root / f"{name}.tif", np.zeros((3, 70, 100), np.uint16))
    with pytest.raises(DataError, match="all 36 chips hold too little data; raise --nodata"):
        index(root, archive, tools)
    assert not (archive / "manifest.json").exists()


def test_nan_chips(root, archive, tools):
    values = files.noise(0, 3, 70, 100, dtype="float32")
    values[:, :40] = np.nan
    values[1] = np.nan  # one band alone is not the end of a chip
    rewrite(root / "a.tif", values)
    counts, problems, _ = index(root, archive, tools)
    assert counts == {"added": 32, "empty": 4}
    assert problems == []


def test_truncated_scene_is_one_problem_and_others_go_on(root, archive, tools):
    large = files.write_scene(root / "b.tif", files.noise(5, 3, 320, 320))
    content = large.read_bytes()
    large.write_bytes(content[: len(content) // 2])
    options = SceneOptions(CHIP, side=32, scale=Scale.parse("fixed:0,3000"))
    counts, problems, _ = index(root, archive, tools, options)
    assert 24 < counts["added"] < 124
    (problem,) = problems
    assert problem.startswith("b.tif: truncated or corrupt (")
    left = 124 - counts["added"] - 1
    assert problem.endswith(f"(and {left} more of its chips)")
    # With percentiles the whole scene is needed: none of its chips, and no new try for each.
    counts, problems, _ = index(root, archive.with_name("other"), tools)
    assert counts == {"added": 24}
    assert problems[0].endswith("(and 99 more of its chips)")
    # Mended, only what is missing is made; the stored chips were hashed from other bytes.
    large.write_bytes(content)
    assert index(root, archive.with_name("other"), tools)[0] == {"added": 100, "unchanged": 24}
    assert index(root, archive, tools, options)[0]["unchanged"] == 24


def test_scene_that_cannot_be_opened_keeps_its_rows(root, archive, tools):
    index(root, archive, tools)
    (root / "b.tif").write_bytes(b"II*\0")
    counts, problems, _ = index(root, archive, tools, prune=True)
    assert counts == {"unchanged": 24}
    assert len(problems) == 1
    assert problems[0].startswith("b.tif: ")
    assert ArchiveFolder.open(archive).count == 36


def test_scene_that_changes_while_it_is_read(root, archive, tools):
    """Chips never carry the digest of other bytes than their pixels are from."""
    target = root / "b.tif"

    def swap(done, total):
        if done == 16:  # in the middle of b: reading is two images ahead at most
            rewrite(target, files.noise(77, 3, 70, 100))

    encoding = EncodingOptions(batch_size=1, commit_every=4, workers=1)
    counts, problems, _ = index(root, archive, tools, encoding=encoding, progress=swap)
    assert counts["added"] < 36
    assert problems
    assert problems[0].startswith("b.tif: changed while it was read; run the same command again")
    index(root, archive, tools)
    rows = {row["id"]: row for row in tools.contents(ArchiveFolder.open(archive))}
    fresh = archive.with_name("fresh")
    index(root, fresh, tools)
    expected = {row["id"]: row for row in tools.contents(ArchiveFolder.open(fresh))}
    assert {i: r["embedding"] for i, r in rows.items()} == {
        i: r["embedding"] for i, r in expected.items()
    }
    assert {r["content"] for r in rows.values()} == {r["content"] for r in expected.values()}


@pytest.mark.parametrize("kind", ["mask", "band"])
def test_file_beside_a_scene_that_changes_while_it_is_read(tmp_path, archive, tools, kind):
    root, new = tmp_path / "scenes", tmp_path / "new.tif"
    if kind == "mask":
        changing, values = root / "a.tif.msk", np.full((1, 70, 100), 255, "uint8")
        files.write_scene(root / "a.tif", files.noise(0, 3, 70, 100))
        files.write_scene(changing, values)
        values[:, ::3] = 0
    else:
        changing, values = root / "x_B02.tif", files.noise(9, 1, 70, 100)
        for i, band in enumerate(("B02", "B03", "B04")):
            files.write_scene(root / f"x_{band}.tif", files.noise(i, 1, 70, 100))
    rewrite(new, values, at=2 * changing.stat().st_mtime_ns)

    class Replacing(tools.PixelEncoder):
        prepared = 0

        def prepare(self, image):
            self.prepared += 1
            if self.prepared == 5:
                os.replace(new, changing)
            return super().prepare(image)

    encoding = EncodingOptions(batch_size=1, workers=1)
    counts, problems, _ = index(root, archive, tools, encoder=Replacing(), encoding=encoding)
    assert counts == {"added": 5}
    name = "a.tif" if kind == "mask" else "x_B04.tif"
    assert problems[-1].startswith(f"{name}: changed while it was read; run the same command again")
    index(root, archive, tools)
    fresh = archive.with_name("fresh")
    index(root, fresh, tools)
    found, expected = (tools.contents(ArchiveFolder.open(one)) for one in (archive, fresh))
    for name in ("id", "embedding", "content", "size", "mtime_ns"):
        assert [row[name] for row in found] == [row[name] for row in expected]


def test_four_bands(root, archive, tools):
    class FourBands(tools.PixelEncoder):
        def __init__(self):
            super().__init__()
            width = self._projection.shape[1]
            self._projection = np.random.default_rng(0).normal(size=(16, width))

        def prepare(self, image):
            assert image.shape == (32, 32, 4)
            return image

    for name in ("a", "b", "c"):
        rewrite(root / f"{name}.tif", files.noise(3, 4, 70, 100))
    options = SceneOptions(CHIP, channels=4, side=32)
    assert index(root, archive, tools, options, FourBands())[0] == {"added": 36}
    opened = ArchiveFolder.open(archive)
    assert read_image(opened.thumbnail(opened.columns().ids[0])).shape == (32, 32, 3)


def test_one_band_has_a_gray_thumbnail(tmp_path, archive, tools):
    class OneBand(tools.PixelEncoder):
        def prepare(self, image):
            return super().prepare(np.repeat(image, 3, axis=2))

    files.write_scene(tmp_path / "s" / "a.tif", files.noise(3, 1, 70, 100))
    options = SceneOptions(CHIP, channels=1)
    index(tmp_path / "s", archive, tools, options, OneBand())
    opened = ArchiveFolder.open(archive)
    picture = read_image(opened.thumbnail(opened.columns().ids[0])).astype(int)
    assert np.abs(picture[..., 0] - picture[..., 2]).max() <= 2


def test_images_and_chips_in_one_archive(root, archive, tools, tmp_path):
    index(root, archive, tools)
    pictures = tools.write_images(tmp_path / "pictures", ["p.png"])
    report = ingest(SourceImages(pictures, tmp_path / "pictures"), archive, tools.PixelEncoder())
    assert report.records == 37
    assert ArchiveFolder.open(archive).read_records(["p.png"])[0]["pixel_bbox"] is None


def test_chips_need_options(root, archive, tools):
    records = cut_scenes(open_source(root), OPTIONS).records
    with pytest.raises(UsageError, match="scenes=SceneOptions"):
        ingest(SourceImages(records, root), archive, tools.PixelEncoder())


def test_wkb_round_trip():
    ring = ((179.5, 1.25), (-179.5, 1.0), (-179.5, 0.0), (179.5, 0.1))
    (data, nothing) = to_wkb([shapely.Polygon(ring), None])
    assert nothing is None
    # The bytes that older archives of this format hold.
    assert data == struct.pack("<BIII10d", 1, 3, 1, 5, *itertools.chain(*ring, ring[0]))
    assert footprint_of(data) == shapely.Polygon(ring)
    for broken in (data[:-1], b"", b"\0" + data[1:], data[:1] + b"\x01" + data[2:]):
        with pytest.raises(ArchiveError, match="footprint of the archive is damaged"):
            footprint_of(broken)


@pytest.mark.parametrize("values", [(-1, 0, 1, 1), (0, 0, 0, 1), (0, -2, 3, 3), (0, 0, 1, -1)])
def test_windows_that_are_none(values):
    with pytest.raises(UsageError, match="window"):
        Window(*values)


def test_place_of_a_plain_image_is_stored(tmp_path, archive, tools):
    path = files.write_scene(tmp_path / "a.tif", files.noise(0, 3, 60, 60, high=256, dtype="uint8"))
    ingest(SourceImages([Record("a", path)], tmp_path), archive, tools.PixelEncoder())
    stored = ArchiveFolder.open(archive).read_records(["a"])[0]
    corners = footprint_of(stored["geometry"]).exterior.coords[:-1]
    assert min(x for x, _ in corners) == pytest.approx(stored["west"])
    assert len(corners) == 4
    assert read_facts(path).time is None
    again = ingest(SourceImages([Record("a", path)], tmp_path), archive, tools.PixelEncoder())
    assert again.unchanged == 1


def test_readers_that_share_facts_hash_a_scene_once(root, tools):
    from landcue.archive import reading
    from landcue.archive.plan import make_plan

    hashed = []

    def digest(task):
        hashed.append(task)
        return reading.scene_digest(task)

    tasks = make_plan(SourceImages(cut_scenes(open_source(root), OPTIONS).records, root)).tasks
    facts, found = reading.SceneFacts(digest), []
    for part in (tasks[::2], tasks[1::2]):
        reader = reading.ChipReader(OPTIONS, tools.PixelEncoder(), facts)
        found += [reader.read(task).content for task in part]
        reader.close()
    assert len(hashed) == 3
    assert len(found) == 36
    assert len(set(found)) == 3
