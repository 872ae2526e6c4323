"""Readers: folders, label tables, the UC Merced layout, and what is wrong with them."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from landcue.data.datasets import detect_source, load_dataset
from landcue.data.datasets.label_sheets import LABELS
from landcue.data.images import SUFFIXES
from landcue.data.imageset import label_matrix
from landcue.data.label_table import read_label_table
from landcue.data.sources import open_source
from landcue.errors import DataError, UsageError
from landcue.types import Bounds


def image(path, color=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), color, np.uint8)).save(path)
    return path


def ucmerced(root, rows=None, suffix=".png"):
    """A tiny copy of the published layout: two classes of three images."""
    table = ["\t".join(["IMAGE\\LABEL", *LABELS])]
    for name in ("beach", "river"):
        for i in range(3):
            image(root / "UCMerced_LandUse" / "Images" / name / f"{name}{i:02}{suffix}", i)
            flags = ["0"] * 17
            flags[LABELS.index("sand" if name == "beach" else "water")] = "1"
            flags[LABELS.index("trees")] = "1" if i == 2 else ""
            table.append("\t".join([f"{name}{i:02}", *flags]))
    (root / "multilabel").mkdir()
    text = "\n".join(table if rows is None else rows(table)) + "\n"
    (root / "multilabel" / "LandUse_Multilabeled.txt").write_text(text)
    return root


def test_ucmerced_layout(tmp_path):
    images = load_dataset("ucmerced", ucmerced(tmp_path))
    assert [r.id for r in images.records[:2]] == ["beach00", "beach01"]
    assert images.records[2].labels == ("sand", "trees")
    assert images.records[5].group == "river"
    assert images.label_names == LABELS
    assert images.label_matrix().sum() == 8
    assert images.problems == ()
    assert detect_source(tmp_path).name == "ucmerced"


def test_ucmerced_reports_what_does_not_fit(tmp_path):
    def drop_and_add(table):
        return [*table[:-1], "\t".join(["ghost00", "1", *["0"] * 16])]

    root = ucmerced(tmp_path, drop_and_add)
    images = root / "UCMerced_LandUse" / "Images"
    (images / "beach" / "._beach00.png").write_bytes(b"x")
    (images / "beach" / "Thumbs.db").write_bytes(b"x")
    got = load_dataset("ucmerced", root)
    assert len(got) == 5
    found = sorted(str(problem) for problem in got.problems)
    assert len(found) == 3
    assert "ghost00" in found[2] or "ghost00" in found[0]
    assert any("river02.png: image without a label row" in text for text in found)
    assert any("Thumbs.db: not an image file" in text for text in found)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda t: [t[0].replace("sand", "sands"), *t[1:]], "sand, sands"),
        (lambda t: [*t, t[1]], "a second row for 'beach00'"),
        (lambda t: [t[0], t[1].replace("\t1", "\t7"), *t[2:]], "'7' is not 0, 1 or blank"),
    ],
    ids=["header", "twice", "value"],
)
def test_ucmerced_broken_table(tmp_path, damage, word):
    with pytest.raises(DataError) as caught:
        load_dataset("ucmerced", ucmerced(tmp_path, damage))
    assert word in str(caught.value)
    assert "LandUse_Multilabeled.txt" in str(caught.value)


def test_ucmerced_two_files_of_one_id(tmp_path):
    root = ucmerced(tmp_path)
    image(root / "UCMerced_LandUse" / "Images" / "beach" / "beach00.tif")
    got = load_dataset("ucmerced", root)
    assert [record.path.name for record in got.records if record.id == "beach00"] == ["beach00.png"]
    (twin,) = (str(p) for p in got.problems if "beach00.tif" in str(p))
    assert "left out" in twin
    assert "beach00.png has the same id 'beach00'" in twin


def test_ucmerced_missing_pieces(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        load_dataset("ucmerced", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no UCMerced_LandUse/Images"):
        load_dataset("ucmerced", tmp_path)
    (ucmerced(tmp_path) / "multilabel" / "LandUse_Multilabeled.txt").unlink()
    with pytest.raises(DataError, match=r"LandUse_Multilabeled\.txt"):
        load_dataset("ucmerced", tmp_path)


def test_unknown_dataset_suggests(tmp_path):
    with pytest.raises(UsageError, match="did you mean 'ucmerced'"):
        load_dataset("uc_merced", tmp_path)


def test_folder_per_class(tmp_path):
    image(tmp_path / "forest" / "b.png")
    image(tmp_path / "beach" / "a.tif")
    image(tmp_path / "loose.jpg")
    image(tmp_path / ".hidden" / "c.png")
    got = open_source(tmp_path, folder_labels=True)
    assert [(r.id, r.labels, r.group) for r in got.records] == [
        ("beach/a.tif", ("beach",), "beach"),
        ("forest/b.png", ("forest",), "forest"),
        ("loose.jpg", None, None),
    ]
    assert got.label_names == ("beach", "forest")
    # A folder of a single image need not be a class: only the user can know.
    plain = open_source(tmp_path)
    assert {(r.labels, r.group) for r in plain.records} == {
        (None, "beach"), (None, "forest"), (None, None),
    }  # fmt: skip
    assert plain.label_names == ()
    image(tmp_path / "forest" / "c.png")
    assert open_source(tmp_path).label_names == ()
    image(tmp_path / "beach" / "c.png")
    assert open_source(tmp_path).label_names == ("beach", "forest")
    assert open_source(tmp_path, folder_labels=False).label_names == ()
    assert open_source(tmp_path / "beach").label_names == ()


def test_what_is_left_out_of_a_folder_is_counted(tmp_path):
    root = tmp_path / "root"
    image(root / "a.png")
    for name in ("__MACOSX", "@eaDir", ".thumbnails", "sub/@eaDir"):
        image(root / name / "b.png")
    image(tmp_path / "elsewhere" / "c.png")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("x.jxl", "y.jxl", "z.nc", "notes.txt", "._w.jxl"):
        (root / name).write_bytes(b"")
    got = open_source(root)
    assert [r.id for r in got.records] == ["a.png"]
    assert sorted(problem.what for problem in got.problems) == [
        "left out: 1 .nc files, which are not read",
        "left out: 1 folders '.thumbnails' of other programs",
        "left out: 1 folders '__MACOSX' of other programs",
        "left out: 1 links to folders, which are not followed",
        "left out: 2 .jxl files, which are not read",
        "left out: 2 folders '@eaDir' of other programs",
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_programs(tmp_path, separator):
    for name in ("a.png", "b.png", "c.png", "d.png"):
        image(tmp_path / name)
    lines = [
        ["Path", "Group", "West", "SOUTH", "East", "North", "Water", "comment"],
        ["a.png", "g", "1", "2", "3", "4", "1", "seen by me"],
        ["b.png", "", "190", "2", "200", "4", "0", "cloudy"],
        ["c.png", "", "1", "99", "3", "100", "1", ""],
        ["d.png", "", "", "", "", "", "maybe", ""],
        ["a.png", "", "", "", "", "", "1", ""],
        ["e.png", "", "", "", "", "", "1", ""],
        ["f.png"],
    ]
    (tmp_path / "t.csv").write_text("\n".join(separator.join(line) for line in lines))
    got = open_source(tmp_path / "t.csv")
    assert [(r.id, r.labels, r.group) for r in got.records] == [
        ("a.png", ("Water",), "g"), ("b.png", (), None), ("c.png", ("Water",), None),
    ]  # fmt: skip
    assert got.records[1].bbox == Bounds(-170, 2, -160, 4)
    assert got.records[2].bbox is None
    said = [str(problem) for problem in got.problems]
    expected = [
        ("t.csv", "ignored: columns comment"),
        ("line 4", "latitude 100, not -90..90 (are longitude and latitude swapped?); indexed"),
        ("line 5", "'maybe' is not 0, 1 or blank"),
        ("line 6", "stands in line 2 too"),
        ("line 8", "1 cells, the header has 8"),
        ("line 7", "no image 'e.png'"),
    ]
    assert len(said) == len(expected)
    for text, (where, what) in zip(said, expected, strict=True):
        assert where in text
        assert what in text
    with pytest.raises(
        DataError, match="line 2, column comment"
    ):  # a table for training is not guessed at
        read_label_table(tmp_path / "t.csv")


def test_folder_with_a_label_file(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        image(tmp_path / "images" / name)
    table = tmp_path / "mine.csv"
    table.write_text("path,labels\na.png,water;ship\nb.png,\nghost.png,water\n")
    got = open_source(tmp_path / "images", table)
    assert [(r.id, r.labels) for r in got.records] == [
        ("a.png", ("water", "ship")), ("b.png", ()), ("c.png", None),
    ]  # fmt: skip
    assert [str(p) for p in got.problems] == [
        "c.png: no row in mine.csv; kept without labels",
        "mine.csv line 4: no image 'ghost.png'",
    ]


def test_many_images_without_a_row_are_one_line(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.png").touch()
    table = tmp_path / "mine.csv"
    table.write_text("path,labels\n" + "".join(f"x{i}.png,a\n" for i in range(1100)) + "11.png,a\n")
    got = open_source(tmp_path, table)
    assert [str(p) for p in got.problems] == [
        "mine.csv: no row for 11 images, kept without labels: 00.png, 01.png, 02.png …",
        "mine.csv: no image for 1,100 rows: 'x0.png', 'x1.png', 'x2.png' …",
    ]
    assert sum(record.labels is not None for record in got.records) == 1


def test_label_table_as_source(tmp_path):
    image(tmp_path / "x" / "a.png")
    image(tmp_path / "x" / "b.png")
    (tmp_path / "labels.csv").write_text(
        "id,path,group,time,water,trees\n"
        "A,x/a.png,lake,2024-05-01T12:00:00+02:00,1,\n"
        "B,x/b.png,,2024-05-02,0,1\n"
        "C,x/c.png,,,0,1\n"
    )
    got = open_source(tmp_path)
    assert [(r.id, r.labels, r.group) for r in got.records] == [
        ("A", ("water",), "lake"), ("B", ("trees",), None),
    ]  # fmt: skip
    assert got.records[0].datetime == datetime(2024, 5, 1, 10, tzinfo=UTC)
    assert [str(p) for p in got.problems] == ["labels.csv line 4: no image 'x/c.png'"]
    assert got.label_matrix().tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("file,labels\na.png,x\n", "no 'path' column"),
        ("path\na.png\n", "no label column"),
        ("path,labels,water\na.png,x,1\n", "also water"),
        ("path,water\na.png,yes\n", "line 2, column water: 'yes' is not 0, 1 or blank"),
        ("path,labels\na.png,x,y\n", "line 2: 3 cells, the header has 2"),
        ("path,labels\n,x\n", "line 2: no path"),
        ("path,labels\na.png,x\na.png,y\n", "line 3: 'a.png' stands in line 2 too"),
        ("path,labels,time\na.png,x,soon\n", "'soon' is not an ISO 8601 time"),
        ("path,water,water\na.png,1,1\n", "two columns of one name"),
    ],
)
def test_broken_label_tables_name_file_and_line(tmp_path, text, word):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_label_table(file)
    assert word in str(caught.value)
    assert str(file) in str(caught.value)


def test_binary_label_table(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes(b"path,labels\n\xff\xfe\x00")
    with pytest.raises(DataError, match="not a UTF-8 table"):
        read_label_table(file)


def test_empty_and_missing_sources(tmp_path):
    with pytest.raises(DataError, match="holds no usable image") as error:
        open_source(tmp_path)
    assert all(
        suffix in str(error.value) for suffix in SUFFIXES - {".jpeg", ".tiff", ".j2k", ".heif"}
    )
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "gone")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match=r"only files of kind '\.txt'"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="neither a folder nor"):
        open_source(tmp_path / "notes.txt")


def test_label_matrix_refuses_unknown_labels():
    with pytest.raises(DataError, match="'lake'"):
        label_matrix([("lake",)], ("water",))


def test_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    image(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(20):  # its path is longer than the system allows
        os.mkdir("d" * 220)
        os.chdir("d" * 220)
    got = open_source(tmp_path)
    assert [record.id for record in got.records] == ["a.png"]
    (folder,) = got.unread
    (problem,) = got.problems
    assert problem.where == folder.relative_to(tmp_path).as_posix()
    assert problem.what == (
        "this folder cannot be read (File name too long); records of its images stay"
    )
