"""Benchmark datasets, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from landcue.data.datasets import (
    aid,
    bigearthnet,
    dlrsd,
    eurosat,
    ml_aid,
    mlrsnet,
    patternnet,
    resisc45,
    ucmerced,
    whdld,
)
from landcue.data.datasets.check import (
    Progress,
    Report,
    check_images,
    check_sheet,
    shortfall,
)
from landcue.data.datasets.detect import detect_dataset
from landcue.data.datasets.facts import Facts
from landcue.data.datasets.sheets import Sheet
from landcue.data.imageset import ImageSet
from landcue.data.sources import open_source
from landcue.errors import DataError, UsageError, did_you_mean

DATASETS: dict[str, Callable[[Path], ImageSet]] = {
    "ucmerced": ucmerced.read_ucmerced,
    "dlrsd": dlrsd.read_dlrsd,
    "aid": aid.read_aid,
    "ml_aid": ml_aid.read_ml_aid,
    "whdld": whdld.read_whdld,
    "mlrsnet": mlrsnet.read_mlrsnet,
    "bigearthnet": bigearthnet.read_bigearthnet,
    "eurosat": eurosat.read_eurosat,
    "resisc45": resisc45.read_resisc45,
    "patternnet": patternnet.read_patternnet,
    "folder": open_source,
}
"""Reader of each dataset name; ``folder`` takes any folder or label table of your own."""

FACTS: dict[str, Facts] = {
    "ucmerced": ucmerced.FACTS,
    "dlrsd": dlrsd.FACTS,
    "aid": aid.FACTS,
    "ml_aid": ml_aid.FACTS,
    "whdld": whdld.FACTS,
    "mlrsnet": mlrsnet.FACTS,
    "bigearthnet": bigearthnet.FACTS,
    "eurosat": eurosat.FACTS,
    "resisc45": resisc45.FACTS,
    "patternnet": patternnet.FACTS,
}
"""Published facts of each dataset but ``folder``."""

_SHEETS: dict[str, Callable[[Path], Sheet]] = {
    "ucmerced": ucmerced.sheet_ucmerced,
    "ml_aid": ml_aid.sheet_ml_aid,
}


def read_dataset(name: str, root: Path) -> ImageSet:
    """Read a dataset by name.

    Raises:
        UsageError: Unknown name.
        DataError: ``root`` does not hold that dataset.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown dataset {name!r}{did_you_mean(name, DATASETS)}")
    return DATASETS[name](root)


def check_dataset(name: str, root: Path, progress: Progress | None = None) -> Report:
    """Count a copy and compare it with what is published.

    A copy with labels but without images has its labels checked.

    Raises:
        UsageError: Unknown name.
        DataError: ``root`` does not hold that dataset, or a label map has an unknown value.
    """
    try:
        images = read_dataset(name, root)
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
    """Say in at most two lines what a set lacks and what its reader found odd."""
    facts = FACTS.get(name)
    missing = shortfall(images, facts) if facts else ()
    lines: list[str] = []
    if missing:
        more = f"; and {len(missing) - 3} more" if len(missing) > 3 else ""
        lines.append(
            f"{'; '.join(missing[:3])}{more}: this copy is not whole "
            f"(landcue datasets check {name} {images.root})"
        )
    if images.problems:
        lines.append(f"{len(images.problems):,} problems in the data (first: {images.problems[0]})")
    return lines


def detect_source(path: Path, labels: Path | None = None) -> ImageSet:
    """Read whatever ``path`` is: a known dataset's layout, a label table, or a plain folder.

    Raises:
        DataError: ``path`` is missing or holds no usable image.
    """
    name = detect_dataset(path) if labels is None else None
    return open_source(path, labels) if name is None else read_dataset(name, path)
