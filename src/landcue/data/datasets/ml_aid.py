"""ML-AID: 3,000 images of AID with 17 labels and a published split."""

from __future__ import annotations

import re
from pathlib import Path

from landcue.data.datasets.common import Facts, Sheet, read_sheet
from landcue.data.datasets.ucmerced import LABELS
from landcue.data.images import is_image_path
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record

_CLASSES = (
    "airport", "bareland", "baseballfield", "beach", "bridge", "center", "church", "commercial",
    "denseresidential", "desert", "farmland", "forest", "industrial", "meadow",
    "mediumresidential", "mountain", "park", "parking", "playground", "pond", "port",
    "railwaystation", "resort", "river", "school", "sparseresidential", "square", "stadium",
    "storagetanks", "viaduct",
)  # fmt: skip

FACTS = Facts(
    title="ML-AID",
    images=3_000,
    labels=LABELS,
    classes=dict.fromkeys(_CLASSES, 100),
    parts={"train": 2_400, "test": 600},
    positives={
        "airplane": 99, "bare-soil": 1475, "buildings": 2161, "cars": 2026, "chaparral": 112,
        "court": 344, "dock": 271, "field": 214, "grass": 2295, "mobile-home": 2,
        "pavement": 2328, "sand": 259, "sea": 221, "ship": 284, "tanks": 108, "trees": 2406,
        "water": 852,
    },
    size=(600, 600),
    unlabeled=("forest_2",),
    pixel_size="0.5 to 8 m",
    citation='Y. Hua, L. Mou, X. X. Zhu, "Relation Network for Multilabel Aerial Image '
    'Classification", IEEE TGRS 58(7), 2020; images: G.-S. Xia et al., "AID", IEEE TGRS 55(7), '
    "2017",
    homepage="github.com/Hua-YS/AID-Multilabel-Dataset",
    layout="images_tr/<Class>/<class>_N.jpg, images_test/<Class>/<class>_N.jpg and multilabel.csv",
    defects=(
        "forest_2 has no label",
        "mobile-home occurs in two images only, bareland_92 and pond_52",
        "numbers are not padded: airport_10 sorts before airport_2",
    ),
)  # fmt: skip

_PARTS = {"images_tr": "train", "images_test": "test"}
_SHEET = "multilabel.csv"


def read_ml_aid(root: Path) -> ImageSet:
    """Read ML-AID; every record has the part of the published split (``--split published``).

    The group is the scene class, taken from the file name.

    Args:
        root: The folder of ``images_tr``, ``images_test`` and ``multilabel.csv``.

    Raises:
        DataError: Images or labels missing, a bad cell, or two files of one id.
    """
    sheet = sheet_ml_aid(existing_folder(root))
    records: list[Record] = []
    problems: list[Problem] = []
    for folder, part in _PARTS.items():
        if not (root / folder).is_dir():
            problems.append(Problem(str(root / folder), "is missing"))
            continue
        for path in sorted((root / folder).rglob("*")):
            if not is_image_path(path) or not path.is_file():
                continue
            labels = sheet.rows.get(path.stem)
            if labels is None:
                problems.append(Problem(str(path), f"has no row in {_SHEET}"))
            else:
                records.append(Record(path.stem, path, labels, _scene(path.stem), part=part))
    for missing in sorted(sheet.rows.keys() - {record.id for record in records}):
        problems.append(Problem(_SHEET, f"label row without an image: {missing!r}"))
    return make_image_set("ml_aid", root, records, sheet.label_names, problems)


def sheet_ml_aid(root: Path) -> Sheet:
    """Read ``multilabel.csv``.

    Raises:
        DataError: It is missing or broken.
    """
    path = root / _SHEET
    if not path.is_file():
        raise DataError(f"{root} holds no {_SHEET}; put ML-AID's label sheet there")
    return read_sheet(path, LABELS)


def _scene(stem: str) -> str:
    return re.sub(r"_?\d+$", "", stem)
