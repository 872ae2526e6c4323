"""Is a copy of a dataset whole? Counts against the published facts, and every file's size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from landcue.data.datasets.bands import is_band_file, raster_size
from landcue.data.datasets.bigearthnet import BANDS, band_files
from landcue.data.datasets.common import Facts, Sheet
from landcue.data.imageset import ImageSet
from landcue.data.raster import FORMATS, HEAD, is_raster, without_warnings
from landcue.errors import DataError
from landcue.types import Problem, Record

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a copy holds, and what it should.

    Attributes:
        images: Images found with their labels.
        label_names: All labels in the published order.
        positives: Images per label.
        groups: Images per scene class.
        parts: Images per part of the published split.
        sizes: Images per size, as ``256x256``.
        unlabeled: Ids of the images that carry no label.
        missing: What is published and not there, one line each.
        wrong: What is there and not as published, one line each.
        problems: What the reader skipped or found odd.
    """

    images: int
    label_names: tuple[str, ...]
    positives: Mapping[str, int]
    groups: Mapping[str, int]
    parts: Mapping[str, int]
    sizes: Mapping[str, int]
    unlabeled: tuple[str, ...]
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and nothing differs from what is published."""
        return not self.missing and not self.wrong


def check_images(
    images: ImageSet, facts: Facts | None, progress: Progress | None = None
) -> DatasetReport:
    """Compare an image set with the facts of its dataset; read every image's header.

    Args:
        images: What the reader found.
        facts: Published facts; ``None`` for a folder of one's own, which lacks nothing.
        progress: Called with the images looked at and their number.
    """
    sizes: Counter[str] = Counter()
    broken: list[Problem] = []
    for done, record in enumerate(images.records, start=1):
        try:
            width, height = image_size(record)
            sizes[f"{width}x{height}"] += 1
        except DataError as error:
            broken.append(Problem(record.id, str(error)))
        if progress:
            progress(done, len(images))
    positives = Counter(name for record in images.records for name in record.labels or ())
    groups = Counter(record.group or "-" for record in images.records)
    parts = Counter(record.part for record in images.records if record.part)
    unlabeled = tuple(record.id for record in images.records if not record.labels)
    missing: tuple[str, ...] = ()
    wrong: list[str] = []
    problems = images.problems
    if facts is None:
        problems += tuple(broken)
    else:
        missing = shortfall(images, facts)
        wrong = [problem.what for problem in broken]
        wrong += _surplus(facts, len(images), groups, parts)
        if not missing:
            wrong += _label_differences(facts, positives, unlabeled)
        wrong += _size_differences(facts, sizes, whole=not missing)
    return DatasetReport(
        images=len(images),
        label_names=images.label_names,
        positives={name: positives[name] for name in images.label_names},
        groups=dict(sorted(groups.items())),
        parts=dict(sorted(parts.items())),
        sizes=dict(sizes.most_common()),
        unlabeled=unlabeled,
        missing=missing,
        wrong=tuple(wrong),
        problems=problems,
    )


def check_sheet(sheet: Sheet, facts: Facts, no_images: str) -> DatasetReport:
    """Compare the labels alone with the facts, for a copy without any image.

    Args:
        no_images: Why there is no image.
    """
    positives = Counter(name for labels in sheet.rows.values() for name in labels)
    unlabeled = tuple(name for name, labels in sheet.rows.items() if not labels)
    wrong = _label_differences(facts, positives, unlabeled)
    if len(sheet.rows) != facts.images:
        wrong.insert(0, f"{sheet.path}: {len(sheet.rows):,} rows, {facts.images:,} are published")
    return DatasetReport(
        images=0,
        label_names=sheet.label_names,
        positives={name: positives[name] for name in sheet.label_names},
        groups={},
        parts={},
        sizes={},
        unlabeled=unlabeled,
        missing=(f"{facts.title}: 0 of {facts.images:,} images", no_images),
        wrong=tuple(wrong),
    )


def shortfall(images: ImageSet, facts: Facts) -> tuple[str, ...]:
    """Return what an image set lacks of the published dataset, one line each; empty if nothing."""
    lines: list[str] = []
    if len(images) < facts.images:
        lines.append(f"{facts.title}: {len(images):,} of {facts.images:,} images")
    groups = Counter(record.group for record in images.records)
    for name, published in facts.classes.items():
        if groups[name] < published:
            lines.append(f"{name} has {groups[name]:,} of {published:,}")
    parts = Counter(record.part for record in images.records)
    for name, published in facts.parts.items():
        if parts[name] < published:
            lines.append(f"part {name} has {parts[name]:,} of {published:,}")
    return tuple(lines)


def image_size(record: Record) -> tuple[int, int]:
    """Return width and height of an image from its header.

    Of a patch with one file per band, the size of the largest band.
    """
    if is_band_file(record):
        return raster_size(record.path)
    if not record.path.is_dir():
        return _file_size(record.path)
    files = band_files(record.path)
    absent = [band for band, path in files.items() if not path.is_file()]
    if absent:
        have = len(BANDS) - len(absent)
        raise DataError(
            f"{record.path} has {have} of {len(BANDS)} band files; no {', '.join(absent)}"
        )
    return max(_file_size(path) for path in files.values())


def _file_size(path: Path) -> tuple[int, int]:
    try:
        with path.open("rb") as file:
            if is_raster(file.read(HEAD)):
                return raster_size(path)
        with without_warnings, Image.open(path, formats=FORMATS) as image:
            return image.size
    except Exception as error:  # decoders raise almost anything on broken bytes
        what = "the file is empty" if not path.stat().st_size else "not a readable image"
        raise DataError(f"{path}: {what} ({type(error).__name__})") from None


def _surplus(
    facts: Facts, images: int, groups: Mapping[str, int], parts: Mapping[str, int]
) -> list[str]:
    lines: list[str] = []
    if images > facts.images:
        lines.append(f"{facts.title}: {images:,} images, {facts.images:,} are published")
    for kind, found, published in (("", groups, facts.classes), ("part ", parts, facts.parts)):
        for name, expected in published.items():
            if found.get(name, 0) > expected:
                lines.append(f"{kind}{name} has {found[name]:,}, {expected:,} are published")
    return lines


def _label_differences(
    facts: Facts, positives: Mapping[str, int], unlabeled: Iterable[str]
) -> list[str]:
    lines = [
        f"label {name!r}: {positives.get(name, 0):,} images, {published:,} are published"
        for name, published in facts.positives.items()
        if positives.get(name, 0) != published
    ]
    extra = sorted(set(unlabeled) - set(facts.unlabeled))
    if extra:
        lines.append(f"{len(extra)} images have no label (first: {extra[0]})")
    lines += [
        f"{name} has a label, none is published"
        for name in sorted(set(facts.unlabeled) - set(unlabeled))
    ]
    return lines


def _size_differences(facts: Facts, sizes: Mapping[str, int], *, whole: bool) -> list[str]:
    if facts.size is None:
        return []
    width, height = facts.size
    odd = sum(sizes.values()) - sizes.get(f"{width}x{height}", 0)
    if odd == facts.odd_sizes or (odd < facts.odd_sizes and not whole):
        return []
    return [f"{odd:,} images are not {width}x{height}; {facts.odd_sizes} are published so"]
