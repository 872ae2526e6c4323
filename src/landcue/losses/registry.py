"""Losses by the name that a configuration gives them."""

from __future__ import annotations

import inspect
import math
from typing import Any

from torch import nn

from landcue.errors import UsageError, did_you_mean
from landcue.losses.classification import BCE, Asymmetric, DistributionBalanced, Softmax
from landcue.losses.dhcl import DHCL
from landcue.losses.gain import ApproxNDCG, GainSoftmax
from landcue.losses.marc import MARC, with_preset
from landcue.losses.msc import MSC
from landcue.losses.mulsupcon import MulSupCon
from landcue.losses.multisupcon import MultiSupCon
from landcue.losses.pairs import PairLoss
from landcue.losses.proxy_anchor import ProxyAnchor
from landcue.losses.similarity_dissimilarity import SimilarityDissimilarity
from landcue.losses.single_label import (
    Contrastive,
    MultiSimilarity,
    NPair,
    ProxyNCA,
    Triplet,
)
from landcue.losses.statistics import LabelStatistics
from landcue.losses.supcon import SupCon

LOSSES: dict[str, type[nn.Module]] = {
    "marc": MARC,
    "supcon": SupCon,
    "mulsupcon": MulSupCon,
    "multisupcon": MultiSupCon,
    "similarity_dissimilarity": SimilarityDissimilarity,
    "msc": MSC,
    "gain_softmax": GainSoftmax,
    "approx_ndcg": ApproxNDCG,
    "proxy_anchor": ProxyAnchor,
    "dhcl": DHCL,
    "triplet": Triplet,
    "multi_similarity": MultiSimilarity,
    "n_pair": NPair,
    "contrastive": Contrastive,
    "proxy_nca": ProxyNCA,
}
"""Metric losses of embeddings ``[n, d]``. Their options are their keyword-only arguments."""

CLASSIFICATIONS: dict[str, type[nn.Module]] = {
    "bce": BCE,
    "asymmetric": Asymmetric,
    "softmax": Softmax,
    "distribution_balanced": DistributionBalanced,
}
"""Losses of logits ``[n, C]``."""

NONE = "none"
"""The name of no metric loss at all."""


def create_loss(
    name: str, options: dict[str, Any], statistics: LabelStatistics, dim: int
) -> nn.Module:
    """Make a metric loss of unit-norm embeddings ``[n, dim]`` and labels ``[n, C]``.

    Args:
        name: A key of :data:`LOSSES`.
        options: Its options by name; defaults for all others.
        statistics: Of the training split; their C labels are those of the batches.
        dim: Length of the embeddings, for losses with learned proxies.

    Raises:
        UsageError: Unknown loss, or an option it does not have, with near matches; a loss that
            needs a library which is not installed.

    >>> import torch
    >>> statistics = LabelStatistics.from_labels(torch.eye(3))
    >>> create_loss("supcon", {"temperature": 0.2}, statistics, 8).temperature
    0.2
    """
    kind = LOSSES.get(name)
    if kind is None:
        raise UsageError(f"unknown loss {name!r}{did_you_mean(name, [*LOSSES, NONE])}")
    fit = {"statistics": statistics, "n_classes": len(statistics.counts), "dim": dim}
    wanted = inspect.signature(kind).parameters
    given = {key: value for key, value in fit.items() if key in wanted}
    chosen = with_preset(options) if kind is MARC else options
    loss = _make(f"loss {name}", kind, chosen, given)
    if isinstance(loss, PairLoss):
        loss.normalize = False
    return loss


def create_classification(
    name: str, options: dict[str, Any], statistics: LabelStatistics | None = None
) -> nn.Module:
    """Make a classification loss of logits and labels, ``[n, C]`` each.

    Args:
        name: A key of :data:`CLASSIFICATIONS`.
        options: Its options by name; defaults for all others.
        statistics: Of the training split, for losses that need them.

    Raises:
        UsageError: Unknown loss, or an option it does not have, with near matches; no statistics
            for a loss that needs them.

    >>> import torch
    >>> loss = create_classification("asymmetric", {"gamma_negative": 2})
    >>> loss(torch.zeros(2, 3), torch.eye(3)[:2])
    tensor(0.3118)
    """
    kind = CLASSIFICATIONS.get(name)
    if kind is None:
        near = did_you_mean(name, CLASSIFICATIONS)
        raise UsageError(f"unknown classification loss {name!r}{near}")
    given: dict[str, Any] = {}
    if kind is DistributionBalanced:
        if statistics is None:
            raise UsageError(f"classification loss {name} needs the label statistics of a split")
        given["statistics"] = statistics
    return _make(f"classification loss {name}", kind, options, given)


def _make(
    title: str, kind: type[nn.Module], options: dict[str, Any], given: dict[str, Any]
) -> nn.Module:
    """Call a class with options checked against its keyword-only arguments."""
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    for key in options:
        if key not in known:
            near = did_you_mean(key, known) if known else " (it has none)"
            raise UsageError(f"{title} has no option {key!r}{near}")
    checked = {key: _checked(title, key, value, known[key]) for key, value in options.items()}
    return kind(**given, **checked)


def _checked(title: str, key: str, value: Any, default: object) -> Any:
    if isinstance(default, str):
        if value is False or value is None:
            return "off"  # as YAML reads a bare off, and null
        if not isinstance(value, str):
            raise UsageError(f"{title}: option {key} must be a word, not {value!r}")
    if isinstance(default, float) and not (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ):
        raise UsageError(f"{title}: option {key} must be a finite number, not {value!r}")
    return value
