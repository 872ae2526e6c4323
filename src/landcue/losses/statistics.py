"""Label statistics of a training split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from landcue.errors import ModelError, UsageError
from landcue.losses.inputs import count_classes, is_class_indices, one_hot


@dataclass(frozen=True)
class LabelStatistics:
    """Counts of labels and label pairs, from the training split only.

    Attributes:
        n_images: M.
        counts: float64 ``[C, C]``; ``counts[c, d]`` images carry both labels, the diagonal counts
            each label.
        rarity_range: (mean, max - min) of the anchors' rarity rho over the split; see
            :meth:`rarity`.

    >>> import torch
    >>> statistics = LabelStatistics.from_labels(torch.tensor([[1, 1], [1, 0], [1, 0]]))
    >>> statistics.frequency.tolist()
    [1.0, 0.5]
    """

    n_images: int
    counts: Tensor
    rarity_range: tuple[float, float]

    @staticmethod
    def from_labels(labels: Any, n_classes: int | None = None) -> LabelStatistics:
        """Count the labels of a split.

        Args:
            labels: Multi-hot ``[M, C]`` or class indices, integer ``[M]``; a tensor or an array.
            n_classes: C, for class indices; by default the greatest one + 1.

        Raises:
            UsageError: No image, or labels out of range.
        """
        y = torch.as_tensor(labels)
        if is_class_indices(y) and len(y):
            y = one_hot(y, count_classes(y) if n_classes is None else n_classes)
        y = y.to(torch.float64)
        if y.ndim != 2 or len(y) == 0:
            raise UsageError(f"label statistics need labels [M >= 1, C], got {list(y.shape)}")
        if not bool(((y == 0) | (y == 1)).all()):
            raise UsageError("label statistics need labels of 0 and 1")
        counts = y.T @ y
        rho = LabelStatistics(len(y), counts, (0.0, 0.0)).rho(y)[y.sum(1) > 0]
        spread = (float(rho.mean()), float(rho.max() - rho.min())) if len(rho) else (0.0, 0.0)
        return LabelStatistics(len(y), counts, spread)

    @property
    def frequency(self) -> Tensor:
        """``f_c = (n_c + 1) / (M + 1)``, float64 ``[C]``."""
        return self.joint.diagonal()

    @property
    def joint(self) -> Tensor:
        """``Q_cd = (n_cd + 1) / (M + 1)``, float64 ``[C, C]``, with ``Q_cc = f_c``."""
        return (self.counts + 1) / (self.n_images + 1)

    def rho(self, labels: Tensor) -> Tensor:
        """Return rho of labels ``[n, C]``, the mean over an image's labels of ``f_c ** -0.5``."""
        y = labels.to(torch.float64)
        return y @ self.frequency.to(y.device).pow(-0.5) / y.sum(1).clamp(min=1)

    def rarity(self, labels: Tensor) -> Tensor:
        """Return ``r_i = (rho_i - mean) / (max - min)`` for labels ``[n, C]``, 0 if all are equal.

        Mean and range of rho were taken over the training split. An image without any label has 0.
        """
        mean, span = self.rarity_range
        y = labels.to(torch.float64)
        if span <= 1e-12:
            return torch.zeros(len(y), dtype=torch.float64, device=y.device)
        return torch.where(y.sum(1) > 0, (self.rho(y) - mean) / span, 0.0)

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads."""
        return {"n_images": self.n_images, "counts": self.counts.to(torch.int64).tolist(),
                "rarity_range": list(self.rarity_range)}  # fmt: skip

    @staticmethod
    def from_json(value: dict[str, Any]) -> LabelStatistics:
        """Read what :meth:`to_json` wrote.

        Raises:
            ModelError: The value is not one of ours.
        """
        try:
            counts = torch.tensor(value["counts"], dtype=torch.float64)
            mean, span = (float(v) for v in value["rarity_range"])
            return LabelStatistics(int(value["n_images"]), counts, (mean, span))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"broken label statistics in the checkpoint: {error!r}") from None
