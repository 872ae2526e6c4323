"""DLRSD and WHDLD: labels of pixels, from label maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from landcue.data.datasets.common import Facts, image_files, read_sheet, subfolders
from landcue.data.datasets.label_sheets import CLASSES, IMAGES, ucmerced_files
from landcue.data.images import MAX_PIXELS
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.data.raster import FORMATS, without_warnings
from landcue.errors import DataError
from landcue.types import Problem, Record

Color = tuple[int, int, int]

_MODES = {"P", "L", "1"}

DLRSD_LABELS = (
    "airplane", "baresoil", "buildings", "cars", "chaparral", "court", "dock", "field", "grass",
    "mobilehome", "pavement", "sand", "sea", "ship", "tanks", "trees", "water",
)  # fmt: skip
"""Names as published, in the order of the values 1 to 17 of the label maps."""

DLRSD = Facts(
    title="DLRSD",
    images=2_100,
    labels=DLRSD_LABELS,
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
            labels = mask_labels(label_map, DLRSD_LABELS)
            records.append(Record(path.stem, path, labels, group=group))
    for path in maps.values():
        problems.append(Problem(str(path), "label map without an image"))
    if (base / _SHEET).is_file():
        problems += _compare(base / _SHEET, records)
    return make_image_set("dlrsd", root, records, DLRSD_LABELS, problems)


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
    sheet = read_sheet(path, DLRSD_LABELS)
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
    for label in DLRSD_LABELS:
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


WHDLD_LABELS = ("building", "road", "pavement", "vegetation", "bare soil", "water")
"""Names in the published order of the values 1 to 6; not alphabetical."""

WHDLD_COLORS: dict[Color, str] = {
    (255, 0, 0): "building",
    (255, 255, 0): "road",
    (192, 192, 0): "pavement",
    (0, 255, 0): "vegetation",
    (128, 128, 128): "bare soil",
    (0, 0, 255): "water",
}
"""Published palette of the label maps."""

WHDLD = Facts(
    title="WHDLD",
    images=4_940,
    labels=WHDLD_LABELS,
    size=(256, 256),
    pixel_size="2 m",
    citation='Z. Shao, W. Zhou, X. Deng, M. Zhang, Q. Cheng, "Multilabel Remote Sensing Image '
    'Retrieval Based on Fully Convolutional Network", IEEE JSTARS 13, 2020',
    homepage="sites.google.com/view/zhouwx/dataset",
    layout="WHDLD/Images/whNNNN.jpg and WHDLD/ImagesPNG/whNNNN.png",
    defects=(
        "other code numbers the values alphabetically; here the palette's color decides, and the "
        "published order where the file has no such palette",
    ),
)

_MAPS = ("ImagesPNG", "Labels", "Images")


def read_whdld(root: Path) -> ImageSet:
    """Read WHDLD; the labels are the classes that occur in the label maps.

    Args:
        root: The folder of ``Images``, or the one that holds it as ``WHDLD``. The label maps lie
            in ``ImagesPNG``, in ``Labels``, or beside the photos.

    Raises:
        DataError: Photos or label maps missing, or a label map with an unknown value.
    """
    base = existing_folder(root)
    if (base / "WHDLD").is_dir():
        base = base / "WHDLD"
    if not (base / "Images").is_dir():
        raise DataError(f"{root} holds no Images; pass the folder of WHDLD ({WHDLD.layout})")
    maps: dict[str, Path] = {}
    for folder in _MAPS:
        for path in sorted((base / folder).glob("*.png")):
            maps.setdefault(path.stem, path)
    records: list[Record] = []
    problems: list[Problem] = []
    for path in sorted((base / "Images").glob("*.jpg")):
        label_map = maps.pop(path.stem, None)
        if label_map is None:
            problems.append(Problem(str(path), "image without a label map"))
        else:
            records.append(
                Record(path.stem, path, mask_labels(label_map, WHDLD_LABELS, WHDLD_COLORS))
            )
    for path in maps.values():
        problems.append(Problem(str(path), "label map without an image"))
    return make_image_set("whdld", root, records, WHDLD_LABELS, problems)


def mask_labels(
    path: Path, label_names: Sequence[str], colors: Mapping[Color, str] | None = None
) -> tuple[str, ...]:
    """Return the labels that occur in a label map, in the order of ``label_names``.

    Value v means ``label_names[v - 1]``. With ``colors``, the color of a value in the file's
    palette goes first: repackaged copies renumber the values and keep the palette.

    Args:
        path: An 8-bit gray or palette image.
        label_names: Labels in the published order of the values 1, 2, …
        colors: Label of each published color.
    """
    values, palette = _read(path)
    named = {value: (colors or {}).get(palette.get(value, (-1, -1, -1))) for value in values}
    if not any(named.values()):
        order = dict(enumerate(label_names, start=1))
        named = {value: order.get(value) for value in values}
    for value, name in named.items():
        if name is None:
            color = f" of color {palette[value]}" if colors and value in palette else ""
            raise DataError(
                f"{path}: value {value}{color} has no label; label maps hold 1 to "
                f"{len(label_names)}: repair the file or fetch it again"
            )
    present = set(named.values())
    return tuple(name for name in label_names if name in present)


def _read(path: Path) -> tuple[list[int], dict[int, Color]]:
    """Return the values that occur, and the palette if the file has one."""
    try:
        with without_warnings, Image.open(path, formats=(*FORMATS, "TIFF")) as image:
            if image.mode not in _MODES or image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {image.width} x {image.height} pixels of mode {image.mode} "
                    "are no label map; need 8-bit gray or palette values"
                )
            flat = (image.getpalette("RGB") or []) if image.mode == "P" else []
            values = [int(value) for value in np.unique(np.asarray(image))]
    except DataError:
        raise
    except Exception as error:  # decoders raise almost anything on broken bytes
        raise DataError(f"{path}: truncated or corrupt ({error or type(error).__name__})") from None
    palette = {
        value: (flat[3 * value], flat[3 * value + 1], flat[3 * value + 2])
        for value in range(len(flat) // 3)
    }
    return values, palette
