"""AID, EuroSAT, NWPU-RESISC45 and PatternNet: a folder per scene class, which is the only label."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from landcue.data.datasets.bigearthnet import SENTINEL_2
from landcue.data.datasets.common import Facts, image_files, subfolders
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record

_AID = {
    "Airport": 360, "BareLand": 310, "BaseballField": 220, "Beach": 400, "Bridge": 360,
    "Center": 260, "Church": 240, "Commercial": 350, "DenseResidential": 410, "Desert": 300,
    "Farmland": 370, "Forest": 250, "Industrial": 390, "Meadow": 280, "MediumResidential": 290,
    "Mountain": 340, "Park": 350, "Parking": 390, "Playground": 370, "Pond": 420, "Port": 380,
    "RailwayStation": 260, "Resort": 290, "River": 410, "School": 300, "SparseResidential": 300,
    "Square": 330, "Stadium": 290, "StorageTanks": 360, "Viaduct": 420,
}  # fmt: skip

_EUROSAT = {
    "AnnualCrop": 3000, "Forest": 3000, "HerbaceousVegetation": 3000, "Highway": 2500,
    "Industrial": 2500, "Pasture": 2000, "PermanentCrop": 2500, "Residential": 3000,
    "River": 2500, "SeaLake": 3000,
}  # fmt: skip

_RESISC45 = (
    "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral",
    "church", "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert",
    "forest", "freeway", "golf_course", "ground_track_field", "harbor", "industrial_area",
    "intersection", "island", "lake", "meadow", "medium_residential", "mobile_home_park",
    "mountain", "overpass", "palace", "parking_lot", "railway", "railway_station",
    "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg",
    "sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace",
    "thermal_power_station", "wetland",
)  # fmt: skip

_PATTERNNET = (
    "airplane", "baseball_field", "basketball_court", "beach", "bridge", "cemetery", "chaparral",
    "christmas_tree_farm", "closed_road", "coastal_mansion", "crosswalk", "dense_residential",
    "ferry_terminal", "football_field", "forest", "freeway", "golf_course", "harbor",
    "intersection", "mobile_home_park", "nursing_home", "oil_gas_field", "oil_well", "overpass",
    "parking_lot", "parking_space", "railway", "river", "runway", "runway_marking",
    "shipping_yard", "solar_panel", "sparse_residential", "storage_tank", "swimming_pool",
    "tennis_court", "transformer_station", "wastewater_treatment_plant",
)  # fmt: skip

FACTS: dict[str, Facts] = {
    "aid": Facts(
        title="AID",
        images=10_000,
        labels=tuple(_AID),
        classes=_AID,
        size=(600, 600),
        pixel_size="0.5 to 8 m",
        multi_label=False,
        citation='G.-S. Xia et al., "AID: A Benchmark Data Set for Performance Evaluation of '
        'Aerial Scene Classification", IEEE TGRS 55(7), 2017',
        homepage="captain-whu.github.io/AID",
        layout="AID/<Class>/<class>_N.jpg",
        defects=("numbers are not padded: airport_10 sorts before airport_2",),
    ),
    "eurosat": Facts(
        title="EuroSAT",
        images=27_000,
        labels=tuple(_EUROSAT),
        classes=_EUROSAT,
        size=(64, 64),
        pixel_size="10 m",
        multi_label=False,
        citation='P. Helber, B. Bischke, A. Dengel, D. Borth, "EuroSAT: A Novel Dataset and Deep '
        'Learning Benchmark for Land Use and Land Cover Classification", IEEE JSTARS 12(7), 2019',
        homepage="github.com/phelber/EuroSAT",
        layout="2750/<Class>/<Class>_N.jpg (RGB) or "
        "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/<Class>/<Class>_N.tif (13 bands)",
        defects=(
            "numbers are not padded: Forest_10 sorts before Forest_2",
            "in the 13-band files B8A comes last, after B12",
        ),
    ),
    "resisc45": Facts(
        title="NWPU-RESISC45",
        images=31_500,
        labels=_RESISC45,
        classes=dict.fromkeys(_RESISC45, 700),
        size=(256, 256),
        pixel_size="0.2 to 30 m",
        multi_label=False,
        citation='G. Cheng, J. Han, X. Lu, "Remote Sensing Image Scene Classification: Benchmark '
        'and State of the Art", Proceedings of the IEEE 105(10), 2017',
        homepage="doi.org/10.1109/jproc.2017.2675998",
        layout="NWPU-RESISC45/<class>/<class>_NNN.jpg",
    ),
    "patternnet": Facts(
        title="PatternNet",
        images=30_400,
        labels=_PATTERNNET,
        classes=dict.fromkeys(_PATTERNNET, 800),
        size=(256, 256),
        multi_label=False,
        citation='W. Zhou, S. Newsam, C. Li, Z. Shao, "PatternNet: A Benchmark Dataset for '
        'Performance Evaluation of Remote Sensing Image Retrieval", ISPRS Journal 145, 2018',
        homepage="sites.google.com/view/zhouwx/dataset",
        layout="PatternNet/images/<class>/<class>NNN.jpg",
    ),
}
"""Published facts of each; the keys of ``classes`` are the names of its folders."""

_BELOW: dict[str, tuple[str, ...]] = {
    "aid": ("", "AID"),
    "eurosat": (
        "",
        "2750",
        "EuroSAT/2750",
        "EuroSAT_RGB",
        "ds/images/remote_sensing/otherDatasets/sentinel_2/tif",
        "EuroSAT_MS",
    ),
    "resisc45": ("", "NWPU-RESISC45"),
    "patternnet": ("", "images", "PatternNet/images"),
}
"""Where the class folders may lie below the user's folder, ``""`` for the folder itself."""


def read_class_folders(name: str, root: Path) -> ImageSet:
    """Read a data set of :data:`FACTS`; the scene class is the only label, and the group.

    Records of EuroSAT carry the sensor ``sentinel-2``. Where both of its forms lie below ``root``
    the RGB one is taken; pass the ``tif`` folder itself for the bands.

    Args:
        name: A key of :data:`FACTS`.
        root: The folder of the class folders, or one above it in the published layout.

    Raises:
        DataError: No class folder, no image, or two files of one id.
    """
    facts = FACTS[name]
    sensor = SENTINEL_2 if name == "eurosat" else None
    records: list[Record] = []
    problems: list[Problem] = []
    for folder in subfolders(_find_base(facts, existing_folder(root), _BELOW[name])):
        if folder.name not in facts.classes:
            problems.append(Problem(str(folder), f"is no class of {facts.title}; skipped"))
            continue
        for path in image_files(folder, problems):
            labels = (folder.name,)
            records.append(Record(path.stem, path, labels, group=folder.name, sensor=sensor))
    return make_image_set(name, root, records, facts.labels, problems)


def _find_base(facts: Facts, root: Path, below: Iterable[str]) -> Path:
    """Return the first folder that holds at least one class folder."""
    for folder in below:
        if any((root / folder / name).is_dir() for name in facts.classes):
            return root / folder
    first = sorted(facts.classes)[:3]
    raise DataError(
        f"{root} holds no class folder of {facts.title} ({', '.join(first)}, …); "
        f"need {facts.layout}"
    )
