"""Images, labels, splits and where they come from. No torch.

>>> from landcue import data
>>> sorted(data.DATASETS)[:3]
['aid', 'bigearthnet', 'dlrsd']
>>> data.load_dataset("ucmerce", "DATA")
Traceback (most recent call last):
landcue.errors.UsageError: unknown dataset 'ucmerce' (did you mean 'ucmerced'?)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.data.datasets import (
        DATASETS,
        FACTS,
        DatasetReport,
        check_dataset,
        detect_source,
        load_dataset,
    )
    from landcue.data.datasets.common import Facts
    from landcue.data.images import Picture, read_bands, read_image, read_picture
    from landcue.data.imageset import ImageSet
    from landcue.data.marks import Marks, read_marks
    from landcue.data.sources import open_source
    from landcue.data.splits import apply_split
    from landcue.types import Record

__all__ = [
    "DATASETS",
    "FACTS",
    "DatasetReport",
    "Facts",
    "ImageSet",
    "Marks",
    "Picture",
    "Record",
    "apply_split",
    "check_dataset",
    "detect_source",
    "load_dataset",
    "open_source",
    "read_bands",
    "read_image",
    "read_marks",
    "read_picture",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.data.datasets": (
            "DATASETS",
            "DatasetReport",
            "FACTS",
            "check_dataset",
            "detect_source",
            "load_dataset",
        ),
        "landcue.data.datasets.common": ("Facts",),
        "landcue.data.images": ("Picture", "read_bands", "read_image", "read_picture"),
        "landcue.data.imageset": ("ImageSet",),
        "landcue.data.marks": ("Marks", "read_marks"),
        "landcue.data.sources": ("open_source",),
        "landcue.data.splits": ("apply_split",),
        "landcue.types": ("Record",),
    },
)
