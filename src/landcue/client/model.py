"""What a service tells of a model: its making and its scores, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Range = tuple[float | None, float | None]
"""From and to; ``None`` where a number is undefined."""


@dataclass(frozen=True, slots=True)
class TestScores:
    """Scores on images that a model was not trained on, as its maker measured them.

    Attributes:
        about: What was measured.
        spaces: Metrics by space; ``chance`` is one of them.
    """

    about: str
    spaces: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> TestScores:
        """Read a part of an answer."""
        return cls(value["about"], value["spaces"])


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """How a model is built and was made; empty where its archive does not keep it.

    Attributes:
        archive: That the model made.
        fingerprint: SHA-256 of the model.
        settings: Backbone, sizes, space.
        training: Data, split, seed, loss.
        training_images: How many, if known.
        training_labels: Training images by label.
        validation: Metrics on the part that the model was chosen on.
        test: Scores on images that it was not trained on.
        regions: Whether similar regions can be asked for.
    """

    archive: str
    fingerprint: str
    settings: Mapping[str, str | int | float | bool]
    training: Mapping[str, str | int | float | bool]
    training_images: int | None
    training_labels: Mapping[str, int]
    validation: Mapping[str, float]
    test: TestScores | None
    regions: bool

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> ModelInfo:
        """Read an answer."""
        test = value["test"]
        return cls(
            archive=value["archive"],
            fingerprint=value["fingerprint"],
            settings=value["settings"],
            training=value["training"],
            training_images=value["training_images"],
            training_labels=value["training_labels"],
            validation=value["validation"],
            test=None if test is None else TestScores.read(test),
            regions=value["regions"],
        )


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How well the records of one label find others with labels of theirs.

    Attributes:
        mean: Average precision over the queries that carry the label, 0..1.
        chance: The same, expected of a random order.
        n_query: Queries that carry the label.
        n_gallery: Records that carry it.
        third: ``rare``, ``medium`` or ``frequent`` by ``n_gallery``; ``None`` without a query.
    """

    mean: float | None
    chance: float | None
    n_query: int
    n_gallery: int
    third: str | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> LabelScore:
        """Read one of an answer's labels."""
        sizes = value["n_query"], value["n_gallery"]
        return cls(value["mAP"], value["chance"], *sizes, value["third"])


@dataclass(frozen=True, slots=True)
class SpaceScores:
    """Scores in one space; ``None`` stands for an undefined number.

    Attributes:
        protocol: By name.
        protocol_fingerprint: Differs where two protocols do.
        rules: That hold for all metrics.
        counts: Sizes: ``n_query``, ``n_gallery`` and so on.
        metrics: By name.
        chance: The same, expected of a random order.
        intervals: Of 95 %, by metric.
        bands: Worst and best order of equal distances, by metric, where that was computed.
        per_label: By label.
        macro: Means over labels: ``all`` and those of a third.
        definitions: Of the metrics.
    """

    protocol: str
    protocol_fingerprint: str
    rules: tuple[str, ...]
    counts: Mapping[str, int]
    metrics: Mapping[str, float | None]
    chance: Mapping[str, float | None]
    intervals: Mapping[str, Range]
    bands: Mapping[str, Range]
    per_label: Mapping[str, LabelScore]
    macro: Mapping[str, float | None]
    definitions: Mapping[str, str]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> SpaceScores:
        """Read one of an answer's spaces."""
        return cls(
            protocol=value["protocol"],
            protocol_fingerprint=value["protocol_fingerprint"],
            rules=tuple(value["rules"]),
            counts=value["counts"],
            metrics=value["metrics"],
            chance=value["chance"],
            intervals={name: (low, high) for name, (low, high) in value["intervals"].items()},
            bands={name: (low, high) for name, (low, high) in value["bands"].items()},
            per_label={name: LabelScore.read(one) for name, one in value["per_label"].items()},
            macro=value["macro"],
            definitions=value["definitions"],
        )


@dataclass(frozen=True, slots=True)
class OwnScores:
    """How well annotated records of an archive find each other.

    Attributes:
        archive: By name.
        part: ``test``: not trained on; ``all``: may include training images.
        annotated: Annotated records of the part.
        taken: Of these, drawn at random; each searches all others.
        about: The same in words.
        spaces: ``embedding`` and, where there are codes, ``code``.
    """

    archive: str
    part: str
    annotated: int
    taken: int
    about: str
    spaces: Mapping[str, SpaceScores]

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> OwnScores:
        """Read an answer."""
        return cls(
            archive=value["archive"],
            part=value["part"],
            annotated=value["annotated"],
            taken=value["taken"],
            about=value["about"],
            spaces={name: SpaceScores.read(one) for name, one in value["spaces"].items()},
        )
