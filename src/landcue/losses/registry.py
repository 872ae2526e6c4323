"""Losses by the name a config gives them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from landcue.errors import UsageError, did_you_mean
from landcue.losses.marc import MarcOptions, marc_loss
from landcue.losses.statistics import LabelStatistics
from landcue.losses.supcon import SupConOptions, supcon_loss

PairLoss = Callable[[Tensor, Tensor], Tensor]
"""Maps embeddings ``[n, d]`` and labels ``[n, C]`` to a scalar."""


@dataclass(frozen=True, slots=True)
class _Entry:
    options: type
    bind: Callable[[Any, LabelStatistics], PairLoss]


LOSSES: dict[str, _Entry] = {
    "marc": _Entry(MarcOptions, lambda o, s: lambda z, y: marc_loss(z, y, s, o)),
    "supcon": _Entry(SupConOptions, lambda o, _: lambda z, y: supcon_loss(z, y, o)),
}


def create_loss(name: str, options: dict[str, Any], statistics: LabelStatistics) -> PairLoss:
    """Bind a loss to its options and the training split's statistics.

    Raises:
        UsageError: Unknown loss, or an option it does not have, with near matches.
    """
    if name not in LOSSES:
        raise UsageError(f"unknown loss {name!r}{did_you_mean(name, LOSSES)}")
    entry = LOSSES[name]
    known = [field.name for field in fields(entry.options)]
    for key in options:
        if key not in known:
            raise UsageError(f"loss {name} has no option {key!r}{did_you_mean(key, known)}")
    try:
        return entry.bind(entry.options(**options), statistics)
    except TypeError as error:
        raise UsageError(f"loss {name}: an option has the wrong type ({error})") from None
