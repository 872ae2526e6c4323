"""Nodes whose memory is used up: Ray itself ends their workers."""

from __future__ import annotations

import pytest

from landcue.errors import ArchiveError

pytestmark = pytest.mark.ray

# Ray's limit, below what the machine uses anyway.
STARVED = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "50"}


@pytest.fixture
def starved(work):
    """A cluster whose only node has no memory for workers."""
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, connect=False, head_node_args={**work.NODE, "env_vars": STARVED}
    )
    made.wait_for_nodes()
    yield made
    made.shutdown()


def test_node_without_memory(work, starved, tmp_path):
    source = work.write_source(tmp_path / "source", 60)
    work.run(source, tmp_path / "plain", work.tools.PixelEncoder())
    encoder = work.SlowEncoder(pause=0.6)  # time to see workers die on the other node
    engine = work.engine_for(starved.address, encoder)
    with pytest.raises(ArchiveError, match=r"died before they were ready .*out of memory") as error:
        work.run(source, tmp_path / "a", encoder, engine)
    assert "run the same command again" in str(error.value)
    # A node with memory does the work of both.
    good = starved.add_node(**work.NODE)
    starved.wait_for_nodes()
    said = []
    engine = work.engine_for(starved.address, encoder, say=said.append)
    report = work.run(source, tmp_path / "a", encoder, engine)
    assert list(engine.nodes) == [good.node_id]
    assert report.added == 59
    assert engine.deaths == len(said) >= 1
    assert "its node ran out of memory" in said[0]
    assert work.state(tmp_path / "a") == work.state(tmp_path / "plain")
