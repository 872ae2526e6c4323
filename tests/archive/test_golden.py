from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import make_golden as golden
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.manifest import FORMAT, Manifest, manifest_text
from landcue.archive.plan import SourceImages
from landcue.archive.sources import Source
from landcue.archive.verify import verify_archive
from landcue.errors import ArchiveError

HERE = Path(__file__).parent


@pytest.fixture
def archive(tmp_path):
    return shutil.copytree(golden.GOLDEN / f"format-{FORMAT}", tmp_path / "archive")


def test_golden_archive_is_read_back(archive):
    """An archive that an earlier LandCue of this format wrote says what it said then."""
    expected = json.loads((golden.GOLDEN / f"format-{FORMAT}.json").read_text())
    assert golden.facts(ArchiveFolder.open(archive)) == expected
    assert len(expected) == 6
    assert verify_archive(archive).problems == ()


def test_golden_archive_takes_changes(archive, tmp_path, tools):
    """Its images have not changed since: nothing is encoded but what is new."""
    root = tmp_path / "source"
    records = golden.golden_records(root)
    records += tools.write_images(root, ["new.tif"], first_seed=99)
    encoder = tools.PixelEncoder()
    before = ArchiveFolder.open(archive).columns()
    report = ingest(SourceImages(records, root, name="golden"), archive, encoder)
    assert (report.added, report.updated, report.records) == (1, 0, 7)
    after = ArchiveFolder.open(archive).columns()
    assert (after.embedding[:6] == before.embedding).all()
    assert verify_archive(archive).problems == ()


def test_other_model_is_refused(archive, tools, tmp_path):
    other = tools.PixelEncoder(seed=1)
    with pytest.raises(ArchiveError, match=r"was made by model .* use the archive's own model"):
        ingest(SourceImages(golden.golden_records(tmp_path / "s"), tmp_path / "s"), archive, other)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bit_order", "big", "bit order 'big', this LandCue reads 'cosine' and 'little'"),
        ("metric", "euclidean", "has metric 'euclidean'"),
        ("base", "../elsewhere", "has a wrong value of 'base'"),
    ],
)
def test_other_bit_order_metric_or_base(archive, key, value, message):
    from landcue.archive import manifest as module

    stored = json.loads((archive / "manifest.json").read_text())
    stored = {**stored, key: value}
    del stored["checksum"]
    stored["checksum"] = module.checksum_of(stored)
    (archive / "manifest.json").write_text(json.dumps(stored))
    with pytest.raises(ArchiveError, match=message):
        ArchiveFolder.open(archive)


def test_text_of_a_manifest_is_read_back(tools):
    manifest = Manifest.of(tools.PixelEncoder(), {"ä": Source.at(Path("/x"))}, {"name": "ü"})
    from landcue.archive.manifest import parse_manifest

    assert parse_manifest(manifest_text(manifest), Path("copy")) == manifest
