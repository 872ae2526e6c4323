"""Losses of images with one or several labels, all ``nn.Module``: ``loss(embeddings, labels)``.

Embeddings are float ``[n, d]``; labels are multi-hot ``[n, C]`` or class indices, integer ``[n]``.
Importing this package loads no torch; the first use of a name does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

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

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.losses.classification": ("BCE", "Asymmetric", "DistributionBalanced", "Softmax"),
        "landcue.losses.dhcl": ("DHCL",),
        "landcue.losses.gain": ("ApproxNDCG", "GainSoftmax"),
        "landcue.losses.hash_terms": ("BitBalance", "Quantization"),
        "landcue.losses.marc": ("MARC",),
        "landcue.losses.msc": ("MSC",),
        "landcue.losses.mulsupcon": ("MulSupCon",),
        "landcue.losses.multisupcon": ("MultiSupCon",),
        "landcue.losses.proxy_anchor": ("ProxyAnchor",),
        "landcue.losses.registry": (
            "CLASSIFICATIONS",
            "LOSSES",
            "create_classification",
            "create_loss",
        ),
        "landcue.losses.similarity_dissimilarity": ("SimilarityDissimilarity",),
        "landcue.losses.single_label": (
            "Contrastive",
            "MultiSimilarity",
            "NPair",
            "ProxyNCA",
            "Triplet",
        ),
        "landcue.losses.statistics": ("LabelStatistics",),
        "landcue.losses.supcon": ("SupCon",),
    },
)
