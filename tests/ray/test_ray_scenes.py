"""Chips of scenes through Ray: as without."""

from __future__ import annotations

import pytest

import scene_files as files
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes

pytestmark = pytest.mark.ray


OPTIONS = SceneOptions(Length(32, meters=False), side=32)
CHIPS = 24  # of each scene


def index(cut, root, archive, encoder, engine=None):
    return ingest(
        SourceImages(cut.records, root, OPTIONS, unread=cut.unread),
        archive,
        encoder,
        options=EncodingOptions(batch_size=2, commit_every=16),
        engine=engine,
    )


def test_chips_equal_plain_ingest(work, cluster, tmp_path):
    root = tmp_path / "scenes"
    for i in range(4):
        values = files.noise(i, 3, 128, 192)
        if i == 2:
            values[:, :, :64] = 0  # without data
        files.write_scene(root / f"{i}.tif", values, nodata=0)
    cut = cut_scenes(open_source(root), OPTIONS)
    assert len(cut.records) == 4 * CHIPS
    (root / "3.tif").write_bytes(b"no scene any more")
    encoder = work.SlowEncoder(0.05)
    plain = index(cut, root, tmp_path / "plain", work.tools.PixelEncoder())
    engine = work.engine_for(cluster.address, encoder)
    report = index(cut, root, tmp_path / "a", encoder, engine)
    assert report.added == plain.added == 3 * CHIPS - 8
    assert report.empty == plain.empty == 8
    assert work.skipped(report) == work.skipped(plain)
    assert len(report.skipped) >= 1
    assert work.state(tmp_path / "a") == work.state(tmp_path / "plain")
    assert encoder.encoded == 0
