"""Splits are deterministic, per group, and named."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from landcue.data.imageset import ImageSet
from landcue.data.splits import apply_split, parse_split
from landcue.errors import DataError, UsageError
from landcue.types import Record


def images(per_group=100, groups=("beach", "river")) -> ImageSet:
    records = [
        Record(f"{group}{i:02}", Path(f"{group}{i:02}.png"), (), group)
        for group in groups
        for i in range(per_group)
    ]
    return ImageSet("test", Path(), tuple(records), ("x",))


@pytest.mark.parametrize("split_id", ["per-class-70-10-20-seed42", "files-80-20", "files-70-10-20"])
def test_split_id_round_trip(split_id):
    assert parse_split(split_id).id == split_id


def test_per_class_shares_hold_in_every_group():
    got = apply_split(images(), "per-class-70-10-20-seed42")
    counts = Counter((r.group, r.part) for r in got.records)
    for group in ("beach", "river"):
        assert [counts[group, part] for part in ("train", "val", "test")] == [70, 10, 20]


def test_files_split_follows_the_numbers():
    got = apply_split(images(), "files-80-20")
    assert all((r.part == "train") == (int(r.id[-2:]) < 80) for r in got.records)
    assert {r.part for r in got.records} == {"train", "test"}


def test_split_depends_on_seed_and_nothing_else():
    def parts(split, source=None):
        return {r.id: r.part for r in apply_split(source or images(), split).records}

    first = parts("per-class-70-10-20-seed42")
    assert first == parts("per-class-70-10-20-seed42")
    assert first != parts("per-class-70-10-20-seed43")
    # another group beside it changes nothing for beach
    alone = parts("per-class-70-10-20-seed42", images(groups=("beach",)))
    assert alone == {k: v for k, v in first.items() if k.startswith("beach")}
    # groups are shuffled apart from each other
    beach = {k[-2:] for k, v in first.items() if v == "test" and k.startswith("beach")}
    river = {k[-2:] for k, v in first.items() if v == "test" and k.startswith("river")}
    assert beach != river


@pytest.mark.parametrize("bad", ["70/10/20", "per-class-70-10-30-seed1", "files-0-100", ""])
def test_bad_split_ids(bad):
    with pytest.raises(UsageError, match="split"):
        apply_split(images(), bad)


def test_too_few_images():
    with pytest.raises(DataError, match="too few"):
        apply_split(images(per_group=1, groups=("a",)), "per-class-10-10-80-seed1")


def test_unseen_classes_are_divided_by_scene_class():
    groups = tuple("gfedcba")
    folds = [
        apply_split(images(2, groups), f"unseen-classes-{fold}-of-3").records for fold in (1, 2, 3)
    ]
    unseen = [{r.group for r in fold if r.part == "test"} for fold in folds]
    assert unseen == [{"a", "d", "g"}, {"b", "e"}, {"c", "f"}]
    for fold, left_out in zip(folds, unseen, strict=True):
        assert {r.group for r in fold if r.part == "train"} == set(groups) - left_out
        assert {r.part for r in fold} == {"train", "test"}


@pytest.mark.parametrize("bad", ["unseen-classes-4-of-3", "unseen-classes-1-of-1"])
def test_folds_of_unseen_classes_are_checked(bad):
    with pytest.raises(UsageError, match="use a fold from 1 to N"):
        apply_split(images(), bad)


def test_unseen_classes_need_scene_classes():
    with pytest.raises(DataError, match="2 scene classes, 3 or more"):
        apply_split(images(), "unseen-classes-1-of-3")
