"""Named, deterministic splits: the id says all that is needed to make the split again."""

from __future__ import annotations

import hashlib
import re
import zlib
from dataclasses import dataclass, replace

import numpy as np

from landcue.data.imageset import ImageSet
from landcue.errors import DataError, UsageError
from landcue.types import Record

PARTS = ("train", "val", "test")
PUBLISHED = "published"
"""The split that comes with a dataset: records keep the part their reader gave them."""

_UNSEEN = re.compile(r"^unseen-classes-([1-9]\d*)-of-([1-9]\d*)$")
_PATTERN = re.compile(r"^(?:per-class-(\d+)-(\d+)-(\d+)-seed(\d+)|files-(\d+)(?:-(\d+))?-(\d+))$")


@dataclass(frozen=True, slots=True)
class Split:
    """How images are divided, per group (scene class).

    Attributes:
        percent: Shares of train, val and test; they sum to 100.
        seed: ``None``: by order of id, numbers by value (files 00-79 train, 80-99 test);
            otherwise shuffled.
    """

    percent: tuple[int, int, int]
    seed: int | None

    @property
    def id(self) -> str:
        """The name this split has in run folders, cards and reports."""
        train, val, test = self.percent
        if self.seed is None:
            return f"files-{train}-{test}" if val == 0 else f"files-{train}-{val}-{test}"
        return f"per-class-{train}-{val}-{test}-seed{self.seed}"


def parse_split(split_id: str) -> Split:
    """Read ``per-class-70-10-20-seed42``, ``files-80-20`` or ``files-70-10-20``."""
    match = _PATTERN.match(split_id)
    if match is None:
        raise UsageError(
            f"unknown split {split_id!r}; use per-class-70-10-20-seed42, files-80-20, "
            f"files-70-10-20, unseen-classes-1-of-3 or {PUBLISHED}"
        )
    a, b, c, seed, x, y, z = match.groups()
    if seed is None:
        split = Split((int(x), int(y or 0), int(z)), None)
    else:
        split = Split((int(a), int(b), int(c)), int(seed))
    if sum(split.percent) != 100 or split.percent[0] == 0:
        raise UsageError(f"split {split_id!r}: the shares must sum to 100 and leave a train part")
    return split


def apply_split(images: ImageSet, split_id: str) -> ImageSet:
    """Return the set with every record's ``part`` filled in.

    Each group (scene class) is divided alone, so that all parts see all groups. The result
    depends on ids, groups and the split id only. ``published`` keeps the parts that came with
    the dataset. ``unseen-classes-F-of-N`` divides the groups and not their images: with names in
    alphabetical order, every N-th group from the F-th on is the test part, the others are the
    train part; there is no validation part.

    Raises:
        UsageError: A bad split id.
        DataError: Too few images or groups to fill the train part, or no published split.

    >>> from landcue.data import open_source
    >>> images = apply_split(open_source("photos"), "files-50-50")
    >>> sorted(record.part for record in images.records)
    ['test', 'test', 'test', 'test', 'train', 'train', 'train', 'train']
    """
    if split_id == PUBLISHED:
        return _published(images)
    unseen = _UNSEEN.match(split_id)
    if unseen is not None:
        return _unseen_classes(images, int(unseen[1]), int(unseen[2]))
    split = parse_split(split_id)
    groups: dict[str, list[Record]] = {}
    for record in images.records:
        groups.setdefault(record.group or "", []).append(record)
    train, val, _ = split.percent
    parts: dict[str, str] = {}
    for name, members in groups.items():
        if split.seed is None:
            members = sorted(members, key=_by_number)
        order = np.arange(len(members))
        if split.seed is not None:
            order = np.random.default_rng([split.seed, zlib.crc32(name.encode())]).permutation(
                len(members)
            )
        first = round(len(members) * train / 100)
        second = round(len(members) * (train + val) / 100)
        for position, index in enumerate(order):
            part = PARTS[(position >= first) + (position >= second)]
            parts[members[int(index)].id] = part
    if "train" not in parts.values():
        raise DataError(f"split {split_id}: {len(images)} images are too few for a train part")
    return images.subset(replace(record, part=parts[record.id]) for record in images.records)


def _unseen_classes(images: ImageSet, fold: int, folds: int) -> ImageSet:
    if fold > folds or folds < 2:
        raise UsageError(f"split unseen-classes-{fold}-of-{folds}: use a fold from 1 to N, N >= 2")
    groups = sorted({record.group or "" for record in images.records})
    if len(groups) < folds:
        raise DataError(
            f"split unseen-classes-{fold}-of-{folds}: the images have {len(groups)} scene classes, "
            f"{folds} or more are needed"
        )
    unseen = set(groups[fold - 1 :: folds])
    return images.subset(
        replace(record, part="test" if (record.group or "") in unseen else "train")
        for record in images.records
    )


def _published(images: ImageSet) -> ImageSet:
    without = [record.id for record in images.records if record.part not in PARTS]
    if without:
        raise DataError(
            f"{images.name} comes with no split ({without[0]!r} has no part); use another, such as "
            "per-class-70-10-20-seed42"
        )
    if not any(record.part == "train" for record in images.records):
        raise DataError(f"split {PUBLISHED}: {images.root} holds no image of the train part")
    return images


def _by_number(record: Record) -> tuple[list[str | int], str]:
    """Order airport_2 before airport_10: numbers in names are not always padded."""
    pieces = re.split(r"(\d+)", record.id)
    return [int(p) if i % 2 else p for i, p in enumerate(pieces)], record.id


def data_id(images: ImageSet) -> str:
    """Return a short hash over ids, labels and parts: the same data and split give the same."""
    digest = hashlib.sha256()
    for record in images.records:
        labels = sorted(record.labels or ())
        digest.update(repr((record.id, labels, record.part)).encode())
    return digest.hexdigest()[:16]
