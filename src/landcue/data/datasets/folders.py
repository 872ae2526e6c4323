"""Scene classification datasets: one folder per class, the class is the only label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from landcue.data.datasets.facts import Facts
from landcue.data.images import is_image_path
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record


def read_class_folders(name: str, facts: Facts, root: Path, below: Iterable[str]) -> ImageSet:
    """Read the first of ``below`` that holds class folders; ids are file names without suffix.

    Args:
        name: The dataset's name.
        facts: Its facts; ``facts.classes`` names the folders.
        root: Folder given by the user.
        below: Folders relative to ``root`` where the class folders may lie, ``""`` for ``root``.

    Raises:
        DataError: No class folder, no image, or two files of one id.
    """
    base = find_base(facts, existing_folder(root), below)
    records: list[Record] = []
    problems: list[Problem] = []
    for folder in subfolders(base):
        if folder.name not in facts.classes:
            problems.append(Problem(str(folder), f"is no class of {facts.title}; skipped"))
            continue
        for path in image_files(folder, problems):
            records.append(Record(path.stem, path, (folder.name,), group=folder.name))
    return make_image_set(name, root, records, facts.labels, problems)


def find_base(facts: Facts, root: Path, below: Iterable[str]) -> Path:
    """Return the first folder that holds at least one class folder.

    Raises:
        DataError: None does.
    """
    for folder in below:
        if has_class_folder(root / folder, facts):
            return root / folder
    first = sorted(facts.classes)[:3]
    raise DataError(
        f"{root} holds no class folder of {facts.title} ({', '.join(first)}, …); "
        f"need {facts.layout}"
    )


def has_class_folder(folder: Path, facts: Facts) -> bool:
    """Tell whether a folder exists and holds a folder named like a class."""
    return folder.is_dir() and any((folder / name).is_dir() for name in facts.classes)


def subfolders(folder: Path) -> list[Path]:
    """Return the visible folders directly inside, sorted."""
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def image_files(folder: Path, problems: list[Problem]) -> Iterator[Path]:
    """Yield the image files directly inside, sorted; other visible files become problems."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if is_image_path(path):
            yield path
        else:
            problems.append(Problem(str(path), "not an image file"))
