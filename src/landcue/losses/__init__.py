"""Losses of images with one or several labels, all ``nn.Module``: ``loss(embeddings, labels)``.

Embeddings are float ``[n, d]``; labels are multi-hot ``[n, C]`` or class indices, integer ``[n]``.
Importing this package loads no torch; the first use of a name does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landcue.losses.classification import BCE, Asymmetric, DistributionBalanced, Softmax
    from landcue.losses.dhcl import DHCL
    from landcue.losses.gain import ApproxNDCG, GainSoftmax
    from landcue.losses.hash_terms import BitBalance, Quantization
    from landcue.losses.marc import MARC
    from landcue.losses.msc import MSC
    from landcue.losses.mulsupcon import MulSupCon
    from landcue.losses.multisupcon import MultiSupCon
    from landcue.losses.proxy_anchor import ProxyAnchor
    from landcue.losses.registry import (
        CLASSIFICATIONS,
        LOSSES,
        create_classification,
        create_loss,
    )
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

_MODULES = {
    "classification": ("BCE", "Asymmetric", "DistributionBalanced", "Softmax"),
    "dhcl": ("DHCL",),
    "gain": ("ApproxNDCG", "GainSoftmax"),
    "hash_terms": ("BitBalance", "Quantization"),
    "marc": ("MARC",),
    "msc": ("MSC",),
    "mulsupcon": ("MulSupCon",),
    "multisupcon": ("MultiSupCon",),
    "proxy_anchor": ("ProxyAnchor",),
    "registry": ("CLASSIFICATIONS", "LOSSES", "create_classification", "create_loss"),
    "similarity_dissimilarity": ("SimilarityDissimilarity",),
    "single_label": ("Contrastive", "MultiSimilarity", "NPair", "ProxyNCA", "Triplet"),
    "statistics": ("LabelStatistics",),
    "supcon": ("SupCon",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "BCE",
    "CLASSIFICATIONS",
    "DHCL",
    "LOSSES",
    "MARC",
    "MSC",
    "ApproxNDCG",
    "Asymmetric",
    "BitBalance",
    "Contrastive",
    "DistributionBalanced",
    "GainSoftmax",
    "LabelStatistics",
    "MulSupCon",
    "MultiSimilarity",
    "MultiSupCon",
    "NPair",
    "ProxyAnchor",
    "ProxyNCA",
    "Quantization",
    "SimilarityDissimilarity",
    "Softmax",
    "SupCon",
    "Triplet",
    "create_classification",
    "create_loss",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
