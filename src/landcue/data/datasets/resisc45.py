"""NWPU-RESISC45: 45 scene classes x 700 images."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets.common import Facts, read_class_folders
from landcue.data.imageset import ImageSet

LABELS = (
    "airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge", "chaparral",
    "church", "circular_farmland", "cloud", "commercial_area", "dense_residential", "desert",
    "forest", "freeway", "golf_course", "ground_track_field", "harbor", "industrial_area",
    "intersection", "island", "lake", "meadow", "medium_residential", "mobile_home_park",
    "mountain", "overpass", "palace", "parking_lot", "railway", "railway_station",
    "rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship", "snowberg",
    "sparse_residential", "stadium", "storage_tank", "tennis_court", "terrace",
    "thermal_power_station", "wetland",
)  # fmt: skip

FACTS = Facts(
    title="NWPU-RESISC45",
    images=31_500,
    labels=LABELS,
    classes=dict.fromkeys(LABELS, 700),
    size=(256, 256),
    pixel_size="0.2 to 30 m",
    multi_label=False,
    citation='G. Cheng, J. Han, X. Lu, "Remote Sensing Image Scene Classification: Benchmark and '
    'State of the Art", Proceedings of the IEEE 105(10), 2017',
    homepage="doi.org/10.1109/jproc.2017.2675998",
    layout="NWPU-RESISC45/<class>/<class>_NNN.jpg",
)


def read_resisc45(root: Path) -> ImageSet:
    """Read NWPU-RESISC45; the scene class is the only label.

    Args:
        root: The folder of the class folders, or the one that holds it as ``NWPU-RESISC45``.

    Raises:
        DataError: No class folder, no image, or two files of one id.
    """
    return read_class_folders("resisc45", FACTS, root, ("", "NWPU-RESISC45"))
