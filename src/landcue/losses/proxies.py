"""Losses with one learned vector per label: the vectors, cosines to them, Proxy-Anchor's sums."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.inputs import check_batch, count_classes, is_class_indices, show_options


class ProxyLoss(nn.Module):
    """A loss of images and one proxy per label; subclasses implement :meth:`compute`.

    Attributes:
        proxies: A parameter ``[C, d]``, Kaiming normal (fan-out), drawn from the global generator.
    """

    def __init__(self, n_classes: int | None = None, dim: int | None = None) -> None:
        super().__init__()
        self.proxies = add_proxies(self, n_classes, dim)

    @classmethod
    def from_labels(cls, labels: Any, dim: int | None = None, **options: Any) -> Self:
        """Make the loss for labels of a training split, ``[M, C]`` or class indices ``[M]``."""
        return cls(count_classes(labels), dim, **options)

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: None = None,
        ref_emb: None = None,
        ref_labels: None = None,
    ) -> Tensor:
        """Return the loss, a scalar, computed in float32 or, of float64 embeddings, in float64.

        Args:
            embeddings: ``[n, d]``, any float type.
            labels: Multi-hot ``[n, C]`` of any type, or class indices, integer ``[n]``.
            indices_tuple: Must be ``None``, as the next two: no images are compared.
            ref_emb: Must be ``None``.
            ref_labels: Must be ``None``.

        Raises:
            UsageError: Wrong shapes, embeddings that are not finite, labels out of range, or
                pairs to compare.
        """
        if not (indices_tuple is None and ref_emb is None and ref_labels is None):
            raise UsageError(
                f"{type(self).__name__} compares images with proxies, not with each other: it "
                "takes no indices_tuple, ref_emb or ref_labels"
            )
        with torch.autocast(embeddings.device.type, enabled=False):
            n_classes = known_classes(self.proxies) if is_class_indices(labels) else None
            z, y = check_batch(embeddings, labels, n_classes)
            fit_proxies(self.proxies, z, y)
            return self.compute(cosines(z, self.proxies), y)

    def extra_repr(self) -> str:
        """Return the options."""
        return show_options(self)

    def compute(self, cosine: Tensor, y: Tensor) -> Tensor:
        """Return the loss of cosines to the proxies ``[n, C]`` and multi-hot labels ``[n, C]``."""
        raise NotImplementedError


def add_proxies(module: nn.Module, n_classes: int | None, dim: int | None) -> nn.Parameter:
    """Return new proxies ``[C, d]``, drawn at the first batch unless both lengths are known."""

    def shape_from_state(_: nn.Module, state: dict[str, Any], prefix: str, *__: Any) -> None:
        held, loaded = module.proxies, state.get(prefix + "proxies")
        if isinstance(held, nn.UninitializedParameter) and loaded is not None:
            held.materialize(loaded.shape)

    if n_classes is None or dim is None:
        module.register_load_state_dict_pre_hook(shape_from_state)
        return cast(nn.Parameter, nn.UninitializedParameter())
    return _draw(nn.Parameter(torch.empty(n_classes, dim)))


def fit_proxies(proxies: nn.Parameter, z: Tensor, y: Tensor) -> None:
    """Draw proxies that have no shape yet for embeddings ``[n, d]`` and labels ``[n, C]``."""
    shape = (y.shape[1], z.shape[1])
    if isinstance(proxies, nn.UninitializedParameter):
        proxies.materialize(shape, device=z.device)
        _draw(proxies)
    if tuple(proxies.shape) != shape:
        raise UsageError(f"need one proxy per label, {list(shape)}, got {list(proxies.shape)}")


def known_classes(proxies: nn.Parameter) -> int:
    """Return C for class indices."""
    if isinstance(proxies, nn.UninitializedParameter):
        raise UsageError(
            "class indices do not say how many classes there are: pass n_classes and dim"
        )
    return len(proxies)


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


def _draw(proxies: nn.Parameter) -> nn.Parameter:
    nn.init.kaiming_normal_(proxies, mode="fan_out")
    return proxies
