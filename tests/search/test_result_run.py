"""Results of searches are runs that landcue.metrics evaluates."""

from __future__ import annotations

import numpy as np
import pytest

import landcue
from landcue import metrics
from made_archive import make_archive


def test_results_are_evaluated_as_a_run(tmp_path):
    make_archive(tmp_path / "archive", n=60).close()
    archive = landcue.open(tmp_path / "archive")
    ids = [id_ for id_ in archive.ids() if archive.labels_of(id_)]
    labels = np.array(
        [[name in archive.labels_of(id_) for name in archive.manifest.label_names] for id_ in ids]
    )
    vectors = np.concatenate([archive.embed(id_) for id_ in ids])
    every = archive.search_many(ids, k=60)
    gains = metrics.gains(labels, labels)
    qrels = {
        query: {item: gains[row, column] for column, item in enumerate(ids) if column != row}
        for row, query in enumerate(ids)
    }
    # Records without labels are in the results too: they are not relevant to anything.
    found = metrics.evaluate_run(every, qrels, n_gallery=60, exclude_self=True)
    others = [id_ for id_ in archive.ids() if id_ not in ids]
    everything = np.concatenate([vectors, *(archive.embed(id_) for id_ in others)])
    held = np.concatenate([labels, np.zeros((len(others), labels.shape[1]), bool)])
    expected = metrics.evaluate(
        vectors,
        metrics.annotate(ids, labels),
        gallery=everything,
        gallery_labels=metrics.annotate([*ids, *others], held),
        exclude_self=True,
        protocol="ml-retrieval-v1",
    )
    for name in ("mAP", "nDCG@10", "P@5", "hit rate@1", "recall@100"):
        assert found.metrics[name] == pytest.approx(expected.metrics[name], abs=1e-6), name
