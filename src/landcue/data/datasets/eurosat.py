"""EuroSAT: 10 classes of Sentinel-2 patches, as RGB JPEG or with 13 bands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from landcue.data.datasets.bigearthnet import SENTINEL_2
from landcue.data.datasets.common import Facts, read_class_folders
from landcue.data.imageset import ImageSet

_CLASSES = {
    "AnnualCrop": 3000, "Forest": 3000, "HerbaceousVegetation": 3000, "Highway": 2500,
    "Industrial": 2500, "Pasture": 2000, "PermanentCrop": 2500, "Residential": 3000,
    "River": 2500, "SeaLake": 3000,
}  # fmt: skip

BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12", "B8A",
)  # fmt: skip
"""Order of the bands in the 13-band files."""

FACTS = Facts(
    title="EuroSAT",
    images=27_000,
    labels=tuple(_CLASSES),
    classes=_CLASSES,
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
)

_BELOW = (
    "",
    "2750",
    "EuroSAT/2750",
    "EuroSAT_RGB",
    "ds/images/remote_sensing/otherDatasets/sentinel_2/tif",
    "EuroSAT_MS",
)


def read_eurosat(root: Path) -> ImageSet:
    """Read EuroSAT; the scene class is the only label. Records carry the sensor ``sentinel-2``.

    Where both forms lie below ``root`` the RGB one is taken; pass the ``tif`` folder itself for
    the bands.

    Args:
        root: The folder of the class folders, or one above it in the published layout.

    Raises:
        DataError: No class folder, no image, or two files of one id.
    """
    images = read_class_folders("eurosat", FACTS, root, _BELOW)
    return images.subset(replace(record, sensor=SENTINEL_2) for record in images.records)
