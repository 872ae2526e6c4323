"""An object store as the source of an ingest with Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

import scene_files as files
from landcue.archive.encoding import EncodingOptions
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.data.objects import ObjectStore
from landcue.data.scenes import Length, SceneOptions
from landcue.data.sources import open_source
from landcue.data.sources.scenes import cut_scenes
from landcue.errors import StoreError, UsageError

pytestmark = [pytest.mark.ray, pytest.mark.s3]

SOURCE = Path("s3://bucket/images")
SCENES = Path("s3://bucket/scenes")
OPTIONS = SceneOptions(Length(32, meters=False), side=32)


@pytest.fixture(scope="module")
def work():
    import ray_work

    return ray_work


@pytest.fixture(scope="module")
def cluster(work):
    """A cluster whose head takes no work."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, connect=False, head_node_args={**work.NODE, "num_cpus": 0})
    yield made
    made.shutdown()


@pytest.fixture
def nodes(work, cluster):
    """Start nodes with the environment of that moment, and other variables; give the address."""
    made = []

    def start(n, **env):
        made.extend(cluster.add_node(**work.NODE, env_vars=env) for _ in range(n))
        cluster.wait_for_nodes()
        return cluster.address

    yield start
    for node in made:
        cluster.remove_node(node, allow_graceful=False)


@pytest.fixture
def folder(work, store, tmp_path):
    work.write_source(tmp_path / "images", 40)
    target = ObjectStore(SOURCE)
    for path in sorted((tmp_path / "images").iterdir()):
        target.upload(path, f"bucket/images/{path.name}")
    return tmp_path / "images"


def rows(work, archive):
    return [
        {name: value for name, value in row.items() if name not in ("mtime_ns", "metadata_check")}
        for row in work.state(archive)[1]
    ]


def test_source_equals_folder(work, folder, nodes, tmp_path):
    address = nodes(2)
    encoder = work.SlowEncoder()
    engine = work.engine_for(address, encoder)
    plain = work.run(folder, tmp_path / "plain", work.tools.PixelEncoder())
    report = work.run(SOURCE, tmp_path / "a", encoder, engine)
    assert encoder.encoded == 0
    assert (report.added, work.skipped(report)) == (plain.added, work.skipped(plain))
    assert report.added == 39
    assert rows(work, tmp_path / "a") == rows(work, tmp_path / "plain")
    assert sum(node.images for node in engine.nodes.values()) == 41
    assert work.run(SOURCE, tmp_path / "a", encoder, engine).unchanged == 39
    check_scenes(work, address, tmp_path)


def check_scenes(work, address, tmp_path):
    """Workers read the ranges of their chips themselves."""
    scenes, target = tmp_path / "scenes", ObjectStore(SOURCE)
    for name in ("a.tif", "b.tif", "gone.tif"):
        files.write_scene(scenes / name, files.noise(len(name), 3, 128, 192))
        target.upload(scenes / name, f"bucket/scenes/{name}")
    encoder = work.SlowEncoder(0.05)
    engine = work.engine_for(address, encoder)
    cuts = [cut_scenes(open_source(root), OPTIONS) for root in (SCENES, scenes)]
    target.delete("bucket/scenes/gone.tif")
    (scenes / "gone.tif").unlink()
    reports = [
        ingest(
            SourceImages(cut.records, cut.root, OPTIONS),
            tmp_path / name,
            encoder,
            options=EncodingOptions(batch_size=work.BATCH),
            engine=on,
        )
        for cut, name, on in zip(cuts, ("far", "near"), (engine, None), strict=True)
    ]
    assert [report.added for report in reports] == [48, 48]
    assert {(p.where, p.what[:16]) for p in reports[0].skipped} == {
        ("gone.tif", "there is nothing")
    }
    far, near = (
        [{k: v for k, v in row.items() if k not in ("content", "check")} for row in rows(work, a)]
        for a in (tmp_path / "far", tmp_path / "near")
    )
    assert far == near


@pytest.mark.parametrize(
    ("name", "value", "kind", "said"),
    [
        ("AWS_ACCESS_KEY_ID", "", UsageError, "no credentials for s3://bucket"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1", StoreError, "127.0.0.1:1 cannot be reached"),
    ],
)
def test_node_that_cannot_ask(work, folder, nodes, tmp_path, name, value, kind, said):
    """The store answers here, but not there."""
    address = nodes(1, **{name: value})
    encoder = work.SlowEncoder()
    with pytest.raises(kind, match=rf"node \S+: .*{said}"):
        work.run(SOURCE, tmp_path / "a", encoder, work.engine_for(address, encoder))
    assert not (tmp_path / "a" / "manifest.json").exists()
