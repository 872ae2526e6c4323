"""The evaluations of landcue.metrics under the protocol ml-retrieval-v1, for images with ids."""

from __future__ import annotations

from landcue import metrics

NAME = "ml-retrieval-v1"


def evaluate(query, gallery, distances, *, protocol=NAME, **options):
    return metrics.evaluate_distances(distances, query, gallery, protocol=protocol, **options)


def evaluate_embeddings(query, ours, gallery=None, theirs=None, *, protocol=NAME, **options):
    options |= {"gallery": theirs, "gallery_labels": gallery, "protocol": protocol}
    return metrics.evaluate(ours, query, **options)


def evaluate_codes(query, ours, n_bits, gallery=None, theirs=None, *, protocol=NAME, **options):
    options |= {"gallery": theirs, "gallery_labels": gallery, "protocol": protocol}
    return metrics.evaluate_codes(ours, n_bits, query, **options)


def evaluate_cue_codes(
    query, ours, weight=1, gallery=None, theirs=None, *, protocol=NAME, **options
):
    options |= {"gallery": theirs, "gallery_labels": gallery, "protocol": protocol}
    return metrics.evaluate_cue_codes(ours, query, weight, **options)
