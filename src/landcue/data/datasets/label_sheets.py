"""UC Merced, ML-AID and MLRSNet: several labels per image, from label sheets."""

from __future__ import annotations

import re
from pathlib import Path

from landcue.data.datasets.common import Facts, Sheet, image_files, read_mat, read_sheet, subfolders
from landcue.data.images import is_image_path
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

UCMERCED = Facts(
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

_UCM_TABLES = ("LandUse_Multilabeled.txt", "LandUse_Multilabeled.xlsx", "LandUse_multilabels.mat")
_UCM_FOLDERS = ("multilabel", "", "UCMerced_LandUse")


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
    for name in _UCM_TABLES:
        for folder in _UCM_FOLDERS:
            path = root / folder / name
            if not path.is_file():
                continue
            if path.suffix == ".mat":
                rows = [f"{group}{number:02}" for group in CLASSES for number in range(100)]
                return read_mat(path, "labels", LABELS, rows)
            return read_sheet(path, LABELS)
    raise DataError(f"{root} holds no multilabel/{_UCM_TABLES[0]}; put the 17-label table there")


def ucmerced_files(images: Path, problems: list[Problem]) -> list[tuple[str, Path]]:
    """Return (scene class, file) of every image below ``UCMerced_LandUse/Images``."""
    return [
        (folder.name, path)
        for folder in subfolders(images)
        for path in image_files(folder, problems)
    ]


_AID_CLASSES = (
    "airport", "bareland", "baseballfield", "beach", "bridge", "center", "church", "commercial",
    "denseresidential", "desert", "farmland", "forest", "industrial", "meadow",
    "mediumresidential", "mountain", "park", "parking", "playground", "pond", "port",
    "railwaystation", "resort", "river", "school", "sparseresidential", "square", "stadium",
    "storagetanks", "viaduct",
)  # fmt: skip

ML_AID = Facts(
    title="ML-AID",
    images=3_000,
    labels=LABELS,
    classes=dict.fromkeys(_AID_CLASSES, 100),
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

_AID_PARTS = {"images_tr": "train", "images_test": "test"}
_AID_SHEET = "multilabel.csv"


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
    for folder, part in _AID_PARTS.items():
        if not (root / folder).is_dir():
            problems.append(Problem(str(root / folder), "is missing"))
            continue
        for path in sorted((root / folder).rglob("*")):
            if not is_image_path(path) or not path.is_file():
                continue
            labels = sheet.rows.get(path.stem)
            if labels is None:
                problems.append(Problem(str(path), f"has no row in {_AID_SHEET}"))
            else:
                records.append(Record(path.stem, path, labels, _aid_class(path.stem), part=part))
    for missing in sorted(sheet.rows.keys() - {record.id for record in records}):
        problems.append(Problem(_AID_SHEET, f"label row without an image: {missing!r}"))
    return make_image_set("ml_aid", root, records, sheet.label_names, problems)


def sheet_ml_aid(root: Path) -> Sheet:
    """Read ``multilabel.csv``.

    Raises:
        DataError: It is missing or broken.
    """
    path = root / _AID_SHEET
    if not path.is_file():
        raise DataError(f"{root} holds no {_AID_SHEET}; put ML-AID's label sheet there")
    return read_sheet(path, LABELS)


def _aid_class(stem: str) -> str:
    return re.sub(r"_?\d+$", "", stem)


MLRSNET_LABELS = (
    "airplane", "airport", "bare soil", "baseball diamond", "basketball court", "beach", "bridge",
    "buildings", "cars", "chaparral", "cloud", "containers", "crosswalk",
    "dense residential area", "desert", "dock", "factory", "field", "football field", "forest",
    "freeway", "golf course", "grass", "greenhouse", "gully", "habor", "intersection", "island",
    "lake", "mobile home", "mountain", "overpass", "park", "parking lot", "parkway", "pavement",
    "railway", "railway station", "river", "road", "roundabout", "runway", "sand", "sea", "ships",
    "snow", "snowberg", "sparse residential area", "stadium", "swimming pool", "tanks",
    "tennis court", "terrace", "track", "trail", "transmission tower", "trees", "water",
    "wetland", "wind turbine",
)  # fmt: skip

MLRSNET = Facts(
    title="MLRSNet",
    images=109_161,
    labels=MLRSNET_LABELS,
    classes={
        "airplane": 1762, "airport": 2189, "bareland": 1500, "baseball_diamond": 2002,
        "basketball_court": 2895, "beach": 2500, "bridge": 2500, "chaparral": 2500, "cloud": 1798,
        "commercial_area": 2500, "dense_residential_area": 2783, "desert": 2539,
        "eroded_farmland": 2500, "farmland": 2501, "forest": 2501, "freeway": 2500,
        "golf_course": 2515, "ground_track_field": 2500, "harbor&port": 2505,
        "industrial_area": 2110, "intersection": 2498, "island": 2499, "lake": 2500,
        "meadow": 2502, "mobile_home_park": 2500, "mountain": 2500, "overpass": 2500,
        "park": 1682, "parking_lot": 2502, "parkway": 2537, "railway": 2500,
        "railway_station": 2187, "river": 2500, "roundabout": 2040, "shipping_yard": 2500,
        "snowberg": 2555, "sparse_residential_area": 1829, "stadium": 2462, "storage_tank": 2500,
        "swimmimg_pool": 2005, "tennis_court": 2500, "terrace": 2500, "transmission_tower": 2500,
        "vegetable_greenhouse": 2601, "wetland": 2612, "wind_turbine": 2050,
    },
    size=(256, 256),
    pixel_size="0.1 to 10 m",
    citation='X. Qi et al., "MLRSNet: A Multi-Label High Spatial Resolution Remote Sensing '
    'Dataset for Semantic Scene Understanding", ISPRS Journal 169, 2020',
    homepage="github.com/cugbrs/MLRSNet",
    layout="Images/<category>/<category>_NNNNN.jpg and Labels/<category>.csv",
    defects=(
        "published spelling is kept: the labels habor and snowberg, the category swimmimg_pool",
        "storage_tank.csv leaves the name of its column snowberg blank; it is filled in",
        "numbers have gaps: airplane_00027 does not exist",
    ),
)  # fmt: skip


def read_mlrsnet(root: Path) -> ImageSet:
    """Read MLRSNet; the group of a record is its category.

    Args:
        root: The folder of ``Images`` and ``Labels`` (or ``labels``), or the one that holds it
            as ``MLRSNet``.

    Raises:
        DataError: Images or labels missing, other label names, a bad cell, or two files of one id.
    """
    base = existing_folder(root)
    if (base / "MLRSNet").is_dir():
        base = base / "MLRSNet"
    sheets = next((base / n for n in ("Labels", "labels") if (base / n).is_dir()), None)
    if not (base / "Images").is_dir() or sheets is None:
        raise DataError(f"{root} needs the folders Images and Labels of MLRSNet")
    records: list[Record] = []
    problems: list[Problem] = []
    for folder in subfolders(base / "Images"):
        sheet_path = sheets / f"{folder.name}.csv"
        if not sheet_path.is_file():
            problems.append(Problem(str(folder), f"no label sheet {sheet_path.name}; skipped"))
            continue
        rows = read_sheet(sheet_path, MLRSNET_LABELS).rows
        for path in image_files(folder, problems):
            labels = rows.pop(path.name, None)
            if labels is None:
                problems.append(Problem(str(path), f"has no row in {sheet_path.name}"))
            else:
                records.append(Record(path.stem, path, labels, group=folder.name))
        problems += [Problem(sheet_path.name, f"label row without an image: {n!r}") for n in rows]
    return make_image_set("mlrsnet", root, records, MLRSNET_LABELS, problems)
