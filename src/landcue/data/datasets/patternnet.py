"""PatternNet: 38 classes x 800 images, made for retrieval."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets.common import Facts, read_class_folders
from landcue.data.imageset import ImageSet

LABELS = (
    "airplane", "baseball_field", "basketball_court", "beach", "bridge", "cemetery", "chaparral",
    "christmas_tree_farm", "closed_road", "coastal_mansion", "crosswalk", "dense_residential",
    "ferry_terminal", "football_field", "forest", "freeway", "golf_course", "harbor",
    "intersection", "mobile_home_park", "nursing_home", "oil_gas_field", "oil_well", "overpass",
    "parking_lot", "parking_space", "railway", "river", "runway", "runway_marking",
    "shipping_yard", "solar_panel", "sparse_residential", "storage_tank", "swimming_pool",
    "tennis_court", "transformer_station", "wastewater_treatment_plant",
)  # fmt: skip

FACTS = Facts(
    title="PatternNet",
    images=30_400,
    labels=LABELS,
    classes=dict.fromkeys(LABELS, 800),
    size=(256, 256),
    multi_label=False,
    citation='W. Zhou, S. Newsam, C. Li, Z. Shao, "PatternNet: A Benchmark Dataset for '
    'Performance Evaluation of Remote Sensing Image Retrieval", ISPRS Journal 145, 2018',
    homepage="sites.google.com/view/zhouwx/dataset",
    layout="PatternNet/images/<class>/<class>NNN.jpg",
)


def read_patternnet(root: Path) -> ImageSet:
    """Read PatternNet; the scene class is the only label.

    Args:
        root: The folder of the class folders, or the one above ``images`` or ``PatternNet``.

    Raises:
        DataError: No class folder, no image, or two files of one id.
    """
    return read_class_folders("patternnet", FACTS, root, ("", "images", "PatternNet/images"))
