"""Scores of one trained model on one part, kept on disk so that nothing is measured twice."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from landcue.codes.cue import CueCodes, base2, hadamard
from landcue.codes.hashers import fit_decoder, fit_hasher
from landcue.codes.packing import code_statistics, pack_bits
from landcue.data.imageset import ImageSet
from landcue.data.splits import data_id
from landcue.errors import DataError, ModelError, UsageError, did_you_mean
from landcue.files import read_json, write_atomic
from landcue.metrics.annotations import Annotations
from landcue.metrics.distances import Distances, cosine, cue, hamming, time_queries
from landcue.metrics.evaluation import evaluate_distances
from landcue.metrics.own_label import OF_LABELS
from landcue.metrics.relevance import Floats
from landcue.metrics.report import Report
from landcue.models.checkpoint import load_checkpoint
from landcue.training.config import TrainingConfig
from landcue.training.evaluation import Spaces, annotate, count_labels, encode_images
from landcue.training.images import ImageDataset, Message, ignore
from landcue.types import ByteArray

if TYPE_CHECKING:
    from landcue.experiments.spec import Spec

CLUSTER = "scene class"
UNLEARNED = ("sign", "itq", "lsh")
ASYMMETRIC = ("asymmetric", "asymmetric-cue")
RANKINGS = ("embedding", "features", "code", "label", "label-first", "cue", *ASYMMETRIC, *UNLEARNED)
_MOST_WEIGHT = 4096
_WEIGHTED = re.compile(r"^cue\*([0-9]+)$")


@dataclass(frozen=True, slots=True)
class Ranking:
    """A way to rank: its kind, and the label weight of a cue code."""

    kind: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Ranked:
    """Distances of a query part to a gallery, and what a record costs.

    Attributes:
        distances: Of every query to every gallery image.
        size: What is stored per record, such as ``128 floats`` or ``64 + 17 bits``.
        bits: Its bits; ``None`` for floats.
        imbalance: Mean |bit mean| of the codes' bits as -1 and 1; ``None`` for floats.
        distinct: Different codes among the queries; ``None`` for floats.
    """

    distances: Distances
    size: str
    bits: int | None = None
    imbalance: float | None = None
    distinct: int | None = None


def parse_ranking(name: str) -> Ranking:
    """Read the name of a ranking.

    ``embedding`` and ``features`` are floats; ``code`` is the hash code alone; ``label`` the
    predicted labels' code alone; ``cue`` both with equal weight, ``cue*4`` with a label bit worth
    4 hash bits, ``label-first`` with one worth more than all hash bits; ``asymmetric`` compares the
    query's embedding with embeddings decoded from ``code``, ``asymmetric-cue`` from ``cue``;
    ``sign``, ``itq`` and ``lsh`` are unlearned codes of the embedding.
    """
    if match := _WEIGHTED.match(name):
        if int(match[1]) > _MOST_WEIGHT:
            raise UsageError(f"ranking {name!r}: a label weight of at most {_MOST_WEIGHT}, please")
        return Ranking("cue", int(match[1]))
    if name not in RANKINGS:
        raise UsageError(f"unknown ranking {name!r}{did_you_mean(name, RANKINGS)}")
    return Ranking(name)


def needs_train(name: str) -> bool:
    """Whether a ranking is fitted to the embeddings of the train part."""
    return parse_ranking(name).kind in (*UNLEARNED, *ASYMMETRIC)


def needs_bits(name: str) -> bool:
    """Whether a ranking makes codes of any length, which the experiment's ``bits`` must name."""
    return parse_ranking(name).kind in UNLEARNED


def needs_hash_head(name: str) -> bool:
    """Whether a ranking compares the model's own hash codes."""
    return parse_ranking(name).kind in ("code", "cue", "label-first", *ASYMMETRIC)


def needs_label_head(name: str) -> bool:
    """Whether a ranking compares predicted labels."""
    return parse_ranking(name).kind in ("label", "cue", "label-first", "asymmetric-cue")


