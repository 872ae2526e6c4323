"""Audits of folders with planted defects: each is found, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from landcue.audit import Limits, audit
from landcue.audit.counts import count_groups, count_pairs, leaks
from landcue.data.imageset import make_image_set
from landcue.data.sources import open_source
from landcue.errors import DataError, UsageError
from landcue.types import Encoding, Record

N = 8


class TinyEncoder:
    """Gray values on a grid as an embedding: enough to tell scenes apart without a network."""

    fingerprint = "f" * 64
    dim = 64
    n_bits = 0
    label_names = ()

    def prepare(self, image):
        return np.asarray(Image.fromarray(image).convert("L").resize((8, 8))).astype(np.uint8)

    def encode(self, pixels):
        rows = np.stack([p.ravel().astype(np.float64) for p in pixels])
        rows -= rows.mean(axis=1, keepdims=True)
        rows[:, 0] += 1e-3
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        empty = np.empty((len(rows), 0), np.uint8)
        return Encoding(rows.astype(np.float32), empty, 0, empty.astype(np.float32))


def scene(seed, size=128):
    rng = np.random.default_rng(seed)
    total = np.zeros((size, size, 3))
    for cells in (3, 6, 12, 24, 48):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        total += np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)) / cells**0.5
    total -= total.min()
    return (total / total.max() * 255).astype(np.uint8)


def save(folder, name, pixels, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def by_kind(found):
    return {finding.kind: (finding.severity, finding.count) for finding in found.findings()}


def image_set(records, names=("a", "b", "c")):
    return make_image_set("made", Path("/nowhere"), records, names, ())


@pytest.fixture
def clean(tmp_path):
    """Eight different pictures of one class, named so that files-75-25 makes two of them test."""
    for i in range(N):
        save(tmp_path, f"town/town{i}.png", scene(i))
    return tmp_path


def labeled(folder):
    """A folder whose only sub-folder is a class."""
    return open_source(folder, folder_labels=True)


def test_a_clean_folder_has_no_finding(clean):
    found = audit(labeled(clean), split="files-75-25", model=TinyEncoder(), limits=Limits(few=2))
    assert found.findings() == []
    assert found.sizes == {(128, 128): N}
    assert found.kinds == {("RGB", 3): N}
    assert found.leaks["test"] == {"identical": 0, "near": 0, "overlap": 0, "any": 0}


def test_byte_and_reencoded_duplicates_and_their_leak(clean):
    (clean / "town/town7.png").write_bytes((clean / "town/town0.png").read_bytes())
    (clean / "town/town2.png").unlink()
    save(clean, "town/town2.webp", scene(1), lossless=True)
    found = audit(labeled(clean), split="files-75-25", limits=Limits(few=2), model=None)
    ids = [record.id for record in found.images.records]
    assert [([ids[r] for r in g.rows], g.same_bytes) for g in found.identical] == [
        (["town/town0.png", "town/town7.png"], True),
        (["town/town1.png", "town/town2.webp"], False),
    ]
    assert found.counts["identical"].within == {"train": 1}
    assert found.counts["identical"].across == {"train-test": 1}
    assert found.near == ()
    assert found.leaks["test"]["identical"] == found.leaks["test"]["any"] == 1
    assert by_kind(found) == {
        "identical-across-parts": ("error", 1),
        "identical": ("warning", 1),
    }


@pytest.mark.parametrize(
    ("name", "alter", "form"),
    [
        ("town7.jpg", lambda i: i, "as it is"),
        (
            "town7.png",
            lambda i: np.asarray(ImageEnhance.Brightness(Image.fromarray(i)).enhance(0.8)),
            "as it is",
        ),
        ("town7.png", lambda i: i[1:, :-1], "as it is"),
        ("town7.png", lambda i: np.rot90(i), "turned by 90°"),
        ("town7.jpg", lambda i: np.fliplr(i), "flipped left-right"),
    ],
)
def test_near_duplicates_across_parts(clean, name, alter, form):
    (clean / "town/town7.png").unlink()
    save(clean, f"town/{name}", np.ascontiguousarray(alter(scene(0))))
    found = audit(open_source(clean), split="files-75-25", model=None)
    document = found.to_json()
    (pair,) = document["near"]["pairs"]
    assert pair["ids"] == ["town/town0.png", f"town/{name}"]
    assert pair["parts"] == ["train", "test"]
    assert pair["form"] == form
    assert document["near"]["across"] == {"train-test": 1}
    assert found.leaks["test"]["near"] == 1
    assert by_kind(found)["near-across-parts"] == ("error", 1)
    assert found.identical == ()


@pytest.mark.parametrize(("down", "right"), [(20, -31), (-9, 0), (3, 40)])
def test_overlapping_crops_are_found_with_their_shift(clean, down, right):
    large = scene(99, 256)
    save(clean, "town/town0.png", large[64:192, 64:192])
    y, x = 64 + down, 64 + right
    save(clean, "town/town7.png", large[y : y + 128, x : x + 128])
    found = audit(open_source(clean), split="files-75-25", model=TinyEncoder())
    (pair,) = found.overlap
    assert (pair.first, pair.second, pair.down, pair.right) == (0, 7, down, right)
    assert pair.shared == pytest.approx((128 - abs(down)) * (128 - abs(right)) / 128**2)
    assert pair.correlation > 0.99
    assert found.leaks["train"]["overlap"] == found.leaks["test"]["overlap"] == 1
    assert by_kind(found)["overlap-across-parts"] == ("error", 1)


def test_contradictory_and_missing_labels(tmp_path):
    names = {}
    for i in range(5):
        names[i] = save(tmp_path, f"{i}.png", scene(i))
    names[5] = save(tmp_path, "5.png", scene(0))
    names[6] = save(tmp_path, "6.jpg", scene(1))
    labels = [("a",), ("a", "b"), (), None, ("a",), ("b",), ("a",)]
    records = [Record(str(i), names[i], labels[i]) for i in names]
    found = audit(image_set(records), model=None)
    kinds = by_kind(found)
    assert kinds["contradictory-identical"] == ("error", 1)
    assert kinds["contradictory-near"] == ("warning", 1)
    assert kinds["never-occurring"] == ("warning", 1)
    assert kinds["unlabeled"] == ("warning", 1)
    assert kinds["no-label"] == ("note", 1)
    facts = found.labels
    assert facts is not None
    assert (facts.unlabeled, facts.empty, facts.never) == (("3",), ("2",), ("c",))
    assert facts.counts == (4, 2, 0)
    assert facts.together == ((4, 1, 0), (1, 2, 0), (0, 0, 0))
    # 6 annotated images: a and b meet once, 4 * 2 / 6 times would be chance.
    assert facts.lift[0][1] == pytest.approx(0.75)
    assert facts.lift[0][2] is None
    assert facts.per_image == pytest.approx(1.0)


def test_an_unannotated_copy_contradicts_nothing(tmp_path):
    first, second = (save(tmp_path, f"{i}.png", scene(0)) for i in range(2))
    found = audit(image_set([Record("0", first, ("a",)), Record("1", second, None)]))
    assert len(found.identical) == 1
    assert "contradictory-identical" not in by_kind(found)


def test_labels_that_a_part_lacks_or_hardly_has(tmp_path):
    path = save(tmp_path, "x.png", scene(0))
    records = [
        Record(f"{i:02d}", path, ("a", "b") if i == 0 else ("a",), group="g") for i in range(20)
    ]
    found = audit(image_set(records, ("a", "b")), split="files-80-20")
    assert found.labels is not None
    assert found.labels.by_part == {"train": (16, 1), "test": (4, 0)}
    assert found.labels.absent == {"train": (), "test": ("b",)}
    assert found.labels.rare == {"train": ("b",), "test": ("a",)}
    kinds = by_kind(found)
    assert kinds["absent-labels"] == ("warning", 1)
    assert kinds["rare-labels"] == ("note", 1)
    # Twenty copies of one picture: 16 * 15 / 2 + 4 * 3 / 2 pairs inside, 16 * 4 across.
    assert found.counts["identical"].within == {"train": 120, "test": 6}
    assert found.counts["identical"].across == {"train-test": 64}
    assert found.leaks["train"]["identical"] == 16


def test_odd_sizes_bands_blank_and_broken_files(clean):
    save(clean, "town/odd.png", scene(50)[:120])
    Image.fromarray(scene(51)).convert("L").save(clean / "town/gray.png")
    save(clean, "town/white.png", np.full((128, 128, 3), 255, np.uint8))
    save(clean, "town/white2.png", np.full((128, 128, 3), 254, np.uint8))
    (clean / "town/garbage.png").write_bytes(b"no image at all")
    (clean / "town/empty.jpg").write_bytes(b"")
    whole = (clean / "town/town0.png").read_bytes()
    (clean / "town/cut.png").write_bytes(whole[: len(whole) // 2])
    found = audit(open_source(clean), model=TinyEncoder())
    document = found.to_json()
    assert document["odd_sizes"] == [{"id": "town/odd.png", "height": 120, "width": 128}]
    assert document["odd_bands"] == [{"id": "town/gray.png", "mode": "L", "bands": 1}]
    assert document["blank"] == ["town/white.png", "town/white2.png"]
    reasons = {item["id"]: item["reason"] for item in document["undecodable"]}
    assert (
        reasons["town/garbage.png"]
        == "not a JPEG, PNG, TIFF, WebP, JPEG 2000, BMP, GIF or AVIF image"
    )
    assert reasons["town/empty.jpg"] == "the file is empty (0 bytes)"
    assert reasons["town/cut.png"].startswith("truncated or corrupt")
    assert found.near == ()
    kinds = by_kind(found)
    assert kinds["undecodable"] == ("error", 3)
    assert kinds["odd-sizes"] == ("warning", 1)
    assert kinds["other-bands"] == ("warning", 1)
    assert kinds["blank"] == ("note", 2)
    assert [f.severity for f in found.findings()] == sorted(
        (f.severity for f in found.findings()), key=("error", "warning", "note").index
    )


def test_one_image_and_no_readable_image(tmp_path):
    save(tmp_path, "only.png", scene(0))
    found = audit(open_source(tmp_path), model=TinyEncoder())
    assert by_kind(found) == {"no-annotation": ("note", 1)}
    (tmp_path / "only.png").write_bytes(b"gone")
    found = audit(open_source(tmp_path), model=TinyEncoder())
    assert by_kind(found) == {"undecodable": ("error", 1), "no-annotation": ("note", 1)}
    assert json.loads(json.dumps(found.to_json()))["sizes"] == []


def test_an_empty_folder_and_a_bad_split_are_errors(tmp_path, clean):
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no usable image"):
        audit(open_source(tmp_path / "none"), model=None)
    with pytest.raises(UsageError, match="unknown split"):
        audit(open_source(clean), split="seventy", model=None)


def test_look_alikes_need_an_encoder_and_its_threshold(clean):
    darker = ImageEnhance.Brightness(Image.fromarray(scene(0))).enhance(0.9)
    darker.save(clean / "town/town7.png")
    limits = Limits(min_cosine=0.999)
    with_encoder = audit(open_source(clean), model=TinyEncoder(), limits=limits).to_json()
    (pair,) = with_encoder["alike"]["pairs"]
    assert pair["ids"] == ["town/town0.png", "town/town7.png"]
    assert pair["cosine"] >= 0.999
    without = audit(open_source(clean), model=None).to_json()
    assert without["alike"] is None
    assert without["overlap"] is None
    assert without["near"]["count"] == 1


def test_json_holds_no_path_of_this_machine(clean):
    (clean / "town/garbage.png").write_bytes(b"no image")
    text = json.dumps(audit(open_source(clean), split="files-75-25", model=None).to_json())
    assert str(clean) not in text
    assert json.loads(text)["split"] == "files-75-25"


def test_pairs_are_counted_by_part_in_either_order():
    parts = ["test", "train", "val", "train"]
    pairs = [(0, 1), (1, 3), (2, 3), (0, 2)]
    counts = count_pairs(pairs, parts)
    assert counts.within == {"train": 1}
    assert counts.across == {"train-val": 1, "train-test": 1, "val-test": 1}
    assert (counts.total, counts.crossing) == (4, 3)
    assert count_groups([(0, 1, 3)], parts).across == {"train-test": 2}


def test_a_copy_of_a_copy_leaks_too():
    parts = ["train", "test", "test", "val"]
    pictures = {0: "x", 1: "y", 2: "y", 3: "z"}
    found = leaks(parts, pictures, [(1, 2)], {"near": [(0, 1)], "overlap": []})
    assert found["test"] == {"identical": 0, "near": 2, "overlap": 0, "any": 2}
    assert found["train"]["any"] == 1
    assert found["val"]["any"] == 0
