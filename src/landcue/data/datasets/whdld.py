"""WHDLD: pixel labels of Wuhan in six classes."""

from __future__ import annotations

from pathlib import Path

from landcue.data.datasets.common import Color, Facts, mask_labels
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError
from landcue.types import Problem, Record

LABELS = ("building", "road", "pavement", "vegetation", "bare soil", "water")
"""Names in the published order of the values 1 to 6; not alphabetical."""

COLORS: dict[Color, str] = {
    (255, 0, 0): "building",
    (255, 255, 0): "road",
    (192, 192, 0): "pavement",
    (0, 255, 0): "vegetation",
    (128, 128, 128): "bare soil",
    (0, 0, 255): "water",
}
"""Published palette of the label maps."""

FACTS = Facts(
    title="WHDLD",
    images=4_940,
    labels=LABELS,
    size=(256, 256),
    pixel_size="2 m",
    citation='Z. Shao, W. Zhou, X. Deng, M. Zhang, Q. Cheng, "Multilabel Remote Sensing Image '
    'Retrieval Based on Fully Convolutional Network", IEEE JSTARS 13, 2020',
    homepage="sites.google.com/view/zhouwx/dataset",
    layout="WHDLD/Images/whNNNN.jpg and WHDLD/ImagesPNG/whNNNN.png",
    defects=(
        "other code numbers the values alphabetically; here the palette's color decides, and the "
        "published order where the file has no such palette",
    ),
)

_MAPS = ("ImagesPNG", "Labels", "Images")


def read_whdld(root: Path) -> ImageSet:
    """Read WHDLD; the labels are the classes that occur in the label maps.

    Args:
        root: The folder of ``Images``, or the one that holds it as ``WHDLD``. The label maps lie
            in ``ImagesPNG``, in ``Labels``, or beside the photos.

    Raises:
        DataError: Photos or label maps missing, or a label map with an unknown value.
    """
    base = existing_folder(root)
    if (base / "WHDLD").is_dir():
        base = base / "WHDLD"
    if not (base / "Images").is_dir():
        raise DataError(f"{root} holds no Images; pass the folder of WHDLD ({FACTS.layout})")
    maps: dict[str, Path] = {}
    for folder in _MAPS:
        for path in sorted((base / folder).glob("*.png")):
            maps.setdefault(path.stem, path)
    records: list[Record] = []
    problems: list[Problem] = []
    for path in sorted((base / "Images").glob("*.jpg")):
        label_map = maps.pop(path.stem, None)
        if label_map is None:
            problems.append(Problem(str(path), "image without a label map"))
        else:
            records.append(Record(path.stem, path, mask_labels(label_map, LABELS, COLORS)))
    for path in maps.values():
        problems.append(Problem(str(path), "label map without an image"))
    return make_image_set("whdld", root, records, LABELS, problems)