def rank(
    name: str,
    query: Spaces,
    gallery: Spaces,
    *,
    train: Spaces | None = None,
    bits: int | None = None,
    exclusive_labels: bool = False,
    codebook: str = "base2",
    seed: int = 0,
) -> Ranked:
    """Rank a gallery for queries.

    Args:
        name: See :func:`parse_ranking`.
        query: The queries in every space of the model.
        gallery: The gallery, from the same model.
        train: The train part, for unlearned codes and asymmetric rankings.
        bits: Length of an unlearned code.
        exclusive_labels: Whether an image has exactly one label; its label code is then a word of
            the codebook and not one bit per label.
        codebook: ``base2`` or ``hadamard``.
        seed: Of the unlearned codes.
    """
    ranking = parse_ranking(name)
    if ranking.kind in ("embedding", "features"):
        ours, theirs = getattr(query, ranking.kind), getattr(gallery, ranking.kind)
        return Ranked(cosine(ours, theirs), f"{ours.shape[1]} floats")
    if ranking.kind in UNLEARNED:
        if train is None or bits is None:
            raise UsageError(f"ranking {name} needs bits and a train part to be fitted to")
        hasher = fit_hasher(ranking.kind, train.embedding, bits, seed)
        ours, theirs = hasher.encode(query.embedding), hasher.encode(gallery.embedding)
        return _codes(ours, hamming(ours, theirs, bits), bits, f"{bits} bits")
    if ranking.kind in ASYMMETRIC and train is None:
        raise UsageError(f"ranking {name} needs a train part to be fitted to")
    if ranking.kind in ("code", "asymmetric"):
        if not query.n_bits:
            raise UsageError(f"ranking {name} needs a hash head; set model.n_bits")
        if train is not None and ranking.kind in ASYMMETRIC:
            distances = _decoded(query, gallery.code, train, train.code, query.n_bits)
        else:
            distances = hamming(query.code, gallery.code, query.n_bits)
        return _codes(query.code, distances, query.n_bits, f"{query.n_bits} bits")

    def cue_codes(spaces: Spaces) -> CueCodes:
        with_hash = ranking.kind != "label"
        return _cue_codes(spaces, exclusive_labels, codebook, with_hash=with_hash)

    ours, theirs = cue_codes(query), cue_codes(gallery)
    weight = ours.n_hash_bits + 1 if ranking.kind == "label-first" else ranking.weight
    total = ours.n_label_bits + ours.n_hash_bits
    size = f"{ours.n_hash_bits} + {ours.n_label_bits} bits"
    if not ours.n_hash_bits:
        size = f"{ours.n_label_bits} bits"
    if train is not None and ranking.kind in ASYMMETRIC:
        known = cue_codes(train).joined()
        distances = _decoded(query, theirs.joined(), train, known, total)
    else:
        distances = cue(ours, theirs, weight)
    return _codes(ours.joined(), distances, total, size)


def _decoded(
    query: Spaces, gallery: ByteArray, train: Spaces, known: ByteArray, n_bits: int
) -> Distances:
    """Compare the queries' embeddings with those decoded from the gallery's codes."""
    scores = fit_decoder(known, train.embedding, n_bits).scorer(gallery)
    ours = query.embedding
    return Distances("decoded", len(ours), len(gallery), lambda part: -scores(ours[part]))


def _codes(codes: ByteArray, distances: Distances, n_bits: int, size: str) -> Ranked:
    found = code_statistics(codes, n_bits)
    return Ranked(distances, size, n_bits, found.imbalance, found.n_distinct)


def _cue_codes(spaces: Spaces, exclusive: bool, codebook: str, *, with_hash: bool) -> CueCodes:
    scores = spaces.label_scores
    if not scores.shape[1]:
        raise UsageError("a cue code needs a label head; set model.label_head")
    n_bits = spaces.n_bits if with_hash else 0
    if with_hash and not n_bits:
        raise UsageError("a cue code needs a hash head; set model.n_bits")
    hashes = spaces.code if with_hash else pack_bits(np.zeros((len(scores), 0), bool))
    if not exclusive:
        return CueCodes.from_label_scores(scores, hashes, n_bits)
    words = {"base2": base2, "hadamard": hadamard}[codebook](scores.shape[1])
    return CueCodes.from_classes(scores, words, hashes, n_bits)


