"""``landcue index --ray`` as a person uses it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

import commands
from ports import free_port

pytestmark = pytest.mark.ray


def landcue(*args, env=None):
    return subprocess.run(
        [sys.executable, "-m", "landcue.cli.main", *map(str, args)],
        capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", **(env or {})},
    )  # fmt: skip


def error_line(done, status):
    assert done.returncode == status, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def source(tmp_path_factory, work):
    return work.write_source(tmp_path_factory.mktemp("images"), 40)


def test_local_equals_plain(source, work, tmp_path):
    plain = commands.landcue("index", source, tmp_path / "plain", "--json")
    assert plain.returncode == 0, plain.stderr
    done = landcue(
        "index", source, tmp_path / "a", "--ray", "local", "--ray-workers", "2",
        "--batch", "16", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report, expected = json.loads(done.stdout), json.loads(plain.stdout)
    assert report["added"] == expected["added"] == 39
    assert report["skipped"] == expected["skipped"]
    assert report["ray"]["workers"] == 2
    assert sum(node["images"] for node in report["ray"]["nodes"]) == 41
    assert "images, " in done.stderr
    rows, same = (work.state(tmp_path / name)[1] for name in ("a", "plain"))
    assert [(row["id"], row["content"]) for row in rows] == [
        (row["id"], row["content"]) for row in same
    ]
    # Batches of other images may change the last bits.
    for row, other in zip(rows, same, strict=True):
        assert row["embedding"] == pytest.approx(other["embedding"], abs=1e-5)


def test_unreachable_address(source, tmp_path):
    port = free_port()
    done = commands.landcue("index", source, tmp_path / "a", "--ray", f"127.0.0.1:{port}")
    assert f"--ray 127.0.0.1:{port}: no Ray cluster answers" in error_line(done, 2)
    line = commands.error_line(2, "index", source, tmp_path / "a", "--ray", "ray://somewhere")
    assert "use local, auto, or the head's host:port" in line
    assert not (tmp_path / "a" / "manifest.json").exists()


def test_something_else_at_the_address(source, tmp_path):
    """Something listens there, but it is no Ray."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = commands.landcue("index", source, tmp_path / "a", "--ray", f"127.0.0.1:{port}")
    assert f"--ray 127.0.0.1:{port}: the server there is not a Ray" in error_line(done, 2)


def test_without_ray(source, tmp_path):
    (tmp_path / "ray.py").write_text("raise ModuleNotFoundError(\"No module named 'ray'\")")
    done = landcue(
        "index", source, tmp_path / "a", "--ray", "local", env={"PYTHONPATH": str(tmp_path)}
    )
    assert "pip install 'landcue[ray]'" in error_line(done, 2)


def test_workers_without_ray(source, tmp_path):
    line = commands.error_line(2, "index", source, tmp_path / "a", "--ray-workers", "2")
    assert "--ray-workers is for Ray" in line


def test_wrong_version(source, tmp_path, cluster):
    """A driver that says it is of another version, to a real cluster."""
    (tmp_path / "sitecustomize.py").write_text("import ray\nray.__version__ = '2.0.0'\n")
    done = landcue(
        "index", source, tmp_path / "a", "--ray", cluster.address,
        env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    line = error_line(done, 2)
    assert "install the same versions on all machines" in line
    assert "this machine 2.0.0" in line


def test_help_is_quick():
    """Neither the package nor its help loads Ray."""
    code = "import sys, landcue.cli.main; sys.exit('ray' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 0
    assert "--ray-workers" in commands.landcue("index", "--help").stdout
