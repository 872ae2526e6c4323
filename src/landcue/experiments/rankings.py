"""The ways to rank images with one trained model, by the name a specification gives them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from landcue.codes.cue import CueCodes, base2, hadamard
from landcue.codes.hashers import fit_decoder, fit_hasher
from landcue.codes.packing import code_statistics, pack_bits
from landcue.errors import UsageError, did_you_mean
from landcue.metrics.distances import Distances, cosine, cue, hamming
from landcue.training.evaluation import Spaces
from landcue.types import ByteArray

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

    Raises:
        UsageError: There is no such ranking.
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

    Raises:
        UsageError: The model lacks what the ranking needs.
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
