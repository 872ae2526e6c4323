"""What is published about a dataset, as data that a copy can be checked against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Facts:
    """The published facts of one dataset.

    Attributes:
        title: Its name in papers.
        images: How many images it has.
        labels: Label names as published, in the published order.
        citation: Paper to cite.
        homepage: Where its authors describe it.
        layout: Where images and labels lie below the folder given.
        classes: Images per scene class (or other group); empty when it has none.
        parts: Images per part of the published split; empty when the layout holds none.
        positives: Images per label, where published.
        size: Width and height in pixels; ``None`` when it varies.
        odd_sizes: How many images have another size.
        unlabeled: Ids of the images that carry no label.
        pixel_size: Ground size of a pixel.
        defects: Known defects and traps, one sentence each.
        multi_label: Whether an image may carry several labels.
    """

    title: str
    images: int
    labels: tuple[str, ...]
    citation: str
    homepage: str
    layout: str
    classes: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    parts: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    positives: Mapping[str, int] = field(default_factory=lambda: dict[str, int]())
    size: tuple[int, int] | None = None
    odd_sizes: int = 0
    unlabeled: tuple[str, ...] = ()
    pixel_size: str = ""
    defects: tuple[str, ...] = ()
    multi_label: bool = True
