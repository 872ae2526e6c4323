from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys

import pytest

from commands import landcue
from landcue.archive.archive import ArchiveFolder
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages

NAMES = [f"{i:02}.png" for i in range(8)]


@pytest.fixture
def archive(tmp_path, tools):
    root = tmp_path / "source"
    records = tools.write_images(root, NAMES)
    ingest(SourceImages(records, root), tmp_path / "archive", tools.PixelEncoder())
    return tmp_path / "archive"


@pytest.fixture
def run(capfd):
    """Run the command, and return what it and its libraries wrote to both streams."""

    def run(*arguments, stdin="", code=0):
        done = landcue("archive", *arguments, stdin=stdin)
        out, error = capfd.readouterr()
        assert done.returncode == code, done.stderr + error
        return done.stdout + out, done.stderr + error

    return run


def test_look_export_and_delete(run, archive, tmp_path):
    facts = json.loads(run("info", archive, "--json")[0])
    assert (facts["records"], facts["dim"], facts["n_bits"], facts["format"]) == (8, 16, 20, 3)
    assert (facts["versions"], facts["unfinished"]) == (1, None)
    out, _ = run("verify", archive)
    assert out == "8 records, 0 problems\n"
    out, _ = run("export", archive, "--geojson", tmp_path / "o.geojson", "--json")
    assert json.loads(out)["records"] == 8
    assert len(json.loads((tmp_path / "o.geojson").read_text())["features"]) == 8
    _, error = run("export", archive, code=2)
    assert error == "error: nothing to write: use --geoparquet, --geojson or --stac FILE\n"
    out, error = run("delete", archive, NAMES[0], code=1)
    assert "would delete 1 record," in out
    assert error == "error: nothing was changed; add --yes to apply the changes\n"
    assert ArchiveFolder.open(archive).count == 8
    out, _ = run("delete", archive, NAMES[0], "--ids", "-", "--yes", stdin=f"{NAMES[1]}\n\n")
    assert "deleted 2 records, 6 remain" in out


def test_verify_and_repair_a_damaged_archive(run, archive):
    """A broken table is a few plain lines, whatever its library does."""
    (data,) = (archive / "records.lance/data").iterdir()
    content = bytearray(data.read_bytes())
    for place in range(100, len(content), 997):
        content[place] ^= 0xFF
    data.write_bytes(content)
    out, error = run("verify", archive, "--json", code=1)
    problems = json.loads(out)["problems"]
    assert problems[0].startswith(f"records.lance/data/{data.name}: is damaged")
    assert error.startswith(f"error: {archive} is damaged; 'landcue archive repair")
    assert error.count("\n") == 1
    out, error = run("repair", archive, "--json", code=1)
    reported = json.loads(out)
    assert (reported["applied"], error) == (
        False,
        "error: nothing was changed; add --yes to apply the changes\n",
    )
    out, error = run("repair", archive, "--yes", "--json")
    done = json.loads(out)
    assert done["applied"]
    assert done["records"] + len(done["dropped"]) + done["lost"] == 8
    assert run("verify", archive)[0] == f"{done['records']} records, 0 problems\n"
    out, _ = run("compact", archive, "--json")
    assert json.loads(out)["after"]["versions"] == 1


def test_import(run, tmp_path, tools):
    tools.write_table(tmp_path / "t.parquet", 9)
    table, archive = tmp_path / "t.parquet", tmp_path / "archive"
    out, error = run("import", table, archive, "--embedding", "embedding")
    assert "9 records of 6 values and 0 bits; 9 added, 0 problems" in out
    assert "were scaled to norm 1" in out
    assert error == ""
    _, error = run("import", table, archive, "--embedding", "nothing", code=2)
    assert error.startswith("error: --embedding: t.parquet has no column 'nothing'")
    _, error = run("reembed", archive, "--model", "builtin", code=1)
    assert "holds imported embeddings" in error
    assert error.count("\n") == 1


def test_sources_on_the_command_line(tmp_path, tools, capfd):
    """Two folders of one name, a table, and a folder that moves."""

    def index(source, *options):
        done = landcue("index", source, tmp_path / "archive", *options, "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        kinds = ("source", "added", "unchanged", "vanished", "records")
        return tuple(report[kind] for kind in kinds), done.stderr

    for place in ("a", "b"):
        tools.write_images(
            tmp_path / place / "tiles", ["x/1.png", "y/2.png"], first_seed=ord(place)
        )
    (tmp_path / "a" / "table.csv").write_text("path\ntiles/x/1.png\n")
    found, said = index(tmp_path / "a" / "tiles")
    assert found == ("tiles", 2, 0, 0, 2)
    assert "folder names are not used as labels; add --folder-labels" in said
    assert index(tmp_path / "b" / "tiles", "--prune")[0] == ("b-tiles", 2, 0, 0, 4)
    assert index(tmp_path / "a" / "table.csv", "--prune")[0] == ("table", 1, 0, 0, 5)
    (tmp_path / "b").rename(tmp_path / "c")
    assert index(tmp_path / "c" / "tiles")[0] == ("b-tiles", 0, 2, 0, 5)
    assert index(tmp_path / "c" / "tiles", "--folder-labels", "--prune")[0][0] == "b-tiles"
    opened = ArchiveFolder.open(tmp_path / "archive")
    assert set(opened.columns().ids) == {
        "x/1.png", "y/2.png", "b-tiles:x/1.png", "b-tiles:y/2.png", "tiles/x/1.png",
    }  # fmt: skip
    assert opened.file("b-tiles:x/1.png") == tmp_path / "c" / "tiles" / "x" / "1.png"
    assert opened.read_records(["b-tiles:x/1.png"])[0]["labels"] == ["x"]
    assert opened.read_records(["x/1.png"])[0]["labels"] is None
    done = landcue("archive", "info", tmp_path / "archive")
    assert f"b-tiles ({tmp_path / 'c' / 'tiles'})" in done.stdout
    done = landcue("index", tmp_path / "a" / "tiles", tmp_path / "archive", "--source-name", "c")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "tiles is the source 'tiles' of this archive already" in last


def _drop_privileges():
    """Take from root, under Linux, what lets it read folders whatever their permissions."""
    if sys.platform == "linux":
        for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no permission bits")
@pytest.mark.parametrize("table", [False, True])
def test_prune_keeps_records_of_folders_that_cannot_be_read(tmp_path, tools, table):
    root, archive = tmp_path / "source", tmp_path / "archive"
    names = [f"{folder}/{i}.png" for folder in "abc" for i in range(2)]
    tools.write_images(root, names)
    source = root
    if table:
        source = root / "t.csv"
        source.write_text("\n".join(("path", *names)))

    def index():
        command = [sys.executable, "-m", "landcue", "index", source, archive, "--prune", "--json"]
        done = subprocess.run(command, capture_output=True, preexec_fn=_drop_privileges)
        return done.stderr.decode(), json.loads(done.stdout)

    assert index()[1]["added"] == 6
    (root / "b").chmod(0o000)
    (root / "c").chmod(0o400)
    if os.access(root / "b", os.R_OK) and sys.platform != "linux":
        pytest.skip("root reads every folder")
    try:
        lines, report = index()
    finally:
        for name in "bc":
            (root / name).chmod(0o755)
    assert (report["records"], report["vanished"], report["unchanged"]) == (6, 0, 2)
    where = [problem["where"] for problem in (*report["problems"], *report["skipped"])]
    assert where == (names[2:] if table else ["b", *names[4:]])
    assert "(Permission denied)" in lines
