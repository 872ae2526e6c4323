"""UC Merced Land Use with its 17 labels."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets.common import Facts, Sheet, image_files, read_mat, read_sheet, subfolders
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record

LABELS = (
    "airplane", "bare-soil", "buildings", "cars", "chaparral", "court", "dock", "field", "grass",
    "mobile-home", "pavement", "sand", "sea", "ship", "tanks", "trees", "water",
)  # fmt: skip

CLASSES = (
    "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral",
    "denseresidential", "forest", "freeway", "golfcourse", "harbor", "intersection",
    "mediumresidential", "mobilehomepark", "overpass", "parkinglot", "river", "runway",
    "sparseresidential", "storagetanks", "tenniscourt",
)  # fmt: skip

FACTS = Facts(
    title="UC Merced",
    images=2_100,
    labels=LABELS,
    classes=dict.fromkeys(CLASSES, 100),
    positives={
        "airplane": 100, "bare-soil": 718, "buildings": 691, "cars": 886, "chaparral": 115,
        "court": 105, "dock": 100, "field": 103, "grass": 975, "mobile-home": 102,
        "pavement": 1300, "sand": 294, "sea": 100, "ship": 102, "tanks": 100, "trees": 1009,
        "water": 203,
    },
    size=(256, 256),
    odd_sizes=44,
    pixel_size="0.3 m",
    citation='images: Y. Yang, S. Newsam, "Bag-Of-Visual-Words and Spatial Extensions for '
    'Land-Use Classification", ACM SIGSPATIAL GIS 2010; labels: B. Chaudhuri et al., "Multilabel '
    'Remote Sensing Image Retrieval Using a Semisupervised Graph-Theoretic Method", IEEE TGRS '
    "56(2), 2018",
    homepage="bigearth.eu/datasets",
    layout="UCMerced_LandUse/Images/<class>/<class>NN.tif and "
    "multilabel/LandUse_Multilabeled.txt (or .xlsx, or LandUse_multilabels.mat)",
    defects=(
        "44 images are not 256 x 256: sides run from 242 to 257",
        "airplane01 and airplane02 are identical",
        "LandUse_multilabels.mat gives tenniscourt97 the label field; the text file is right",
    ),
)  # fmt: skip

IMAGES = Path("UCMerced_LandUse") / "Images"

_TABLES = ("LandUse_Multilabeled.txt", "LandUse_Multilabeled.xlsx", "LandUse_multilabels.mat")
_FOLDERS = ("multilabel", "", "UCMerced_LandUse")


def read_ucmerced(root: Path) -> ImageSet:
    """Read UC Merced and its multi-label annotation.

    2,100 RGB aerial images, 21 scene classes x 100, 1 to 7 of 17 labels per image, 3.335 on
    average. The id of a record is the file name without suffix, the group is the scene class.
    The label table is the ``.txt`` file where there is one, else the ``.xlsx`` file, else the
    ``.mat`` file (the last two need the extra ``landcue[formats]``).

    Args:
        root: The folder that holds ``UCMerced_LandUse``, and the table there, in ``multilabel/``
            or in ``UCMerced_LandUse/``.

    Raises:
        DataError: Images or table missing, a bad cell, or two files of one id.
    """
    if not (existing_folder(root) / IMAGES).is_dir():
        raise DataError(f"{root} holds no UCMerced_LandUse/Images; pass the folder above it")
    sheet = sheet_ucmerced(root)
    records: list[Record] = []
    problems: list[Problem] = []
    for group, path in ucmerced_files(root / IMAGES, problems):
        if path.stem in sheet.rows:
            records.append(Record(path.stem, path, sheet.rows[path.stem], group=group))
        else:
            problems.append(Problem(str(path), "image without a label row"))
    for missing in sorted(sheet.rows.keys() - {record.id for record in records}):
        problems.append(Problem(sheet.path.name, f"label row without an image: {missing!r}"))
    return make_image_set("ucmerced", root, records, sheet.label_names, problems)


def sheet_ucmerced(root: Path) -> Sheet:
    """Read the label table, the text file before the others.

    Raises:
        DataError: No table, or a broken one.
    """
    for name in _TABLES:
        for folder in _FOLDERS:
            path = root / folder / name
            if not path.is_file():
                continue
            if path.suffix == ".mat":
                rows = [f"{group}{number:02}" for group in CLASSES for number in range(100)]
                return read_mat(path, "labels", LABELS, rows)
            return read_sheet(path, LABELS)
    raise DataError(f"{root} holds no multilabel/{_TABLES[0]}; put the 17-label table there")


def ucmerced_files(images: Path, problems: list[Problem]) -> list[tuple[str, Path]]:
    """Return (scene class, file) of every image below ``UCMerced_LandUse/Images``."""
    return [
        (folder.name, path)
        for folder in subfolders(images)
        for path in image_files(folder, problems)
    ]
