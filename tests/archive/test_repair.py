from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from landcue.archive.archive import ArchiveFolder
from landcue.archive.changes import delete
from landcue.archive.checksums import CHECKSUMS
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.manifest import MANIFEST
from landcue.archive.plan import SourceImages
from landcue.archive.rebuild import repair
from landcue.archive.verify import verify_archive, verify_files
from landcue.errors import ArchiveError, ModelError

NAMES = [f"{i:02}.png" for i in range(16)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tools):
    """An archive with a model, a list of deleted records and several versions."""
    folder = tmp_path_factory.mktemp("made")
    records = tools.write_images(folder / "source", NAMES)
    encoder = tools.PixelEncoder()
    model = tools.write_model(folder / "run", encoder)
    root, archive = folder / "source", folder / "archive"
    ingest(
        SourceImages(records[:12], root),
        archive,
        encoder,
        options=EncodingOptions(commit_every=4),
        model_folder=model,
    )
    reader = ArchiveFolder.open(archive)  # keeps old versions from being removed
    ingest(SourceImages(records, root), archive, encoder, model_folder=model)
    delete(archive, [NAMES[3]])
    reader.close()
    return folder


@pytest.fixture
def archive(made, tmp_path):
    return shutil.copytree(made / "archive", tmp_path / "archive")


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place % len(content)] ^= 0x10
    file.write_bytes(content)


def flip_thumbnail(archive, *ids):
    """Change thumbnails of records in all files that hold them, and return the files' names."""
    opened = ArchiveFolder.open(archive)
    thumbnails = opened.thumbnails(ids).values()
    opened.close()
    found = []
    for file in (archive / "records.lance/data").iterdir():
        for thumbnail in thumbnails:
            if thumbnail in file.read_bytes():
                flip(file, file.read_bytes().index(thumbnail) + len(thumbnail) // 2)
                found.append(file.name)
    return found


def contents_of_files(archive):
    return {path: path.read_bytes() for path in archive.rglob("*") if path.is_file()}


def every_file(made):
    folder = made / "archive"
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size]
    return [path.relative_to(folder) for path in paths if path.name != ".checked.json"]


def test_sound_archive_needs_nothing(archive):
    before = contents_of_files(archive)
    assert verify_archive(archive).problems == ()
    assert verify_archive(archive).records == 15
    report = repair(archive, apply=False)
    assert (report.problems, report.repaired, report.left) == ((), [], [])
    assert contents_of_files(archive) == before


def test_flipped_byte_in_any_file_is_named(made, tmp_path):
    """Every file of the folder, at two places each."""
    rng = np.random.default_rng(0)
    names = every_file(made)
    assert {path.parts[0] for path in names} == {MANIFEST, CHECKSUMS, "model", "records.lance"}
    for name in names:
        for place in rng.integers(0, 10_000, 2).tolist():
            archive = shutil.copytree(made / "archive", tmp_path / "flipped")
            flip(archive / name, place)
            # Reading rows of a damaged table is for the tests below; here it is its files.
            found = {problem.where for problem in verify_files(archive).problems}
            assert name.as_posix() in found, (name, place)
            shutil.rmtree(archive)


