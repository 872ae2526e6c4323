"""GeoTIFF scenes in an object store: read by range, and the same as from a folder."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from PIL import Image

import scene_files as files
from landcue.archive.archive import ArchiveFolder
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages, make_plan, read_stored
from landcue.archive.sources import name_records
from landcue.archive.table import RecordTable
from landcue.data import raster
from landcue.data.header import read_facts
from landcue.data.objects import ObjectPath, ObjectStore, look_up
from landcue.data.pictures import Rendering
from landcue.data.raster import open_dataset
from landcue.data.reader import SceneReader
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import DataError, StoreError
from landcue.types import Window

pytestmark = pytest.mark.s3

SOURCE = Path("s3://bucket/scenes")
CHIP = SceneOptions(Length(64, meters=False), Length(48, meters=False), bands=(1, 2, 3), side=32)
BYTES = Rendering(None, False, 0, (0.0, 0.0, 0.0))
ONE = SceneOptions(Length(64, meters=False), bands=(1, 2, 3))


@pytest.fixture
def fetched(throttle):
    """Objects and ranges that were read: path, range, bytes."""
    throttle.sent.clear()
    return throttle.sent


def write_cog(path, values, **options):
    files.write_scene(path.with_suffix(".plain"), values)
    rasterio.shutil.copy(path.with_suffix(".plain"), path, driver="COG", **options)
    path.with_suffix(".plain").unlink()
    return path


def upload(folder, key="bucket/scenes"):
    target = ObjectStore(SOURCE)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            target.upload(path, f"{key}/{path.relative_to(folder).as_posix()}")


def index(source, archive, encoder, options=CHIP, encoding=None, **more):
    cut = cut_scenes(open_source(source), options)
    report = ingest(
        SourceImages(cut.records, cut.root, options, unread=cut.unread), archive, encoder,
        options=encoding or EncodingOptions(batch_size=8), **more,
    )  # fmt: skip
    return report, [str(p) for p in (*cut.problems, *report.skipped)]


def rows(tools, archive):
    """All values but when files were written, and what names or counts their bytes.

    Of scenes in folders, files beside them count, too.
    """
    opened = ArchiveFolder.open(archive)
    found = tools.contents(opened)
    opened.close()
    aside = {"size", "mtime_ns", "metadata_check", "content", "check"}
    return [{name: row[name] for name in row if name not in aside} for row in found]


@pytest.fixture
def folder(scenes, tmp_path):
    """A copy of the scenes, which a test may change."""
    return shutil.copytree(scenes, tmp_path / "scenes")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Scenes of all kinds: tiled, in strips, masked, with files beside them, and broken ones."""
    root = tmp_path_factory.mktemp("made") / "scenes"
    byte = {"high": 256, "dtype": "uint8"}
    write_cog((root / "cog.tif"), files.noise(0, 3, 400, 500, **byte), blocksize=128)
    values = files.noise(1, 4, 200, 300)
    values[:, :, :120] = 7
    files.write_scene(root / "2024" / "strips.tif", values, nodata=7, tags={"SATELLITEID": "s2"})
    mask = np.full((150, 200), 255, np.uint8)
    mask[:60] = 0
    files.write_scene(root / "masked.tif", files.noise(2, 3, 150, 200), mask=mask, compress="lzw")
    degrees = {
        "crs": "EPSG:4326",
        "transform": rasterio.transform.from_origin(179.99, 1, 1e-4, 1e-4),
    }
    files.write_scene(root / "degrees.tif", files.noise(3, 3, 130, 220).astype("float32"),
                      place=degrees, tiled=True, blockxsize=64, blockysize=64)  # fmt: skip
    files.write_scene(root / "nowhere.tif", files.noise(4, 3, 40, 50, **byte), place={})
    beside = files.write_scene(root / "beside.tif", files.noise(5, 3, 256, 256, **byte))
    with rasterio.Env(TIFF_USE_OVR=True), rasterio.open(beside, "r+") as scene:
        scene.build_overviews([2, 4])
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False), rasterio.open(beside, "r+") as scene:
        scene.write_mask(np.pad(np.zeros((100, 100), np.uint8), ((0, 156), (0, 156)),
                                constant_values=255))  # fmt: skip
    assert (root / "beside.tif.ovr").exists()
    assert (root / "beside.tif.msk").exists()
    (root / "broken.tif").write_bytes(b"II*\0 no scene")
    (root / "text.tif").write_text("no TIFF at all")
    cut = files.write_scene(root / "cut.tif", files.noise(6, 3, 200, 200))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    files.write_scene(root / "two.tif", files.noise(7, 2, 64, 64))
    return root


