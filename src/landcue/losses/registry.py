"""Losses by the name a config gives them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor, nn

from landcue.errors import UsageError, did_you_mean
from landcue.losses import single_label
from landcue.losses.asymmetric import AsymmetricOptions, asymmetric_loss
from landcue.losses.classification import SoftmaxOptions, label_loss, softmax_loss
from landcue.losses.dhcl import DhclOptions, dhcl_loss
from landcue.losses.marc import MarcOptions, marc_loss
from landcue.losses.msc import MscOptions, msc_loss
from landcue.losses.mulsupcon import MulSupConOptions, mulsupcon_loss
from landcue.losses.multisupcon import MultiSupConOptions, multisupcon_loss
from landcue.losses.proxies import ProxyLoss
from landcue.losses.proxy_anchor import ProxyAnchorOptions, proxy_anchor_loss
from landcue.losses.similarity_dissimilarity import (
    SimilarityDissimilarityOptions,
    similarity_dissimilarity_loss,
)
from landcue.losses.statistics import LabelStatistics
from landcue.losses.supcon import SupConOptions, supcon_loss

Build = Callable[[Any, LabelStatistics, int], nn.Module]
"""Makes a loss from its options, the training split's statistics and the embeddings' length."""


class PairLoss(nn.Module):
    """A loss without parameters as a module."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss of embeddings ``[n, d]`` and labels ``[n, C]``."""
        return self._function(z, y)


@dataclass(frozen=True, slots=True)
class _Entry:
    options: type
    build: Build


def _pairs(function: Callable[[Tensor, Tensor, Any], Tensor]) -> Build:
    return lambda o, _s, _d: PairLoss(lambda z, y: function(z, y, o))


def _proxies(function: Callable[[Tensor, Tensor, Tensor, Any], Tensor]) -> Build:
    return lambda o, s, d: ProxyLoss(function, o, len(s.frequency), d)


def _marc(options: MarcOptions, statistics: LabelStatistics, _dim: int) -> nn.Module:
    return PairLoss(lambda z, y: marc_loss(z, y, statistics, options))


LOSSES: dict[str, _Entry] = {
    "marc": _Entry(MarcOptions, _marc),
    "supcon": _Entry(SupConOptions, _pairs(supcon_loss)),
    "mulsupcon": _Entry(MulSupConOptions, _pairs(mulsupcon_loss)),
    "multisupcon": _Entry(MultiSupConOptions, _pairs(multisupcon_loss)),
    "similarity_dissimilarity": _Entry(
        SimilarityDissimilarityOptions, _pairs(similarity_dissimilarity_loss)
    ),
    "msc": _Entry(MscOptions, _proxies(msc_loss)),
    "proxy_anchor": _Entry(ProxyAnchorOptions, _proxies(proxy_anchor_loss)),
    "dhcl": _Entry(DhclOptions, _proxies(dhcl_loss)),
    "triplet": _Entry(single_label.TripletOptions, lambda o, _s, _d: single_label.triplet(o)),
    "multi_similarity": _Entry(
        single_label.MultiSimilarityOptions, lambda o, _s, _d: single_label.multi_similarity(o)
    ),
    "n_pair": _Entry(single_label.NPairOptions, lambda o, _s, _d: single_label.n_pair(o)),
    "contrastive": _Entry(
        single_label.ContrastiveOptions, lambda o, _s, _d: single_label.contrastive(o)
    ),
    "proxy_nca": _Entry(
        single_label.ProxyNcaOptions,
        lambda o, s, d: single_label.proxy_nca(o, len(s.frequency), d),
    ),
}


@dataclass(frozen=True, slots=True)
class NoOptions:
    """Options of a loss that has none."""


CLASSIFICATIONS: dict[str, tuple[type, Callable[[Tensor, Tensor, Any], Tensor]]] = {
    "bce": (NoOptions, lambda logits, y, _: label_loss(logits, y)),
    "asymmetric": (AsymmetricOptions, asymmetric_loss),
    "softmax": (SoftmaxOptions, softmax_loss),
}
NONE = "none"
"""The name of no metric loss at all."""


def create_loss(
    name: str, options: dict[str, Any], statistics: LabelStatistics, dim: int
) -> nn.Module:
    """Make a metric loss module: ``loss(z, y)`` maps ``[n, dim]`` and ``[n, C]`` to a scalar.

    Args:
        name: A key of ``LOSSES``.
        options: Its options by name; defaults for all others.
        statistics: Of the training split; their C labels are those of ``y``.
        dim: Length of the embeddings, for losses with learned proxies.

    Raises:
        UsageError: Unknown loss, or an option it does not have, with near matches; a loss that
            needs a library which is not installed.
    """
    if name not in LOSSES:
        raise UsageError(f"unknown loss {name!r}{did_you_mean(name, [*LOSSES, NONE])}")
    entry = LOSSES[name]
    return entry.build(_options(f"loss {name}", entry.options, options), statistics, dim)


def create_classification(name: str, options: dict[str, Any]) -> PairLoss:
    """Make a classification loss: ``loss(logits, y)`` maps twice ``[n, C]`` to a scalar.

    Args:
        name: A key of ``CLASSIFICATIONS``.
        options: Its options by name; defaults for all others.

    Raises:
        UsageError: Unknown loss, or an option it does not have, with near matches.
    """
    if name not in CLASSIFICATIONS:
        near = did_you_mean(name, CLASSIFICATIONS)
        raise UsageError(f"unknown classification loss {name!r}{near}")
    kind, function = CLASSIFICATIONS[name]
    made = _options(f"classification loss {name}", kind, options)
    return PairLoss(lambda logits, y: function(logits, y, made))


def _options(of: str, kind: type, values: dict[str, Any]) -> Any:
    known = [field.name for field in fields(kind)]
    for key in values:
        if key not in known:
            near = did_you_mean(key, known) if known else " (it has none)"
            raise UsageError(f"{of} has no option {key!r}{near}")
    checked = {key: _checked(of, key, value, kind) for key, value in values.items()}
    try:
        return kind(**checked)
    except TypeError as error:
        raise UsageError(f"{of}: an option has the wrong type ({error})") from None


def _checked(of: str, key: str, value: Any, kind: type) -> Any:
    default = getattr(kind(), key)
    if isinstance(default, str) and value is False:
        return "off"  # as YAML reads a bare off
    if isinstance(default, float) and not (
        isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    ):
        raise UsageError(f"{of}: option {key} must be a finite number, not {value!r}")
    return value
