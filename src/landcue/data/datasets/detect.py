"""Which dataset's published layout a folder has, told from a few names."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets import aid, bigearthnet, eurosat, mlrsnet, patternnet, resisc45
from landcue.data.datasets.facts import Facts
from landcue.data.datasets.ucmerced import IMAGES

_CLASS_FOLDERS: dict[str, Facts] = {
    "aid": aid.FACTS,
    "eurosat": eurosat.FACTS,
    "patternnet": patternnet.FACTS,
    "resisc45": resisc45.FACTS,
}


def detect_dataset(path: Path) -> str | None:
    """Return the name of the dataset that lies in a folder, or ``None``.

    Scene datasets are told by their class folders, all of which must be there. A folder with a
    ``labels.csv`` is nobody's but its owner's.
    """
    if not path.is_dir() or (path / "labels.csv").is_file():
        return None
    folders = {entry.name for entry in path.iterdir() if entry.is_dir()}
    if "DLRSD" in folders or ({"Images", "Labels"} <= folders and _is(path / "multilabels.csv")):
        return "dlrsd"
    if (path / IMAGES).is_dir():
        return "ucmerced"
    if {"images_tr", "images_test"} <= folders and _is(path / "multilabel.csv"):
        return "ml_aid"
    if bigearthnet.IMAGES in folders and _is(path / bigearthnet.METADATA):
        return "bigearthnet"
    if "Images" in folders and folders & {"Labels", "labels"}:
        sheets = (path / ("Labels" if "Labels" in folders else "labels")).glob("*.csv")
        if any(sheet.stem in mlrsnet.FACTS.classes for sheet in sheets):
            return "mlrsnet"
    if {"Images", "ImagesPNG"} <= folders and any((path / "ImagesPNG").glob("wh*.png")):
        return "whdld"
    for name, facts in _CLASS_FOLDERS.items():
        if set(facts.classes) == folders:
            # The 13-band files of EuroSAT are scenes: their bands want choosing.
            return None if any((path / min(folders)).glob("*.tif")) else name
    return None


def _is(path: Path) -> bool:
    return path.is_file()
