"""DLRSD: pixel labels of UC Merced's images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from landcue.data.datasets.common import Facts, image_files, mask_labels, read_sheet, subfolders
from landcue.data.datasets.ucmerced import CLASSES, IMAGES, ucmerced_files
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record

LABELS = (
    "airplane", "baresoil", "buildings", "cars", "chaparral", "court", "dock", "field", "grass",
    "mobilehome", "pavement", "sand", "sea", "ship", "tanks", "trees", "water",
)  # fmt: skip
"""Names as published, in the order of the values 1 to 17 of the label maps."""

FACTS = Facts(
    title="DLRSD",
    images=2_100,
    labels=LABELS,
    classes=dict.fromkeys(CLASSES, 100),
    size=(256, 256),
    odd_sizes=44,
    pixel_size="0.3 m",
    citation='Z. Shao, K. Yang, W. Zhou, "Performance Evaluation of Single-Label and Multi-Label '
    'Remote Sensing Image Retrieval Using a Dense Labeling Dataset", Remote Sensing 10(6), 964, '
    "2018",
    homepage="sites.google.com/view/zhouwx/dataset",
    layout="DLRSD/Images/<class>/<class>NN.png (label maps) with UCMerced_LandUse beside DLRSD; "
    "or DLRSD/Images (photos), DLRSD/Labels (label maps) and multilabels.csv",
    defects=(
        "the original Images/ holds label maps, not photos: the photos are UC Merced's",
        "two names are spelled baresoil and mobilehome, unlike UC Merced's bare-soil, mobile-home",
        "multilabels.csv of a repackaged copy may hold UC Merced's labels of 2018",
        "airplane01 and airplane02 are identical photos",
    ),
)

_SHEET = "multilabels.csv"


def read_dlrsd(root: Path) -> ImageSet:
    """Read DLRSD; the labels are the values that occur in the label maps.

    Both layouts are read: the original one, whose ``Images`` are label maps and whose photos
    come from ``UCMerced_LandUse/Images`` in ``root`` or beside it, and the repackaged one with
    ``Images``, ``Labels`` and ``multilabels.csv``. Where the sheet disagrees with the maps, the
    maps hold and the difference is a problem of the set.

    Args:
        root: The folder ``DLRSD``, or the one that holds it.

    Raises:
        DataError: Photos or label maps missing, or a label map with an unknown value.
    """
    base = existing_folder(root)
    if (base / "DLRSD").is_dir():
        base = base / "DLRSD"
    if not (base / "Images").is_dir():
        raise DataError(f"{root} holds no DLRSD/Images; pass the folder above DLRSD")
    repacked = (base / "Labels").is_dir()
    photos = base / "Images" if repacked else _ucmerced_photos(root, base)
    problems: list[Problem] = []
    maps = _maps(base / ("Labels" if repacked else "Images"), problems)
    records: list[Record] = []
    for group, path in ucmerced_files(photos, problems):
        label_map = maps.pop((group, path.stem), None)
        if label_map is None:
            problems.append(Problem(str(path), "image without a label map"))
        else:
            labels = mask_labels(label_map, LABELS)
            records.append(Record(path.stem, path, labels, group=group))
    for path in maps.values():
        problems.append(Problem(str(path), "label map without an image"))
    if (base / _SHEET).is_file():
        problems += _compare(base / _SHEET, records)
    return make_image_set("dlrsd", root, records, LABELS, problems)


def _ucmerced_photos(root: Path, base: Path) -> Path:
    for folder in (root, base, base.parent):
        if (folder / IMAGES).is_dir():
            return folder / IMAGES
    raise DataError(
        f"{base / 'Images'} holds label maps only; DLRSD's photos are UC Merced's: put the folder "
        f"UCMerced_LandUse beside {base}"
    )


def _maps(folder: Path, problems: list[Problem]) -> dict[tuple[str, str], Path]:
    return {
        (group.name, path.stem): path
        for group in subfolders(folder)
        for path in image_files(group, problems)
    }


def _compare(path: Path, records: list[Record]) -> list[Problem]:
    """Return one problem per label in which the sheet differs from the label maps."""
    sheet = read_sheet(path, LABELS)
    rows = {Path(name).stem: labels for name, labels in sheet.rows.items()}
    problems = [
        Problem(path.name, f"no row for {record.id!r}")
        for record in records
        if record.id not in rows
    ]
    only_map: Counter[str] = Counter()
    only_sheet: Counter[str] = Counter()
    first: dict[str, str] = {}
    for record in records:
        in_map = set(record.labels or ())
        in_sheet = set(rows.get(record.id, in_map))
        only_map.update(in_map - in_sheet)
        only_sheet.update(in_sheet - in_map)
        for label in in_map ^ in_sheet:
            first.setdefault(label, record.id)
    for label in LABELS:
        if label in first:
            problems.append(
                Problem(
                    path.name,
                    f"{label!r} differs from the label maps, which hold: {only_map[label]} images "
                    f"in the maps only, {only_sheet[label]} in the sheet only (first: "
                    f"{first[label]})",
                )
            )
    return problems
