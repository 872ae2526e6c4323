"""BigEarthNet v2: Sentinel-2 patches of ten countries with 19 classes."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from landcue.data.datasets.common import Facts
from landcue.data.imageset import ImageSet, existing_folder, make_image_set
from landcue.errors import DataError, first_line
from landcue.types import Problem, Record

LABELS = (
    "Urban fabric",
    "Industrial or commercial units",
    "Arable land",
    "Permanent crops",
    "Pastures",
    "Complex cultivation patterns",
    "Land principally occupied by agriculture, with significant areas of natural vegetation",
    "Agro-forestry areas",
    "Broad-leaved forest",
    "Coniferous forest",
    "Mixed forest",
    "Natural grassland and sparsely vegetated areas",
    "Moors, heathland and sclerophyllous vegetation",
    "Transitional woodland, shrub",
    "Beaches, dunes, sands",
    "Inland wetlands",
    "Coastal wetlands",
    "Inland waters",
    "Marine waters",
)

BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12",
)  # fmt: skip
"""Band files of a patch, in the order of the wavelengths; B10 is not part of level 2A."""

FACTS = Facts(
    title="BigEarthNet v2",
    images=480_038,
    labels=LABELS,
    parts={"train": 237_871, "val": 122_342, "test": 119_825},
    size=(120, 120),
    pixel_size="10, 20 and 60 m",
    citation='K. N. Clasen et al., "reBEN: Refined BigEarthNet Dataset for Remote Sensing Image '
    'Analysis", IGARSS 2025',
    homepage="bigearth.net",
    layout="metadata.parquet and BigEarthNet-S2/<tile>/<patch>/<patch>_B01.tif … _B12.tif",
    defects=(
        "549,488 patches in all: those with snow, cloud or shadow stand in a table of their own "
        "and are not read",
    ),
)

IMAGES = "BigEarthNet-S2"
SENTINEL_2 = "sentinel-2"
"""What records of Sentinel-2 patches call their sensor."""
METADATA = "metadata.parquet"

_PARTS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


def read_bigearthnet(root: Path) -> ImageSet:
    """Read the patches of BigEarthNet v2 that ``metadata.parquet`` lists.

    One record per patch; its path is the folder of the band files (see
    :func:`landcue.data.datasets.bands.read_rgb`), its group the Sentinel-2 tile, its time the
    acquisition, and its part that of the published split (``--split published``).

    Args:
        root: The folder of ``metadata.parquet`` and ``BigEarthNet-S2``.

    Raises:
        DataError: Table or patches missing, or a label or part the table should not hold.
    """
    table = existing_folder(root) / METADATA
    if not (root / IMAGES).is_dir():
        raise DataError(f"{root} holds no {IMAGES}; unpack the Sentinel-2 patches there")
    present: dict[str, set[str]] = {}
    known = set(LABELS)
    records: list[Record] = []
    problems: list[Problem] = []
    for row, (patch, labels, part) in enumerate(_read_table(table), start=1):
        unknown = [name for name in labels if name not in known]
        if unknown or part not in _PARTS:
            what = f"label {unknown[0]!r}" if unknown else f"split {part!r}"
            raise DataError(f"{table} row {row} ({patch}): unknown {what}; is this version 2?")
        tile = patch.rsplit("_", 2)[0]
        if tile not in present:
            folder = root / IMAGES / tile
            present[tile] = set(os.listdir(folder)) if folder.is_dir() else set()
        if patch not in present[tile]:
            problems.append(Problem(f"{METADATA} row {row}", f"no folder of patch {patch!r}"))
            continue
        records.append(
            Record(
                id=patch,
                path=root / IMAGES / tile / patch,
                labels=tuple(name for name in LABELS if name in labels),
                group=tile,
                datetime=_time(patch),
                part=_PARTS[part],
                sensor=SENTINEL_2,
            )
        )
    return make_image_set("bigearthnet", root, records, LABELS, problems)


def band_files(patch: Path) -> dict[str, Path]:
    """Return the file of each band of a patch folder, whether it exists or not."""
    return {band: patch / f"{patch.name}_{band}.tif" for band in BANDS}


def _read_table(path: Path) -> list[tuple[str, list[str], str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise DataError(f"{path} is missing; put BigEarthNet's table of patches there")
    columns = ["patch_id", "labels", "split"]
    try:
        table: Any = pq.read_table(path, columns=columns)
    except (pa.ArrowException, OSError) as error:
        first = first_line(error)
        raise DataError(f"{path} is no readable Parquet table ({first}); fetch it again") from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}; is this version 2?")
    return list(zip(*(table[name].to_pylist() for name in columns), strict=True))


def _time(patch: str) -> datetime | None:
    """Read the acquisition time from ``S2A_MSIL2A_20170613T101031_N9999_…``."""
    fields = patch.split("_")
    try:
        return datetime.strptime(fields[2], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except (IndexError, ValueError):
        return None
