"""MLRSNet: 109,161 images, 46 categories, 60 labels."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets.common import Facts, image_files, read_sheet, subfolders
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record

LABELS = (
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

FACTS = Facts(
    title="MLRSNet",
    images=109_161,
    labels=LABELS,
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
        rows = read_sheet(sheet_path, LABELS).rows
        for path in image_files(folder, problems):
            labels = rows.pop(path.name, None)
            if labels is None:
                problems.append(Problem(str(path), f"has no row in {sheet_path.name}"))
            else:
                records.append(Record(path.stem, path, labels, group=folder.name))
        problems += [Problem(sheet_path.name, f"label row without an image: {n!r}") for n in rows]
    return make_image_set("mlrsnet", root, records, LABELS, problems)
