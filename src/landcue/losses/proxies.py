"""What proxy losses share: checked proxies, cosines, Proxy-Anchor's aggregation, a module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError


class ProxyLoss(nn.Module):
    """A loss with learned vectors, one per label.

    Attributes:
        proxies: ``[C, d]``, Kaiming normal (fan-out); drawn from the global generator.
    """

    def __init__(
        self,
        function: Callable[[Tensor, Tensor, Tensor, Any], Tensor],
        options: object,
        n_labels: int,
        dim: int,
    ) -> None:
        super().__init__()
        self._function, self._options = function, options
        self.proxies = nn.Parameter(torch.empty(n_labels, dim))
        nn.init.kaiming_normal_(self.proxies, mode="fan_out")

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss of embeddings ``[n, d]`` and labels ``[n, C]``."""
        return self._function(z, y, self.proxies, self._options)


def check_proxies(z: Tensor, y: Tensor, proxies: Tensor) -> None:
    """Raise :class:`UsageError` unless proxies are ``[C, d]``."""
    if proxies.ndim != 2 or tuple(proxies.shape) != (y.shape[1], z.shape[1]):
        raise UsageError(
            f"need one proxy per label, [{y.shape[1]}, {z.shape[1]}], got {list(proxies.shape)}"
        )


def cosines(z: Tensor, proxies: Tensor) -> Tensor:
    """Return ``cos(z_i, proxy_c)`` as ``[n, C]``, in the precision of ``z``."""
    return F.normalize(z, dim=1) @ F.normalize(proxies.to(z), dim=1).T


def aggregate(pull: Tensor, push: Tensor, y: Tensor) -> Tensor:
    """Combine exponents over images and proxies as Proxy-Anchor does.

    ``1/|P+| sum_{c in P+} log(1 + sum_{i with c} exp(pull_ic)) + 1/C sum_c log(1 + sum_{i without
    c} exp(push_ic))``; P+ are the labels that some image carries. With no image in either sum of
    any label the result is 0.

    Args:
        pull: ``[n, C]``, exponents of positives.
        push: ``[n, C]``, exponents of negatives.
        y: Labels ``[n, C]`` of 0 and 1.
    """
    positive = y > 0
    n_present = positive.any(0).sum().clamp(min=1)
    attraction = _log_one_plus_sum(pull, positive).sum() / n_present
    return attraction + _log_one_plus_sum(push, ~positive).sum() / max(y.shape[1], 1)


def _log_one_plus_sum(exponents: Tensor, mask: Tensor) -> Tensor:
    kept = exponents.masked_fill(~mask, float("-inf"))
    return torch.logsumexp(torch.cat([kept.new_zeros(1, kept.shape[1]), kept]), dim=0)