def test_scenes_equal_those_of_a_folder(tools, store, folder, tmp_path):
    upload(folder)
    encoder = tools.PixelEncoder()
    plain, plain_problems = index(folder, tmp_path / "plain", encoder)
    report, problems = index(SOURCE, tmp_path / "a", encoder)
    why = re.compile(r"corrupt \(.*?\)")
    assert [why.sub("", p) for p in problems] == [why.sub("", p) for p in plain_problems]
    assert {line.split(":")[0].split("/")[0] for line in problems} >= {
        "broken.tif", "text.tif", "cut.tif", "two.tif", "nowhere.tif",
    }  # fmt: skip
    assert (report.added, report.empty) == (plain.added, plain.empty)
    assert report.added > 100
    assert report.empty > 10
    assert rows(tools, tmp_path / "a") == rows(tools, tmp_path / "plain")
    for name in ("cog.tif", "2024/strips.tif", "beside.tif", "degrees.tif"):
        assert read_facts(SOURCE / name) == read_facts(folder / name)


@pytest.mark.parametrize("name", ["cog.tif", "beside.tif", "2024/strips.tif"])
def test_pixels_equal_those_of_a_file(store, folder, name):
    upload(folder)
    options = SceneOptions(Length(128, meters=False), bands=(3, 1, 2), side=32, nodata=1.0)
    far = SceneReader(SOURCE / name, options)
    near = SceneReader(folder / name, options)
    for window in (Window(0, 0, 128, 128), Window(101, 33, 99, 140), Window(60, 0, 64, 200)):
        here = near.chip(window, near.rendering())
        assert here is not None
        np.testing.assert_array_equal(far.chip(window, far.rendering()), here)
    far.close()
    near.close()


def test_one_scene_by_its_key(tools, store, folder, tmp_path):
    upload(folder)
    encoder = tools.PixelEncoder()
    index(folder / "cog.tif", tmp_path / "plain", encoder)
    index(SOURCE / "cog.tif", tmp_path / "a", encoder)
    assert rows(tools, tmp_path / "a") == rows(tools, tmp_path / "plain")


def test_a_chip_costs_its_ranges_only(store, tmp_path, fetched):
    root = tmp_path / "scenes"
    values = files.noise(0, 3, 2048, 2048, high=256, dtype="uint8")
    path = write_cog(root / "big.tif", values, compress="deflate")
    upload(root)
    reader = SceneReader(SOURCE / "big.tif", ONE)
    assert sum(n for *_, n in fetched) <= raster.BLOCK  # the header
    assert reader.chip(Window(1024, 1024, 256, 256), BYTES).shape == (256, 256, 3)
    reader.close()
    # One tile of sixteen, and what else is in the blocks at its ends.
    most = 512 * 512 * 3 * 1.01 + 4 * raster.BLOCK
    assert sum(n for *_, n in fetched) < most < path.stat().st_size / 8


def test_all_chips_cost_a_scene_once(tools, store, tmp_path, fetched):
    root = tmp_path / "scenes"
    path = write_cog(root / "big.tif", files.noise(0, 3, 1500, 1500, high=256, dtype="uint8"))
    upload(root)
    options = SceneOptions(Length(128, meters=False))
    encoding = EncodingOptions(batch_size=8, workers=3, overlap=True)
    report, _ = index(SOURCE, tmp_path / "a", tools.PixelEncoder(), options, encoding)
    assert report.added == 144
    # The three readers and the one before them may each fetch both blocks of the header.
    assert sum(n for *_, n in fetched) <= path.stat().st_size + 8 * raster.BLOCK


def test_only_changed_scenes_are_read_again(tools, store, folder, fetched, tmp_path):
    for path in folder.rglob("*.tif*"):
        if path.name not in ("cog.tif", "degrees.tif", "nowhere.tif"):
            path.unlink()  # broken, or with chips that are looked at again as they hold no data
    upload(folder)
    encoder = tools.PixelEncoder()
    first, _ = index(SOURCE, tmp_path / "a", encoder)
    fetched.clear()
    cut_scenes(open_source(SOURCE), CHIP)
    headers = set(fetched)
    fetched.clear()
    again, _ = index(SOURCE, tmp_path / "a", encoder)
    assert (again.unchanged, again.added, again.updated) == (first.added, 0, 0)
    assert set(fetched) == headers
    files.write_scene(folder / "degrees.tif", files.noise(9, 3, 130, 220))
    upload(folder)  # all have other times, one has other bytes
    encoder.encoded = 0
    report, _ = index(SOURCE, tmp_path / "a", encoder)
    assert report.added + report.updated == encoder.encoded < 40
    assert report.updated > 0
    assert report.refreshed + report.unchanged == first.added - report.updated


