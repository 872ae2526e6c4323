"""Measure retrieval: relevance, rankings with ties, metrics, protocols and reports. NumPy only.

>>> import numpy as np
>>> from landcue import metrics
>>> vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 1]]
>>> metrics.evaluate(vectors, [0, 0, 1, 1], ks=(1,)).metrics["hit rate@1"]
1.0
"""

from landcue.metrics.annotations import Annotations, annotate
from landcue.metrics.curves import (
    Curve,
    Curves,
    RadiusScores,
    compute_curves,
    radius_scores,
)
from landcue.metrics.distances import (
    Distances,
    RetrievalTime,
    cosine,
    cue,
    given,
    hamming,
    time_queries,
)
from landcue.metrics.evaluation import (
    evaluate,
    evaluate_codes,
    evaluate_cue_codes,
    evaluate_distances,
    evaluate_scores,
)
from landcue.metrics.intervals import (
    Comparison,
    SplitComparison,
    compare,
    compare_over_splits,
    holm,
    mean_intervals,
    mean_over_runs,
)
from landcue.metrics.own_label import LabelScore
from landcue.metrics.protocol import PROTOCOLS, Metric, Protocol, find_protocol
from landcue.metrics.relevance import gains, relevant
from landcue.metrics.report import Report, side_by_side
from landcue.metrics.runs import Qrels, Run, evaluate_run, read_qrels, read_run

__all__ = [
    "PROTOCOLS",
    "Annotations",
    "Comparison",
    "Curve",
    "Curves",
    "Distances",
    "LabelScore",
    "Metric",
    "Protocol",
    "Qrels",
    "RadiusScores",
    "Report",
    "RetrievalTime",
    "Run",
    "SplitComparison",
    "annotate",
    "compare",
    "compare_over_splits",
    "compute_curves",
    "cosine",
    "cue",
    "evaluate",
    "evaluate_codes",
    "evaluate_cue_codes",
    "evaluate_distances",
    "evaluate_run",
    "evaluate_scores",
    "find_protocol",
    "gains",
    "given",
    "hamming",
    "holm",
    "mean_intervals",
    "mean_over_runs",
    "radius_scores",
    "read_qrels",
    "read_run",
    "relevant",
    "side_by_side",
    "time_queries",
]
