"""Scores of one trained model on one part, kept on disk so that nothing is measured twice."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from landcue.data.imageset import ImageSet
from landcue.errors import DataError, ModelError
from landcue.experiments.rankings import needs_train, rank
from landcue.experiments.spec import Spec
from landcue.files import read_json, write_atomic
from landcue.metrics.annotations import Annotations
from landcue.metrics.evaluation import evaluate_distances
from landcue.metrics.relevance import Floats
from landcue.metrics.report import OF_LABELS, Report
from landcue.models.checkpoint import load_checkpoint
from landcue.training.config import TrainingConfig
from landcue.training.evaluation import Spaces, annotate, encode_images
from landcue.training.images import ImageDataset

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores of one model and ranking on one part.

    Attributes:
        facts: ``fingerprint``, ``ranking``, ``part``, ``gallery``, ``size``, ``imbalance``,
            ``distinct``, ``n_query``, and the stored ``bits`` (``None`` for floats).
        metrics: Mean of every metric, with ``mAP of rare labels`` and the like.
        chance: The same for a random order, where it is known.
        per_label: ``mAP``, ``n_gallery`` and ``third`` by label.
        per_query: Values whose mean is the metric, ``[q]``.
    """

    facts: dict[str, Any]
    metrics: dict[str, float]
    chance: dict[str, float]
    per_label: dict[str, dict[str, Any]]
    per_query: dict[str, Floats]

    def save(self, file: Path) -> None:
        """Write ``file`` (JSON) and the values per query beside it; the JSON comes last."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{k: v.astype(np.float64) for k, v in self.per_query.items()})  # pyright: ignore[reportArgumentType]
        write_atomic(file.with_suffix(".npz"), buffer.getvalue())
        content = {
            **self.facts,
            "metrics": {k: v if np.isfinite(v) else None for k, v in self.metrics.items()},
            "chance": self.chance,
            "per_label": self.per_label,
        }
        write_atomic(file, json.dumps(content, indent=1) + "\n")


def load_measured(file: Path) -> Measured | None:
    """Read what :meth:`Measured.save` wrote; ``None`` if it is not there.

    Raises:
        ModelError: Damaged files.
    """
    if not file.is_file():
        return None
    hint = "delete it, and the experiment measures it again"
    raw = read_json(file, ModelError, hint)
    try:
        with np.load(file.with_suffix(".npz"), allow_pickle=False) as arrays:
            per_query = {name: arrays[name] for name in arrays.files}
        metrics = {k: float("nan") if v is None else v for k, v in raw.pop("metrics").items()}
        return Measured(raw, metrics, raw.pop("chance"), raw.pop("per_label"), per_query)
    except (KeyError, OSError, ValueError) as error:
        raise ModelError(f"{file} or its .npz is damaged ({error}); {hint}") from None


class Encodings:
    """The parts of a run's data in every space of its model, encoded when first asked for."""

    def __init__(self, run: Path, config: TrainingConfig, images: ImageSet, tick: Tick) -> None:
        self._model = load_checkpoint(run).encoder
        self._config, self._images, self._tick = config, images, tick
        self._parts: dict[str, tuple[Annotations, Spaces]] = {}

    @property
    def fingerprint(self) -> str:
        """Of the model."""
        return self._model.fingerprint

    @property
    def exclusive_labels(self) -> bool:
        """Whether the model predicts exactly one label per image."""
        return self._model.config.exclusive_labels

    def part(self, name: str) -> tuple[Annotations, Spaces]:
        """Return labels and encodings of a part.

        Raises:
            DataError: The split has no such part.
        """
        if name not in self._parts:
            records = self._images.part(name).records
            if not records:
                raise DataError(f"split {self._config.data.split} has no {name} part")
            size = self._model.config.image_size
            images = ImageDataset(records, self._images.label_names, size, self._config.data.bands)
            images.drop_unreadable()
            spaces = encode_images(
                self._model, images, lambda i, n: self._tick(f"encoding {name}", i, n)
            )
            self._parts[name] = annotate(images), spaces
        return self._parts[name]


def measure(
    encodings: Encodings, ranking: str, part: str, spec: Spec, *, bits: int | None, seed: int
) -> Measured:
    """Rank one part and compute all metrics of the experiment's protocol."""
    query, spaces = encodings.part(part)
    against_train = part == "test" and spec.gallery == "train"
    gallery, theirs = encodings.part("train") if against_train else (query, spaces)
    train = encodings.part("train")[1] if needs_train(ranking) else None
    ranked = rank(
        ranking,
        spaces,
        theirs,
        train=train,
        bits=bits,
        exclusive_labels=encodings.exclusive_labels,
        codebook=spec.codebook,
        seed=seed,
    )
    scores = evaluate_distances(ranked.distances, query, gallery, protocol=spec.protocol)
    facts = {
        "fingerprint": encodings.fingerprint,
        "ranking": ranking,
        "part": part,
        "gallery": "train" if against_train else part,
        "size": ranked.size,
        "bits": ranked.bits,
        "imbalance": ranked.imbalance,
        "distinct": ranked.distinct,
        "n_query": len(query),
    }
    return _summary(facts, query, scores)


def _summary(facts: dict[str, Any], query: Annotations, scores: Report) -> Measured:
    average = scores.per_query["mAP"]
    metrics, per_query = dict(scores.metrics), dict(scores.per_query)
    for third, name in OF_LABELS.items():
        metrics[name] = scores.macro[third]
        chosen = [c for c, label in enumerate(query.label_names)
                  if scores.per_label[label].third
                  and third in ("all", scores.per_label[label].third)]  # fmt: skip
        per_query[name] = _as_mean_over_queries(average, query.labels[:, chosen])
    per_label = {
        label: {"mAP": s.mean, "n_gallery": s.n_gallery, "third": s.third}
        for label, s in scores.per_label.items()
        if s.third
    }
    chance = {name: value for name, value in scores.chance.items() if np.isfinite(value)}
    return Measured(facts, metrics, chance, per_label, per_query)


def _as_mean_over_queries(average: Floats, labels: np.ndarray[Any, Any]) -> Floats:
    """Return values ``[q]`` whose mean is the mean over labels of the mean AP of their queries."""
    counted = ~np.isnan(average)
    carried = labels.astype(np.float64) * counted[:, None]
    weight = (carried / np.maximum(carried.sum(0), 1)).sum(1) / max(labels.shape[1], 1)
    return np.where(counted, np.nan_to_num(average) * weight, 0.0) * len(average)
