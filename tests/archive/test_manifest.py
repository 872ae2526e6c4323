from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.manifest import Manifest, checksum_of, read_manifest, write_manifest
from landcue.archive.plan import SourceImages
from landcue.archive.sources import Source
from landcue.errors import ArchiveError, LandcueError, UsageError

NAMES = [f"{i:02}.png" for i in range(12)]


@pytest.fixture(scope="module")
def made(tmp_path_factory, tools):
    folder = tmp_path_factory.mktemp("made")
    records = tools.write_images(folder / "source", NAMES)
    ingest(SourceImages(records, folder / "source"), folder / "archive", tools.PixelEncoder())
    return folder / "archive"


@pytest.fixture
def archive(made, tmp_path):
    return shutil.copytree(made, tmp_path / "archive")


def attempt(action):
    """Return what ``action`` gives, or the message of its ArchiveError."""
    try:
        return action(), None
    except ArchiveError as error:
        return None, str(error)


def read_all(archive, tools):
    opened = ArchiveFolder.open(archive)
    problems = opened.verify()
    opened.columns()
    return problems, tools.contents(opened)


def test_round_trip(tmp_path, tools):
    manifest = Manifest.of(
        tools.PixelEncoder(),
        {"ä": Source.at(tmp_path), "b": Source("/t.csv", "/", {"bands": [3]})},
        {"backbone": "pixels", "über": 1},
    )
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    stored = json.loads((tmp_path / "manifest.json").read_text())
    assert (stored["format"], stored["bit_order"], stored["metric"]) == (3, "little", "cosine")


def test_every_truncation_is_an_error(archive):
    file = archive / "manifest.json"
    whole = file.read_bytes().rstrip()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(ArchiveError) as caught:
            read_manifest(archive)
        assert "manifest.json" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_every_flipped_bit_is_seen(archive):
    file = archive / "manifest.json"
    whole, expected = file.read_bytes(), read_manifest(archive)
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        found, error = attempt(lambda: read_manifest(archive))
        # Blanks between values carry no meaning.
        assert found == expected if error is None else "manifest.json" in error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": 2},
            "has format 2, this LandCue reads 3; index again into a new folder: landcue index",
        ),
        ({"format": 4}, "has format 4, this LandCue reads 3"),
        ({"format": None}, "has format None"),
        ({"dim": 17}, "checksum differs"),
        ({"landcue": "\ud800"}, "checksum differs"),
        ({"fingerprint": "0" * 64}, "checksum differs"),
    ],
)
def test_changed_values(archive, change, message):
    file = archive / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(ArchiveError, match=message):
        ArchiveFolder.open(archive)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", 0), ("dim", 2.0), ("dim", True), ("dim", 2**40), ("n_bits", -1),
        ("label_names", "a"),
        ("label_names", [1]), ("records", "1"), ("model", []), ("base", "v1/.."), ("base", "v1\n"),
        ("sources", {"a": 1}), ("sources", {"a": {"location": 1, "root": "/", "scenes": {}}}),
        ("sources", {"a": {"location": "/", "root": "/"}}),
        ("sources", {"a": {"location": "/", "root": "/", "scenes": {}, "bands": []}}),
        ("id", None), ("regions", 99),
    ],
)  # fmt: skip
def test_values_of_wrong_types(archive, name, value):
    """A checksum can be made again; what the values mean is checked all the same."""
    file = archive / "manifest.json"
    changed = {**json.loads(file.read_text()), name: value}
    del changed["checksum"]
    file.write_text(json.dumps({**changed, "checksum": checksum_of(changed)}))
    with pytest.raises(ArchiveError, match=f"manifest.json has a wrong value of '{name}'"):
        ArchiveFolder.open(archive)


@pytest.mark.parametrize(
    "change",
    [{"created": "\ud800"}, {"model": {"name": "\ud800"}},
     {"model": json.loads('{"a": ' * 300 + "1" + "}" * 300)}],
    ids=["text", "model", "nested"],
)  # fmt: skip
def test_values_that_are_not_text_or_nested_too_deeply(archive, change):
    file = archive / "manifest.json"
    changed = {**json.loads(file.read_text()), **change}
    del changed["checksum"]
    file.write_text(json.dumps({**changed, "checksum": checksum_of(changed)}))
    with pytest.raises(ArchiveError, match=r"manifest.json holds a value that .*; run") as caught:
        ArchiveFolder.open(archive)
    assert "\n" not in str(caught.value)


