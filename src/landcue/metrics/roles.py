"""Which images a protocol speaks of, and who queries whom."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from landcue.errors import UsageError, did_you_mean

PARTS = ("train", "val", "test")
TARGETS = {"labels": "annotated labels", "group": "scene class as the only label"}


@dataclass(frozen=True, slots=True)
class Roles:
    """The dataset of a protocol, its split, and the parts that query and are searched.

    Attributes:
        dataset: Name of a reader in ``landcue.data.datasets``.
        split: Split id; ``*`` stands for anything, such as the seed, which is then part of the
            result.
        target: What is relevant: the annotated ``labels``, or the ``group`` (scene class) as the
            only label.
        query: The part whose images query.
        gallery: The part that is searched; if it is the same one, each image searches the others.
    """

    dataset: str
    split: str
    target: str = "labels"
    query: str = "test"
    gallery: str = "test"

    def __post_init__(self) -> None:
        for word, known in (
            (self.query, PARTS),
            (self.gallery, PARTS),
            (self.target, tuple(TARGETS)),
        ):
            if word not in known:
                raise UsageError(f"unknown role {word!r}{did_you_mean(word, known)}")

    def describe(self) -> list[str]:
        """Return the roles, one line each."""
        gallery = f"the {self.gallery} part"
        if self.gallery == self.query:
            gallery = "the same part (leave-one-out)"
        return [
            f"dataset {self.dataset} ({TARGETS[self.target]}), split {self.split}",
            f"queries: the {self.query} part; gallery: {gallery}",
        ]

    def check(self, protocol: str, *, dataset: str, split: str, target: str, part: str) -> None:
        """Refuse images that the protocol does not speak of.

        Args:
            protocol: Its name.
            dataset: The dataset that was read.
            split: The id of the split that was applied.
            target: ``labels`` or ``group``.
            part: The part that is to query.

        Raises:
            UsageError: One of them differs; names all that do.
        """
        wrong = [
            f"{what} {asked} (not {given})"
            for what, asked, given, fits in (
                ("dataset", self.dataset, dataset, dataset == self.dataset),
                ("split", self.split, split, fnmatchcase(split, self.split)),
                ("target", self.target, target, target == self.target),
                ("query part", self.query, part, part == self.query),
            )
            if not fits
        ]
        if wrong:
            raise UsageError(
                f"protocol {protocol} asks for {', '.join(wrong)}: evaluate what it names, or use "
                "ml-retrieval-v1 or sl-retrieval-v1, which fit any images"
            )
