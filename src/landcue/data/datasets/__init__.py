"""Benchmark data sets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from landcue.data.datasets import (
    bigearthnet,
    class_folders,
    label_maps,
    label_sheets,
)
from landcue.data.datasets.check import (
    DatasetReport,
    Progress,
    check_images,
    check_sheet,
    shortfall,
)
from landcue.data.datasets.class_folders import read_class_folders
from landcue.data.datasets.common import Facts, Sheet
from landcue.data.imageset import ImageSet
from landcue.data.sources import open_source
from landcue.errors import DataError, UsageError, did_you_mean

DATASETS: dict[str, Callable[[Path], ImageSet]] = {
    "ucmerced": label_sheets.read_ucmerced,
    "dlrsd": label_maps.read_dlrsd,
    "aid": partial(read_class_folders, "aid"),
    "ml_aid": label_sheets.read_ml_aid,
    "whdld": label_maps.read_whdld,
    "mlrsnet": label_sheets.read_mlrsnet,
    "bigearthnet": bigearthnet.read_bigearthnet,
    "eurosat": partial(read_class_folders, "eurosat"),
    "resisc45": partial(read_class_folders, "resisc45"),
    "patternnet": partial(read_class_folders, "patternnet"),
    "folder": partial(open_source, folder_labels=True),
}
"""Reader of each dataset name; ``folder`` takes a label table, or a folder of class folders."""

FACTS: dict[str, Facts] = {
    "ucmerced": label_sheets.UCMERCED,
    "dlrsd": label_maps.DLRSD,
    "aid": class_folders.FACTS["aid"],
    "ml_aid": label_sheets.ML_AID,
    "whdld": label_maps.WHDLD,
    "mlrsnet": label_sheets.MLRSNET,
    "bigearthnet": bigearthnet.FACTS,
    "eurosat": class_folders.FACTS["eurosat"],
    "resisc45": class_folders.FACTS["resisc45"],
    "patternnet": class_folders.FACTS["patternnet"],
}
"""Published facts of each dataset but ``folder``."""

_SHEETS: dict[str, Callable[[Path], Sheet]] = {
    "ucmerced": label_sheets.sheet_ucmerced,
    "ml_aid": label_sheets.sheet_ml_aid,
}


def load_dataset(name: str, root: str | Path) -> ImageSet:
    """Read the ids, paths and labels of a dataset; its images are decoded later.

    Args:
        name: A key of :data:`DATASETS`.
        root: Its folder, in the published layout (``landcue datasets list`` shows it).

    Raises:
        UsageError: Unknown name.
        DataError: ``root`` does not hold that dataset.

    >>> images = load_dataset("ucmerced", "DATA/UCMerced")                     # doctest: +SKIP
    >>> len(images.records), images.label_names[:2]                            # doctest: +SKIP
    (2100, ('airplane', 'bare-soil'))
    """
    if name not in DATASETS:
        raise UsageError(f"unknown dataset {name!r}{did_you_mean(name, DATASETS)}")
    return DATASETS[name](Path(root))


def check_dataset(name: str, root: str | Path, progress: Progress | None = None) -> DatasetReport:
    """Count a copy and compare it with what is published.

    A copy with labels but without images has its labels checked.

    Raises:
        UsageError: Unknown name.
        DataError: ``root`` does not hold that dataset, or a label map has an unknown value.

    >>> check_dataset("ucmerced", "DATA/UCMerced").ok                    # doctest: +SKIP
    True
    """
    root = Path(root)
    try:
        images = load_dataset(name, root)
    except DataError as error:
        if name not in _SHEETS:
            raise
        try:
            sheet = _SHEETS[name](root)
        except DataError:
            raise error from None
        return check_sheet(sheet, FACTS[name], str(error))
    return check_images(images, FACTS.get(name), progress)


def dataset_warnings(name: str, images: ImageSet) -> list[str]:
    """Return a line on what a set lacks, and one for each of the first things its reader found."""
    facts = FACTS.get(name)
    missing = shortfall(images, facts) if facts else ()
    lines: list[str] = []
    if missing:
        more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
        lines.append(
            f"{'; '.join(missing[:3])}{more}: this copy is not whole "
            f"(landcue datasets check {name} {images.root})"
        )
    lines += [f"in the data: {problem}" for problem in images.problems[:_SHOWN]]
    if len(images.problems) > _SHOWN:
        lines.append(f"in the data: {len(images.problems) - _SHOWN:,} more problems")
    return lines


_SHOWN = 20


def detect_source(
    path: str | Path, labels: str | Path | None = None, *, folder_labels: bool | None = None
) -> ImageSet:
    """Read whatever ``path`` is: a known dataset's layout, a label table, or a plain folder.

    Raises:
        DataError: ``path`` is missing or holds no usable image.

    >>> images = detect_source("photos")
    >>> images.name, images.label_names
    ('folder', ('beach', 'harbor'))
    """
    path = Path(path) if isinstance(path, str) else path
    labels = None if labels is None else Path(labels)
    name = detect_dataset(path) if labels is None else None
    if name is not None:
        return load_dataset(name, path)
    return open_source(path, labels, folder_labels=folder_labels)


def detect_dataset(path: Path) -> str | None:
    """Return the name of the data set in a folder, or ``None``.

    Scene datasets are recognized by their class folders, all of which must be there. A folder with
    a ``labels.csv`` is taken as the user's own.
    """
    if not path.is_dir() or (path / "labels.csv").is_file():
        return None
    folders = {entry.name for entry in path.iterdir() if entry.is_dir()}
    if "DLRSD" in folders or (
        {"Images", "Labels"} <= folders and (path / "multilabels.csv").is_file()
    ):
        return "dlrsd"
    if (path / label_sheets.IMAGES).is_dir():
        return "ucmerced"
    if {"images_tr", "images_test"} <= folders and (path / "multilabel.csv").is_file():
        return "ml_aid"
    if bigearthnet.IMAGES in folders and (path / bigearthnet.METADATA).is_file():
        return "bigearthnet"
    if "Images" in folders and folders & {"Labels", "labels"}:
        sheets = (path / ("Labels" if "Labels" in folders else "labels")).glob("*.csv")
        if any(sheet.stem in label_sheets.MLRSNET.classes for sheet in sheets):
            return "mlrsnet"
    if {"Images", "ImagesPNG"} <= folders and any((path / "ImagesPNG").glob("wh*.png")):
        return "whdld"
    for name, facts in class_folders.FACTS.items():
        if set(facts.classes) == folders:
            # The 13-band files of EuroSAT are scenes: their bands want choosing.
            return None if any((path / min(folders)).glob("*.tif")) else name
    return None
