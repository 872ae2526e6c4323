"""AID: 30 scene classes, 10,000 aerial images."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets.common import Facts, read_class_folders
from landcue.data.imageset import ImageSet

_CLASSES = {
    "Airport": 360, "BareLand": 310, "BaseballField": 220, "Beach": 400, "Bridge": 360,
    "Center": 260, "Church": 240, "Commercial": 350, "DenseResidential": 410, "Desert": 300,
    "Farmland": 370, "Forest": 250, "Industrial": 390, "Meadow": 280, "MediumResidential": 290,
    "Mountain": 340, "Park": 350, "Parking": 390, "Playground": 370, "Pond": 420, "Port": 380,
    "RailwayStation": 260, "Resort": 290, "River": 410, "School": 300, "SparseResidential": 300,
    "Square": 330, "Stadium": 290, "StorageTanks": 360, "Viaduct": 420,
}  # fmt: skip

FACTS = Facts(
    title="AID",
    images=10_000,
    labels=tuple(_CLASSES),
    classes=_CLASSES,
    size=(600, 600),
    pixel_size="0.5 to 8 m",
    multi_label=False,
    citation='G.-S. Xia et al., "AID: A Benchmark Data Set for Performance Evaluation of Aerial '
    'Scene Classification", IEEE TGRS 55(7), 2017',
    homepage="captain-whu.github.io/AID",
    layout="AID/<Class>/<class>_N.jpg",
    defects=("numbers are not padded: airport_10 sorts before airport_2",),
)


def read_aid(root: Path) -> ImageSet:
    """Read AID; the scene class is the only label.

    Args:
        root: The folder of the class folders, or the one that holds it as ``AID``.

    Raises:
        DataError: No class folder, no image, or two files of one id.
    """
    return read_class_folders("aid", FACTS, root, ("", "AID"))
