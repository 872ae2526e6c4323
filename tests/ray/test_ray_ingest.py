"""An archive made with Ray equals one made without, whatever dies on the way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from landcue.archive.ray_encoding import RayEngine
from landcue.errors import ArchiveError, ModelError, UsageError

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def world(tmp_path_factory, work):
    """A source, and what the plain ingest makes of it."""
    root = tmp_path_factory.mktemp("ray")
    source = work.write_source(root / "source")
    report = work.run(source, root / "plain", work.tools.PixelEncoder())
    return source, work.state(root / "plain"), work.skipped(report)


def test_equals_plain_ingest(world, work, cluster, tmp_path):
    source, plain, skipped = world
    encoder = work.tools.PixelEncoder()
    engine = work.engine_for(cluster.address, encoder)
    seen = []
    report = work.run(
        source, tmp_path / "a", encoder, engine, progress=lambda *now: seen.append(now)
    )
    assert work.state(tmp_path / "a") == plain
    assert work.skipped(report) == skipped
    assert len(skipped) == 2
    assert report.added == 198
    assert encoder.encoded == 0  # nothing was encoded here
    assert seen[-1] == (200, 200)
    assert [now[0] for now in seen] == sorted({now[0] for now in seen})
    # All images are accounted for once.
    facts = engine.to_json()
    assert sum(node["images"] for node in facts["nodes"]) == 200
    assert all(node["images_per_second"] > 0 for node in facts["nodes"])
    again = work.run(source, tmp_path / "a", encoder, engine)
    assert (again.added, again.unchanged) == (0, 198)


def test_killed_worker(world, work, cluster, tmp_path):
    source, plain, skipped = world
    encoder = work.SlowEncoder()
    engine = work.engine_for(cluster.address, encoder)
    killed = []

    def kill(done, total):
        if not killed and done >= 40 and engine.nodes:
            killed.append(next(iter(engine.nodes.values())).workers[0])
            os.kill(killed[0], signal.SIGKILL)

    report = work.run(source, tmp_path / "a", encoder, engine, progress=kill)
    assert killed
    assert work.state(tmp_path / "a") == plain
    assert work.skipped(report) == skipped


def test_lost_node(world, work, cluster, tmp_path):
    source, plain, skipped = world
    extra = cluster.add_node(**work.NODE)
    cluster.wait_for_nodes()
    encoder = work.SlowEncoder(pause=0.8)
    engine = work.engine_for(cluster.address, encoder, workers=3)
    lost = []

    def lose(done, total):
        if not lost and extra.node_id in engine.nodes:
            lost.append(done)
            cluster.remove_node(extra, allow_graceful=False)

    report = work.run(source, tmp_path / "a", encoder, engine, progress=lose)
    assert lost
    assert lost[0] < 200
    assert work.state(tmp_path / "a") == plain
    assert work.skipped(report) == skipped


def test_killed_driver_goes_on(world, work, cluster, tmp_path):
    source, plain, skipped = world
    script, reported = Path(work.__file__), tmp_path / "reported"
    with subprocess.Popen(
        [sys.executable, script, cluster.address, source, tmp_path / "a", reported]
    ) as driver:
        while not reported.exists() or int(reported.read_text() or 0) < 60:
            assert driver.poll() is None, "the driver ended by itself"
            time.sleep(0.01)
        driver.kill()
    encoder = work.tools.PixelEncoder()
    report = work.run(source, tmp_path / "a", encoder, work.engine_for(cluster.address, encoder))
    assert 0 < report.unchanged < 198
    assert report.added == 198 - report.unchanged
    assert work.state(tmp_path / "a") == plain
    assert work.skipped(report) == skipped


def test_image_that_kills_every_worker(work, cluster, tmp_path):
    from PIL import Image

    source = work.write_source(tmp_path / "source", 160)
    Image.new("RGB", (64, 64), (255, 255, 255)).save(source / "150.png")
    encoder = work.DeadlyEncoder()
    engine = work.engine_for(cluster.address, encoder)
    with pytest.raises(ArchiveError, match=r"failed repeatedly on the images 1\d\d.png to") as e:
        work.run(source, tmp_path / "a", encoder, engine)
    assert "\n" not in str(e.value)
    (source / "150.png").unlink()
    (source / "100.png").unlink()
    report = work.run(source, tmp_path / "a", encoder)
    assert report.unchanged >= 80  # what was committed before
    plain = work.run(source, tmp_path / "plain", encoder)
    assert report.records == plain.records == 157
    assert work.state(tmp_path / "a") == work.state(tmp_path / "plain")


def test_failing_encoder(work, cluster, tmp_path):
    """No thread of Ray Data is left that could use Ray after its shutdown and end this process."""
    source = work.write_source(tmp_path / "source", 120)
    encoder, left = work.FaultyEncoder(), set()
    engine = work.engine_for(cluster.address, encoder)

    @contextlib.contextmanager
    def watched(tasks, scenes):
        try:
            with engine(tasks, scenes) as results:
                yield results
        finally:
            left.update(thread.name for thread in threading.enumerate())

    with (
        engine.connection(),
        pytest.raises(ArchiveError, match=r"a Ray worker failed \(RuntimeError"),
    ):
        work.run(source, tmp_path / "a", encoder, watched)
    assert "MainThread" in left
    assert "iter_threaded" not in left


def test_worker_with_another_model(work, cluster, tmp_path):
    source = work.write_source(tmp_path / "source", 120)
    encoder, other = work.tools.PixelEncoder(), work.tools.PixelEncoder(seed=1)
    engine = RayEngine(cluster.address, lambda _: lambda threads: other, encoder.fingerprint)
    with pytest.raises(ModelError, match=f"loaded model {other.fingerprint[:12]}"):
        work.run(source, tmp_path / "a", encoder, engine)


def test_too_many_workers(work, cluster, tmp_path):
    source = work.write_source(tmp_path / "source", 120)
    encoder = work.tools.PixelEncoder()
    engine = work.engine_for(cluster.address, encoder, workers=99)
    with pytest.raises(UsageError, match="has 2 cores, too few for 99 workers"):
        work.run(source, tmp_path / "a", encoder, engine)
    engine = work.engine_for(cluster.address, encoder, device="cuda")
    with pytest.raises(UsageError, match="has 0 GPUs"):
        work.run(source, tmp_path / "a", encoder, engine)