Tick = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """Scores of one model and ranking on one part.

    Attributes:
        facts: ``fingerprint``, ``ranking``, ``part``, ``gallery``, ``size``, ``imbalance``,
            ``distinct``, ``n_query``, ``n_train``, ``retrieval_time`` (as in
            :class:`landcue.metrics.RetrievalTime`), and the stored ``bits`` (``None`` for floats).
        metrics: Mean of every metric, with ``own-label AP of rare labels`` and the like.
        chance: The same for a random order, where it is known.
        per_label: Own-label ``AP``, ``n_gallery`` and ``third`` by label.
        per_query: Values whose mean is the metric, ``[q]``; under :data:`CLUSTER` the number of
            each query's scene class, if the images have such groups.
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
    """Read what :meth:`Measured.save` wrote; ``None`` if it is not there."""
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

    def __init__(
        self,
        run: Path,
        config: TrainingConfig,
        images: ImageSet,
        tick: Tick,
        message: Message = ignore,
    ) -> None:
        checkpoint = load_checkpoint(run)
        if checkpoint.provenance.get("data_id") != data_id(images):
            raise ModelError(
                f"{run} was trained on other images, labels or parts than {config.data.root} holds "
                "now, and may have seen what is to be measured: restore them, or delete the run"
            )
        self._model = checkpoint.encoder
        self._config, self._images, self._tick, self._message = config, images, tick, message
        self._parts: dict[str, tuple[Annotations, Spaces]] = {}

    @property
    def fingerprint(self) -> str:
        """Of the model."""
        return self._model.fingerprint

    @property
    def exclusive_labels(self) -> bool:
        """Whether the model predicts exactly one label per image."""
        return self._model.config.exclusive_labels

    @property
    def label_counts(self) -> dict[str, int] | None:
        """Images of the train part by label: they decide which labels are rare."""
        return count_labels(self._images)

    @property
    def n_train(self) -> int:
        """Images of the train part."""
        return len(self._images.part("train").records)

    def part(self, name: str) -> tuple[Annotations, Spaces]:
        """Return labels and encodings of a part."""
        if name not in self._parts:
            records = self._images.part(name).records
            if not records:
                raise DataError(f"split {self._config.data.split} has no {name} part")
            size = self._model.config.image_size
            images = ImageDataset(records, self._images.label_names, size, self._config.data.bands)
            images.drop_unreadable()
            for problem in images.problems:
                self._message(f"skipped {problem.what}")
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
    scores = evaluate_distances(
        ranked.distances,
        query,
        gallery,
        protocol=spec.protocol,
        label_counts=encodings.label_counts,
    )
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
        "n_train": encodings.n_train,
        "retrieval_time": asdict(time_queries(ranked.distances)),
    }
    return _summary(facts, query, scores)


def _summary(facts: dict[str, Any], query: Annotations, scores: Report) -> Measured:
    metrics, per_query = dict(scores.metrics), dict(scores.per_query)
    for third, name in OF_LABELS.items():
        metrics[name] = scores.macro[third]
        chosen = [c for c, label in enumerate(query.label_names)
                  if scores.per_label[label].third
                  and third in ("all", scores.per_label[label].third)]  # fmt: skip
        per_query[name] = _as_mean_over_queries(scores.own_label[:, chosen])
    classes = [group for group in query.groups if group]
    if classes and len(classes) == len(query):
        per_query[CLUSTER] = np.unique(classes, return_inverse=True)[1].astype(np.float64)
    per_label = {
        label: {"AP": s.mean, "n_gallery": s.n_gallery, "third": s.third}
        for label, s in scores.per_label.items()
        if s.third
    }
    chance = {name: value for name, value in scores.chance.items() if np.isfinite(value)}
    return Measured(facts, metrics, chance, per_label, per_query)


def _as_mean_over_queries(own: Floats) -> Floats:
    """Return values ``[q]`` whose mean is the mean over labels of their own-label AP ``[q, C]``."""
    if not own.shape[1]:
        return np.full(len(own), np.nan)
    counted = np.maximum(np.count_nonzero(~np.isnan(own), axis=0), 1)
    return np.nansum(own / counted, axis=1) * len(own) / own.shape[1]
