"""The thresholds of an audit, and why they are what they are (measured on UC Merced)."""

from __future__ import annotations

from dataclasses import dataclass

from landcue.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """What counts as a copy, a blank picture or a rare label.

    The measurements are those of ``docs/results/audit-ucmerced.md``.

    Attributes:
        max_distance: Perceptual hashes of near-duplicates differ in at most so many of 64 bits.
            8: a JPEG of quality 50, a resize, noise, changed brightness or contrast and a crop by
            a pixel stay below; the nearest upright pair of different pictures differs in 9.
        max_distance_turned: The same for turned and flipped copies. Half as much: seven more forms
            are seven more chances to agree by accident (7 is the least seen).
        min_correlation: Gray values (32 x 32) of near-duplicates correlate at least so much, which
            leaves out pictures that share no more than a coarse layout (0.2 to 0.6).
        min_cosine: Embeddings of look-alikes have at least this cosine. An encoder trained on
            labels draws different images of one kind together, so this finds candidates, no copies.
        overlap_neighbors: So many of an image's nearest embeddings are tried for a shared area.
        min_overlap_correlation: Fine detail of the shared area correlates at least so much. Crops
            of one picture have 1.00, parallel lines of different runways up to 0.88.
        min_shared: Least shared area, as a share of the image.
        blank: Gray values (32 x 32, 0..255) of a blank picture deviate by less than this.
        few: A label on fewer images of a part than this is too rare to be measured there.
    """

    max_distance: int = 8
    max_distance_turned: int = 4
    min_correlation: float = 0.9
    min_cosine: float = 0.999
    overlap_neighbors: int = 5
    min_overlap_correlation: float = 0.94
    min_shared: float = 0.25
    blank: float = 1.0
    few: int = 5

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance_turned <= self.max_distance <= 64:
            raise UsageError(
                f"hash distances {self.max_distance} and {self.max_distance_turned} (turned): "
                "need 0 <= turned <= upright <= 64"
            )
        for name in ("min_correlation", "min_cosine", "min_overlap_correlation", "min_shared"):
            value = getattr(self, name)
            if not 0 < value <= 1:
                raise UsageError(f"{name} is {value}: give a number above 0 and up to 1")
        if self.overlap_neighbors < 0 or self.few < 0 or not self.blank >= 0:
            raise UsageError("overlap_neighbors, few and blank cannot be negative")
