"""File names of any bytes: indexed, found, shown and read again."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import landcue
from landcue.archive.archive import ArchiveFolder
from landcue.archive.export import write_geojson, write_geoparquet, write_stac
from landcue.archive.ingest import ingest
from landcue.archive.plan import SourceImages
from landcue.cli.main import app
from landcue.data.names import clean_id, find_stored, printable, stored_name
from landcue.data.sources import open_source
from landcue.report.grid import draw_grid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux alone")

NAMES = [
    b"plain",
    b"with space", b"-k", b"--help", b"a:b", b"a\\b", b"quo'te\"", b"50%", b"{x}", b"*?[a]",
    b"new\nline", b"tab\t", b"\x1b[31mred\x1b[0m", b"bell\x07", b"\x7f", b"\r", b"null\\x00", b"~",
    "é".encode(), unicodedata.normalize("NFD", "ö").encode(), "日本".encode(), "🛰️".encode(),
    "\u202egnp".encode(), "\u200b".encode(), "\u2028".encode(), "\ufeff".encode(),
    b"latin\xe9", b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"x" * 250,
    b"caf\xe9 \n\x1b", b"\\xe9", b"=cmd()", b"$HOME", b"#", b"con", b"100\xb0",
]  # fmt: skip


def random_names(n):
    rng = np.random.default_rng(0)
    for _ in range(n):
        name = bytes(rng.integers(1, 256, rng.integers(1, 40)).astype(np.uint8))
        yield name.replace(b"/", b"_").lstrip(b".") or b"_"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tools):
    root = tmp_path_factory.mktemp("names") / "of \udce9 every kind\n"
    root.mkdir()
    rng = np.random.default_rng(1)
    for name in dict.fromkeys([*NAMES, *random_names(100)]):
        image = Image.fromarray(rng.integers(0, 255, (16, 16, 3)).astype(np.uint8))
        with open(os.fsencode(root) + b"/" + name + b".png", "wb") as file:
            image.save(file, "PNG")
    archive = root.parent / "archive"
    images = open_source(root)
    report = ingest(SourceImages(images.records, root), archive, tools.PixelEncoder())
    return root, archive, images, report


def test_every_name_is_indexed_or_named(made, tools):
    root, archive, images, report = made
    files = list(root.iterdir())
    assert report.skipped == ()
    assert report.added + len(images.problems) == len(files)
    assert all("has the same id" in problem.what for problem in images.problems)
    opened = ArchiveFolder.open(archive)
    ids = opened.columns().ids
    assert all(id_.isprintable() for id_ in ids)
    assert {opened.file(id_) for id_ in ids} == {record.path for record in images.records}
    again = ingest(SourceImages(open_source(root).records, root), archive, tools.PixelEncoder())
    assert (again.unchanged, again.added, again.vanished) == (len(ids), 0, 0)


def test_names_are_searched_drawn_and_exported(made, tmp_path):
    _, archive, images, _ = made
    opened = landcue.open(archive)
    for record in images.records[::7]:
        result = opened.search(record.id, k=3)
        json.dumps(result.to_json()).encode()
    result.grid(tmp_path / "grid.png")
    assert result._repr_html_()
    write_geojson(ArchiveFolder.open(archive), tmp_path / "a.geojson")
    write_geoparquet(ArchiveFolder.open(archive), tmp_path / "a.parquet")
    assert opened.search(unicodedata.normalize("NFC", "ö.png"), k=1).query == "ö.png"
    found = opened.search(unicodedata.normalize("NFD", "é.png"), k=200)
    assert "é.png" not in found.ids


def test_terminal_gets_no_escapes(made, monkeypatch):
    _, archive, images, _ = made
    red = next(record.id for record in images.records if "[31m" in record.id)
    for args in (
        ["search", str(archive), red, "-k", "200"],
        ["search", str(archive), "gone\x1b[31m\n"],
        ["index", "nowhere\x1b[31m\udce9", str(archive)],
        ["archive", "info", str(archive)],
        ["archive", "verify", str(archive)],
    ):
        result = CliRunner().invoke(app, args)
        assert not isinstance(result.exception, UnicodeError | ValueError | TypeError)
        lines = (result.output + (result.stderr or "")).splitlines()
        assert all(line.isprintable() for line in lines), args


def test_an_archive_whose_own_name_is_not_utf8_is_refused(made, tmp_path):
    root, *_ = made
    result = CliRunner().invoke(app, ["index", str(root), str(tmp_path / "arch\udce9")])
    assert result.exit_code == 1
    assert "the name is not UTF-8" in result.stderr.splitlines()[-1]
    assert "choose another folder" in result.stderr
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {".lock"}


def test_tables_find_composed_and_decomposed_names(tmp_path):
    composed, decomposed = "é.png", unicodedata.normalize("NFD", "è.png")
    for name in (composed, decomposed):
        Image.new("RGB", (8, 8), (200, 3, 3)).save(tmp_path / name)
    swapped = [unicodedata.normalize("NFD", composed), unicodedata.normalize("NFC", decomposed)]
    (tmp_path / "t.csv").write_text("path,labels\n" + "".join(f"{n},water\n" for n in swapped))
    images = open_source(tmp_path / "t.csv")
    assert images.problems == ()
    assert {record.path.name for record in images.records} == {composed, decomposed}
    labeled = open_source(tmp_path, tmp_path / "t.csv")
    assert labeled.problems == ()
    assert [record.labels for record in labeled.records] == [("water",), ("water",)]


def test_a_query_is_found_composed_or_decomposed(tmp_path):
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8), (200, 3, 3)).save(tmp_path / "data" / "e\u0301.png")
    landcue.index(tmp_path / "data", tmp_path / "archive")
    with landcue.open(tmp_path / "archive") as archive:
        for query in ("\u00e9.png", "e\u0301.png"):
            (hit,) = archive.search(str(tmp_path / "data" / query), k=1)
            assert (hit.id, hit.distance < 1e-6) == ("\u00e9.png", True)


def test_pipes_and_dead_links_are_named(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead\udce9.png").symlink_to("/nowhere\udce9")
    images = open_source(tmp_path)
    assert [record.id for record in images.records] == ["a.png"]
    assert {problem.where for problem in images.problems} == {"pipe.png", "dead\\xe9.png"}


def test_query_file_of_any_name_is_drawn_and_found_again_through_stac(made, tmp_path):
    root, archive, images, _ = made
    path = root / "latin\udce9.png"
    landcue.open(archive, model=None).search("latin\\xe9.png", k=3).grid(tmp_path / "g.png")
    draw_grid(tmp_path / "h.png", (), {}, query_title=str(path), query_image=None)
    write_stac(
        ArchiveFolder.open(archive), tmp_path / "s.json", time=datetime(2024, 1, 1, tzinfo=UTC)
    )
    again = open_source(tmp_path / "s.json")
    lost = {record.id for record in images.records} - {record.id for record in again.records}
    assert len(again.records) > 100
    assert all("?" in id_ or "#" in id_ or "%" in id_ or "\\" in id_ for id_ in lost)
    assert len(again.problems) == len(lost)


@pytest.mark.parametrize("name", NAMES)
def test_names_round_trip(tmp_path, name):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    path.write_bytes(b"")
    stored = stored_name(path.name)
    stored.encode()
    assert find_stored(tmp_path, stored) == path
    clean = clean_id(path.name)
    assert clean.isprintable()
    assert printable(clean) == clean == clean_id(clean)
