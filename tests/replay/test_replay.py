"""Today's answers are those of the recording: see scripts/replay.py."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "scripts" / "replay.py"
RECORDING = "recording.npz"


@pytest.fixture(scope="module")
def replay():
    spec = importlib.util.spec_from_file_location("replay", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["replay"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["replay"]


@pytest.mark.parametrize("room", ["metrics", "codes", "losses", "search"])
def test_answers_are_those_recorded(replay, room, tmp_path):
    """Ids, orders and distances of codes are equal; other numbers differ by less than 1e-6."""
    if room == "losses":
        pytest.importorskip("pytorch_metric_learning")
    if room == "search":
        pytest.importorskip("faiss")
    archive = shutil.copytree(HERE / "archive", tmp_path / "archive")
    with np.load(HERE / RECORDING) as file:
        recorded = {name: file[name] for name in file.files if name.startswith(f"{room}: ")}
    assert len(recorded) > 100
    assert replay.differences(recorded, replay.answers(archive, room)) == []


def test_a_difference_is_named(replay):
    recorded = {"a": np.array([1.0, 2.0]), "b": np.array([1, 2]), "c": np.array([0])}
    assert replay.differences(recorded, {"a": [1.0, 2.0 + 1e-8], "b": [1, 2], "c": [0]}) == []
    lines = replay.differences(recorded, {"a": [1.0, 2.1], "b": [2, 1]})
    assert lines == ["a: differs by up to 0.1", "b: differs in 2 places", "c: no answer"]