def test_missing_key_and_missing_file(archive, tmp_path):
    file = archive / "manifest.json"
    value = json.loads(file.read_text())
    del value["n_bits"]
    file.write_text(json.dumps(value))
    with pytest.raises(ArchiveError, match="lacks n_bits"):
        ArchiveFolder.open(archive)
    file.unlink()
    with pytest.raises(ArchiveError, match=r"manifest\.json is missing; use an archive folder"):
        ArchiveFolder.open(archive)
    with pytest.raises(ArchiveError, match="does not exist"):
        ArchiveFolder.open(tmp_path / "nowhere")
    file.write_bytes(b"")
    with pytest.raises(ArchiveError, match="is a file"):
        ArchiveFolder.open(file)


def test_manifest_of_another_table(archive, tools, tmp_path):
    write_manifest(archive, Manifest.of(tools.PixelEncoder(dim=8), {}, {}))
    with pytest.raises(ArchiveError, match="the checksums of another archive"):
        ArchiveFolder.open(archive)


def test_lost_table(archive, tools):
    shutil.rmtree(archive / "records.lance")
    with pytest.raises(ArchiveError, match=r"records\.lance is missing"):
        ArchiveFolder.open(archive)
    with pytest.raises(ArchiveError, match="has no table"):
        ingest(SourceImages([], archive), archive, tools.PixelEncoder())


def test_flipped_bytes_in_the_table_never_pass_verify(archive, tools):
    """Any damage to stored values is an error in one line or a named record."""
    expected = tools.contents(ArchiveFolder.open(archive))
    (data,) = (archive / "records.lance/data").iterdir()
    whole = data.read_bytes()
    seen = 0
    for place in np.random.default_rng(0).integers(0, len(whole), 40):
        flipped = bytearray(whole)
        flipped[place] ^= 0x41
        data.write_bytes(flipped)
        answer, error = attempt(lambda: read_all(archive, tools))
        if error is not None:
            assert "\n" not in error
            seen += 1
            continue
        problems, found = answer
        checked = ("id", "content", "embedding", "code", "label_scores", "thumbnail")
        differing = {
            new["id"]
            for old, new in zip(expected, found, strict=True)
            if any(np.array_equal(old[name], new[name]) is False for name in checked)
        }
        assert {problem.where for problem in problems} >= differing
        seen += bool(problems)
    assert seen == 40


def test_truncated_table(archive):
    (data,) = (archive / "records.lance/data").iterdir()
    data.write_bytes(data.read_bytes()[:1000])
    with pytest.raises(ArchiveError, match=r"records\.lance/data/.* is damaged"):
        ArchiveFolder.open(archive).columns()


def test_empty_archive_opens(tmp_path, tools):
    write_manifest(tmp_path, Manifest.of(tools.PixelEncoder(), {}, {}))
    opened = ArchiveFolder.open(tmp_path)
    assert opened.count == 0
    assert len(opened.columns()) == 0
    assert opened.columns().embedding.shape == (0, 16)
    assert opened.label_scores().shape == (0, 3)
    assert opened.thumbnails(["a"]) == {}
    assert opened.verify() == ()
    with pytest.raises(UsageError, match="no record has the id 'a'"):
        opened.read_records(["a"])


def test_unknown_id_names_near_ones(made):
    opened = ArchiveFolder.open(made)
    for read in (lambda id_: opened.read_records([id_]), opened.thumbnail, opened.file):
        with pytest.raises(UsageError, match=r"'00\.pgn' \(did you mean '00\.png'"):
            read("00.pgn")
    with pytest.raises(UsageError, match="no record has the id"):
        opened.read_records(["x' OR 'a' = 'a"])


def test_manifest_that_cannot_be_written(tmp_path, tools):
    (tmp_path / "file").write_bytes(b"")
    manifest = Manifest.of(tools.PixelEncoder(), {}, {})
    with pytest.raises(LandcueError, match="cannot write"):
        write_manifest(tmp_path / "file", manifest)