def test_etag_tells_bytes_of_one_second_apart(tools, store, folder, tmp_path):
    upload(folder)
    index(SOURCE / "cog.tif", tmp_path / "a", tools.PixelEncoder())
    stored = read_stored(RecordTable.open(tmp_path / "a", pinned=True))
    cut = cut_scenes(open_source(SOURCE / "cog.tif"), CHIP)
    known = {id_: row.metadata for id_, row in stored.items()}
    own = name_records(cut.records, "scenes", ["scenes"], known)
    images = SourceImages(own, cut.root, CHIP)
    assert not make_plan(images, stored, "scenes").tasks
    for record in own:
        record.path.etag = "another"
    assert len(make_plan(images, stored, "scenes").tasks) == len(stored)


def replace(folder, name, values):
    files.write_scene(folder / name, values)
    ObjectStore(SOURCE).upload(folder / name, f"bucket/scenes/{name}")


@pytest.mark.parametrize("how", ["vanished", "changed"])
def test_object_that_is_another_by_the_time_it_is_read(tools, store, tmp_path, how):
    root = tmp_path / "scenes"
    for i, name in enumerate(("a.tif", "b.tif")):
        files.write_scene(root / name, files.noise(i, 3, 64, 128))
    upload(root)
    cut = cut_scenes(open_source(SOURCE), ONE)
    assert len(cut.records) == 4
    if how == "vanished":
        store.delete_file("bucket/scenes/a.tif")
    else:
        replace(root, "a.tif", files.noise(9, 3, 64, 128))
    report = ingest(SourceImages(cut.records, cut.root, ONE), tmp_path / "a", tools.PixelEncoder())
    assert report.added == 2
    word = "there is nothing" if how == "vanished" else "changed while it was read"
    assert {problem.where for problem in report.skipped} == {"a.tif"}
    assert all(problem.what.startswith(word) for problem in report.skipped)
    report, problems = index(SOURCE, tmp_path / "a", tools.PixelEncoder(), ONE)
    assert (report.added, problems) == ((0, []) if how == "vanished" else (2, []))


def test_object_that_changes_between_two_ranges(store, tmp_path, monkeypatch):
    """No chip mixes the bytes of two objects."""
    monkeypatch.setenv("CPL_VSIL_CURL_CHUNK_SIZE", "16384")
    root = tmp_path / "scenes"
    values = files.noise(0, 3, 256, 256, high=256, dtype="uint8")
    write_cog(root / "a.tif", values, blocksize=128)
    upload(root)
    reader = SceneReader(SOURCE / "a.tif", ONE)
    assert reader.chip(Window(0, 0, 64, 64), BYTES) is not None
    write_cog(root / "a.tif", values + 1, blocksize=128)
    upload(root)
    for _ in range(2):
        with pytest.raises(DataError, match=r"a\.tif: changed while it was read"):
            reader.chip(Window(192, 192, 64, 64), BYTES)
    reader.close()


def test_throttling_is_waited_for(tools, store, folder, throttle, tmp_path):
    upload(folder)
    throttle.refuse = 5
    report, _ = index(SOURCE / "cog.tif", tmp_path / "a", tools.PixelEncoder())
    assert throttle.refused == 5
    assert report.added == 88
    assert not report.skipped


