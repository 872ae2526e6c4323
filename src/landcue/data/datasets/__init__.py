"""Benchmark datasets, one file each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from landcue.data.datasets.ucmerced import read_ucmerced
from landcue.data.imageset import ImageSet
from landcue.data.sources import open_source
from landcue.errors import UsageError, did_you_mean

DATASETS: dict[str, Callable[[Path], ImageSet]] = {
    "ucmerced": read_ucmerced,
    "folder": open_source,
}
"""Reader of each dataset name; ``folder`` takes any folder or label table of your own."""


def read_dataset(name: str, root: Path) -> ImageSet:
    """Read a dataset by name.

    Raises:
        UsageError: Unknown name.
        DataError: ``root`` does not hold that dataset.
    """
    if name not in DATASETS:
        raise UsageError(f"unknown dataset {name!r}{did_you_mean(name, DATASETS)}")
    return DATASETS[name](root)


def detect_source(path: Path, labels: Path | None = None) -> ImageSet:
    """Read whatever ``path`` is: a known dataset's layout, a label table, or a plain folder.

    Raises:
        DataError: ``path`` is missing or holds no usable image.
    """
    if labels is None and (path / "UCMerced_LandUse" / "Images").is_dir():
        return read_ucmerced(path)
    return open_source(path, labels)