@pytest.mark.parametrize(
    "pattern", ["records.lance/data/*", "records.lance/_versions/*.manifest", CHECKSUMS, MANIFEST]
)
def test_damage_is_repaired(archive, tools, made, pattern):
    file = sorted(archive.glob(pattern))[0]
    expected = {row["id"]: row for row in tools.contents(ArchiveFolder.open(archive))}
    flip(file, file.stat().st_size // 2)
    found = verify_archive(archive)
    assert file.relative_to(archive).as_posix() in [problem.where for problem in found.problems]
    before = contents_of_files(archive)
    reported = repair(archive, apply=False)
    assert contents_of_files(archive) == before
    assert reported.problems == found.problems
    done = repair(archive, apply=True)
    assert (reported.problems, reported.dropped, reported.lost) == (
        done.problems,
        done.dropped,
        done.lost,
    )
    assert not done.left
    assert verify_archive(archive).problems == ()
    rows = {row["id"]: row for row in tools.contents(ArchiveFolder.open(archive))}
    assert rows.items() <= expected.items()
    assert expected.keys() - rows.keys() == set(done.dropped)
    # The next index encodes what was dropped, and nothing else.
    encoder = tools.PixelEncoder()
    root = made / "source"
    records = [r for r in tools.stored_images(root, NAMES) if r.id != NAMES[3]]
    ingest(SourceImages(records, root), archive, encoder)
    assert encoder.encoded == len(done.dropped)
    assert {row["id"]: row for row in tools.contents(ArchiveFolder.open(archive))} == expected


def test_damaged_rows_are_dropped_and_named(archive, tools):
    """A record whose stored thumbnail changed goes, the others stay."""
    flip_thumbnail(archive, NAMES[7])
    found = verify_archive(archive)
    assert [problem.where for problem in found.rows] == [NAMES[7]]
    assert found.records == 14
    report = repair(archive, apply=True)
    assert report.dropped == [NAMES[7]]
    assert report.records == ArchiveFolder.open(archive).count == 14
    assert ArchiveFolder.open(archive).columns().find(NAMES[7]) is None


def test_damaged_rows_are_encoded_again(archive, made, tools):
    expected = tools.contents(ArchiveFolder.open(archive))
    flip_thumbnail(archive, NAMES[7])
    encoder = tools.PixelEncoder()
    reported = repair(archive, apply=False, load_encoder=lambda: (encoder, lambda source: None))
    assert (reported.encoded, reported.dropped, encoder.encoded) == ([NAMES[7]], [], 0)
    done = repair(archive, apply=True, load_encoder=lambda: (encoder, lambda source: None))
    assert (done.encoded, done.dropped, done.left, done.records) == ([NAMES[7]], [], [], 15)
    assert encoder.encoded == 1
    assert verify_archive(archive).problems == ()
    assert tools.contents(ArchiveFolder.open(archive)) == expected


def test_damaged_rows_whose_image_is_gone_are_named(archive, made, tmp_path, tools):
    moved = shutil.copytree(made / "source", tmp_path / "source")
    records = [r for r in tools.stored_images(moved, NAMES) if r.id != NAMES[3]]
    ingest(SourceImages(records, moved, name="source"), archive, tools.PixelEncoder())
    (moved / NAMES[7]).unlink()
    flip_thumbnail(archive, NAMES[7], NAMES[8])
    done = repair(
        archive, apply=True, load_encoder=lambda: (tools.PixelEncoder(), lambda source: None)
    )
    assert (done.encoded, done.dropped, done.records) == ([NAMES[8]], [NAMES[7]], 14)
    assert verify_archive(archive).problems == ()


def test_damaged_rows_are_dropped_without_a_model(archive):
    def load():
        raise ModelError("model is missing")

    flip_thumbnail(archive, NAMES[7])
    done = repair(archive, apply=True, load_encoder=load)
    assert (done.encoded, done.dropped) == ([], [NAMES[7]])
    assert done.left == ["damaged records were not encoded again: model is missing"]


def test_newest_readable_version_without_checksums(archive):
    """Without checksums and with a broken newest version, the version before it comes back."""
    (archive / CHECKSUMS).unlink()
    newest = min((archive / "records.lance/_versions").glob("*.manifest"))
    newest.write_bytes(newest.read_bytes()[:40])
    report = repair(archive, apply=True)
    assert report.records == ArchiveFolder.open(archive).count
    assert report.records > 0
    assert verify_archive(archive).problems == ()


def test_nothing_left_to_repair(archive):
    shutil.rmtree(archive / "records.lance")
    (archive / CHECKSUMS).unlink()
    (archive / "records.lance/_versions").mkdir(parents=True)
    (archive / "records.lance/_versions/18446744073709551610.manifest").write_bytes(b"x")
    with pytest.raises(ArchiveError, match=r"no version of .* can be read"):
        repair(archive, apply=True)
    (archive / MANIFEST).write_text("{")
    with pytest.raises(ArchiveError, match=r"manifest\.json"):
        repair(archive, apply=True)


def test_model_copy(archive, made, tools):
    flip(archive / "model/model.safetensors", 5)
    found = verify_archive(archive)
    assert [problem.where for problem in found.problems] == ["model/model.safetensors"]
    report = repair(archive, apply=True)
    assert report.left == ["model: add --model with the folder of the same model"]
    assert verify_archive(archive).problems == found.problems  # still reported
    other = tools.PixelEncoder(seed=3)
    with pytest.raises(ArchiveError, match="was made by model"):
        repair(archive, apply=True, model=(made / "run", other))
    report = repair(archive, apply=True, model=(made / "run", tools.PixelEncoder()))
    assert report.left == []
    assert verify_archive(archive).problems == ()


def test_damage_is_not_carried_over_by_a_change(archive, tools, made):
    """A change that would rewrite a damaged file stops and names it."""
    names = flip_thumbnail(archive, NAMES[7])
    with pytest.raises(ArchiveError, match="|".join(names)):
        delete(archive, [NAMES[9]])
    assert verify_archive(archive).rows[0].where == NAMES[7]


def test_changed_manifest_is_told_although_it_can_be_read(archive):
    value = json.loads((archive / MANIFEST).read_text())
    (archive / MANIFEST).write_text(json.dumps(value))
    assert [p.where for p in verify_archive(archive).problems] == [MANIFEST]
    repair(archive, apply=True)
    assert verify_archive(archive).problems == ()