def test_throttling_amid_an_ingest(tools, store, tmp_path, throttle, monkeypatch):
    """Chips that the store does not give are not skipped as broken; the next run goes on."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    root = tmp_path / "scenes"
    for i in range(6):
        files.write_scene(root / f"{i}.tif", files.noise(i, 3, 128, 128))
    upload(root)

    class Ending(tools.PixelEncoder):
        def encode(self, pixels):
            if self.encoded >= 8:
                throttle.refuse = 10**6
            return super().encode(pixels)

    encoding = EncodingOptions(batch_size=8, commit_every=4, workers=1)
    with pytest.raises(StoreError, match="run the same command again later"):
        index(SOURCE, tmp_path / "a", Ending(), ONE, encoding)
    with pytest.raises(StoreError, match="run the same command again later"):
        index(SOURCE, tmp_path / "a", tools.PixelEncoder(), ONE)  # at the listing or a header
    throttle.refuse = 0
    report, problems = index(SOURCE, tmp_path / "a", tools.PixelEncoder(), ONE)
    assert report.unchanged >= 8
    assert report.added == 24 - report.unchanged > 0
    assert not problems


def test_a_failed_range_is_the_stores_failure(store, folder, throttle, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("CPL_VSIL_CURL_CHUNK_SIZE", "16384")
    upload(folder)
    reader = SceneReader(SOURCE / "cog.tif", ONE)
    throttle.refuse = 10**6
    with pytest.raises(StoreError, match="asks to slow down"):
        reader.chip(Window(100, 100, 64, 64), BYTES)
    throttle.refuse = 0
    near = SceneReader(folder / "cog.tif", ONE)
    for window in (Window(100, 100, 64, 64), Window(0, 0, 64, 64)):
        np.testing.assert_array_equal(reader.chip(window, BYTES), near.chip(window, BYTES))
    near.close()
    reader.close()


def test_pixels_in_one_piece_are_refused(store, folder):
    upload(folder)
    with pytest.raises(DataError, match=r"s3://bucket/scenes/cog\.tif: .*save it as a COG"):
        open_dataset(SOURCE / "cog.tif", most_bytes=10_000)


@pytest.mark.parametrize("suffix", ["", ".ovr", ".msk", ".ovr.ovr"])
def test_an_object_leads_only_to_itself(store, tmp_path, suffix):
    root = tmp_path / "scenes"
    path = files.write_scene(root / "a.tif", files.noise(0, 3, 60, 60, high=20, dtype="uint8"))
    files.write_scene(tmp_path / "other.tif", files.noise(1, 3, 60, 60))
    (tmp_path / "virtual").write_text(
        '<VRTDataset rasterXSize="60" rasterYSize="60"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{tmp_path / 'other.tif'}</SourceFilename>"
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )
    if suffix == ".ovr.ovr":
        shutil.copy(path, root / "a.tif.ovr")
    shutil.copy(tmp_path / "virtual", root / f"a.tif{suffix}")
    upload(root)
    with pytest.raises(DataError, match=r"^s3://bucket/scenes/a\.tif: not a JPEG, PNG, TIFF.*$"):
        open_dataset(SOURCE / "a.tif")


@pytest.mark.parametrize("kind", ["avif", "heic", "jpg", "png", "tif"])
def test_images_of_any_format_are_cut_as_in_a_folder(store, tmp_path, kind):
    """AVIF and HEIC, which GDAL does not read, and orientation tags, which it does not tell."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    (tmp_path / "scenes").mkdir()
    down, right = np.mgrid[0:96, 0:128]
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"scenes/a.{kind}"
    pixels = np.stack([down * 2, right, down + right], axis=2).astype(np.uint8)
    extra = {"tiffinfo": {0x0112: 6}} if kind == "tif" else {"exif": exif}
    Image.fromarray(pixels).save(path, **extra)
    upload(tmp_path / "scenes")
    assert len(cut_scenes(open_source(SOURCE), ONE)) == 4
    assert read_facts(SOURCE / path.name) == read_facts(path)
    for window in (Window(0, 0, 64, 64), Window(64, 32, 64, 64)):
        far, near = (SceneReader(p, ONE) for p in (SOURCE / path.name, path))
        shown = near.chip(window, BYTES)
        np.testing.assert_array_equal(far.chip(window, BYTES), shown)
        part = pixels[window.row :, window.col :][:64, :64]
        wanted = np.rot90(part, -1) if kind in ("jpg", "png", "tif") else shown
        assert np.abs(shown.astype(int) - wanted).mean() < 3
    if kind not in ("avif", "heic"):  # the header of the others is whole
        return
    path.write_bytes(path.read_bytes()[:200])
    upload(tmp_path / "scenes")
    with pytest.raises(DataError, match=rf"a\.{kind}: ") as caught:
        cut_scenes(open_source(SOURCE), ONE)
    assert "\n" not in str(caught.value)
    assert "BytesIO" not in str(caught.value)


def test_overviews_elsewhere_are_refused(store, folder):
    with rasterio.open(folder / "masked.tif", "r+") as scene:
        scene.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=str(folder / "cog.tif"))
    upload(folder)
    with pytest.raises(DataError, match="its overviews lie in another file"):
        open_dataset(SOURCE / "masked.tif")


def test_known_objects_travel(store, folder):
    import pickle

    upload(folder)
    found = look_up(SOURCE / "cog.tif")
    copy = pickle.loads(pickle.dumps(found))
    assert isinstance(copy, ObjectPath)
    assert (copy, copy.known, copy.etag, copy.digest) == (
        found, found.known, found.etag, found.digest,
    )  # fmt: skip
    assert len(found.digest) == 32
