"""A Ray cluster of two nodes on this machine, and what tests put through it."""

from __future__ import annotations

import os

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="session")
def work():
    """The encoders, sources and runs of ``ray_work.py``."""
    import ray_work

    return ray_work


@pytest.fixture(scope="package")
def cluster(work):
    """Two nodes with one core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, connect=False, head_node_args=work.NODE)
    made.add_node(**work.NODE)
    made.wait_for_nodes()
    yield made
    made.shutdown()
