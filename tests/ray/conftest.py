"""A Ray cluster of two nodes on this machine, and what tests put through it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

HERE = Path(__file__).parent


def load(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def work():
    """The encoders, sources and runs of ``ray_work.py``."""
    return load(HERE / "ray_work.py")


@pytest.fixture(scope="session")
def cluster(work):
    """Two nodes with one core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, connect=False, head_node_args=work.NODE)
    made.add_node(**work.NODE)
    made.wait_for_nodes()
    yield made
    made.shutdown()
