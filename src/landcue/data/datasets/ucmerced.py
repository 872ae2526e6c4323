"""UC Merced Land Use with its 17 labels."""

from __future__ import annotations

from pathlib import Path

from landcue.data.images import is_image_path
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.data.label_table import parse_flag, read_rows
from landcue.errors import DataError
from landcue.types import Problem, Record

LABELS = (
    "airplane", "bare-soil", "buildings", "cars", "chaparral", "court", "dock", "field", "grass",
    "mobile-home", "pavement", "sand", "sea", "ship", "tanks", "trees", "water",
)  # fmt: skip

_TABLE = "LandUse_Multilabeled.txt"


def read_ucmerced(root: Path) -> ImageSet:
    """Read UC Merced and its multi-label annotation.

    2,100 RGB aerial images, 21 scene classes x 100, 0.3 m per pixel, 256 x 256 pixels but for 44
    whose sides lie between 242 and 257. 1 to 7 of 17 labels per image, 3.335 on average.
    ``airplane01`` and ``airplane02`` are identical.

    Images: Y. Yang, S. Newsam, "Bag-Of-Visual-Words and Spatial Extensions for Land-Use
    Classification", ACM SIGSPATIAL GIS 2010. Labels: B. Chaudhuri et al., "Multilabel Remote
    Sensing Image Retrieval Using a Semisupervised Graph-Theoretic Method", IEEE TGRS 56(2), 2018.

    Layout: ``UCMerced_LandUse/Images/<class>/<class>NN.{tif,webp,png,jpg}`` and
    ``LandUse_Multilabeled.txt`` in ``root``, ``multilabel/`` or ``UCMerced_LandUse/``. The record
    id is the file name without extension, the group is the scene class.

    Args:
        root: The folder that holds ``UCMerced_LandUse``.

    Raises:
        DataError: Images or table missing, a bad cell, or two files of one id.
    """
    images = existing_folder(root) / "UCMerced_LandUse" / "Images"
    if not images.is_dir():
        raise DataError(f"{root} holds no UCMerced_LandUse/Images; give the folder above it")
    names, labels = _read_labels(_find_table(root))
    records: list[Record] = []
    problems: list[Problem] = []
    for folder in sorted(path for path in images.iterdir() if path.is_dir()):
        for path in sorted(folder.iterdir()):
            if path.name.startswith("."):
                continue
            if not is_image_path(path):
                problems.append(Problem(str(path), "not an image file"))
            elif path.stem not in labels:
                problems.append(Problem(str(path), "image without a label row"))
            else:
                records.append(Record(path.stem, path, labels[path.stem], group=folder.name))
    for missing in sorted(labels.keys() - {record.id for record in records}):
        problems.append(Problem(_TABLE, f"label row without an image: {missing!r}"))
    return make_image_set("ucmerced", root, records, names, problems)


def _find_table(root: Path) -> Path:
    for folder in (root / "multilabel", root, root / "UCMerced_LandUse"):
        if (folder / _TABLE).is_file():
            return folder / _TABLE
    raise DataError(f"{root} holds no multilabel/{_TABLE}; put the 17-label table there")


def _read_labels(table: Path) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    lines = read_rows(table, delimiter="\t")
    _, header = next(lines, (0, [""]))
    names = tuple(header[1:])
    if set(names) != set(LABELS):
        wrong = ", ".join(sorted(set(names) ^ set(LABELS)))
        raise DataError(f"{table}: the header must name the 17 labels; these differ: {wrong}")
    labels: dict[str, tuple[str, ...]] = {}
    for line, cells in lines:
        where = f"{table} line {line}"
        if cells[0] in labels:
            raise DataError(f"{where}: a second row for {cells[0]!r}; remove one")
        if len(cells) > len(header):
            raise DataError(f"{where}: {len(cells)} cells, the header has {len(header)}")
        cells += [""] * (len(header) - len(cells))
        flags = zip(names, cells[1:], strict=True)
        labels[cells[0]] = tuple(n for n, cell in flags if parse_flag(cell, f"{where}, {n}"))
    return names, labels
