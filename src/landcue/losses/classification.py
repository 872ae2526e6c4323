"""Losses of label logits ``[n, C]``: binary cross-entropy, asymmetric, soft-max."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.inputs import class_indices, is_class_indices, one_hot, show_options


class ClassificationLoss(nn.Module):
    """A loss of logits; subclasses implement :meth:`compute`."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, computed in float32 or, of float64 logits, in float64.

        Args:
            logits: ``[n, C]``, any float type.
            labels: Multi-hot ``[n, C]`` of any type, or class indices, integer ``[n]``.

        Raises:
            UsageError: The shapes differ, or labels that this loss refuses.
        """
        y = labels
        if is_class_indices(y) and logits.ndim == 2 and len(logits) == len(y):
            y = one_hot(y, logits.shape[1])
        if logits.shape != y.shape:
            raise UsageError(
                f"logits {list(logits.shape)} and labels {list(labels.shape)} differ in shape"
            )
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            return self.compute(logits, y.to(logits))

    def extra_repr(self) -> str:
        """Return the options."""
        return show_options(self)

    def compute(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of checked logits and multi-hot labels, ``[n, C]`` each."""
        raise NotImplementedError


class BCE(ClassificationLoss):
    """Binary cross-entropy of each label, averaged over images and labels.

    >>> import torch
    >>> BCE()(torch.zeros(1, 2), torch.tensor([[1, 0]]))
    tensor(0.6931)
    """

    def compute(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of checked logits and multi-hot labels, ``[n, C]`` each."""
        return F.binary_cross_entropy_with_logits(logits, y)


class Softmax(ClassificationLoss):
    """Cross-entropy of the only label of each image, averaged over images.

    Images without a label or with several are an error.

    Args:
        label_smoothing: Share of an image's target that all classes get alike, 0..1 (1 excluded):
            C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR
            2016, section 7.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> Softmax()(torch.zeros(1, 2), torch.tensor([1]))
    tensor(0.6931)
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise UsageError(
                f"label_smoothing must lie in 0..1 (1 excluded), not {label_smoothing}"
            )
        self.label_smoothing = label_smoothing

    def compute(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of checked logits and one-hot labels, ``[n, C]`` each."""
        classes = class_indices(y, instead="bce or asymmetric")
        return F.cross_entropy(logits, classes, label_smoothing=self.label_smoothing)


class Asymmetric(ClassificationLoss):
    """Classify labels, with less weight on the absent ones that are easy.

    Mean over images and labels of ``-(1 - p)^g+ log p`` for present and ``-q^g- log(1 - q)`` for
    absent labels, ``q = max(p - m, 0)``: T. Ridnik et al., "Asymmetric Loss For Multi-Label
    Classification", ICCV 2021, which sums instead of averaging. Both gammas and the
    clip at 0 give binary cross-entropy.

    Args:
        gamma_positive: Focus g+ on hard present labels: 0, or at least 1.
        gamma_negative: Focus g- on hard absent labels: 0, or at least 1.
        clip: m in 0..1 (1 excluded); absent labels with a probability below m count nothing.

    Raises:
        UsageError: An option out of range.

    >>> import torch
    >>> Asymmetric()(torch.tensor([[2.0, -4.0]]), torch.tensor([[1, 0]]))
    tensor(0.0635)
    """

    def __init__(
        self, *, gamma_positive: float = 0.0, gamma_negative: float = 4.0, clip: float = 0.05
    ) -> None:
        super().__init__()
        for name, gamma in (("gamma_positive", gamma_positive), ("gamma_negative", gamma_negative)):
            # Between 0 and 1 the focus has no finite slope where a probability saturates.
            if not (gamma == 0 or gamma >= 1):
                raise UsageError(f"{name} must be 0 or at least 1, not {gamma}")
        if not 0 <= clip < 1:
            raise UsageError(f"clip must lie in 0..1 (1 excluded), not {clip}")
        self.gamma_positive, self.gamma_negative, self.clip = gamma_positive, gamma_negative, clip

    def compute(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of checked logits and multi-hot labels, ``[n, C]`` each."""
        return asymmetric_loss(logits, y, self.gamma_positive, self.gamma_negative, self.clip)


def asymmetric_loss(
    logits: Tensor, y: Tensor, gamma_positive: float, gamma_negative: float, clip: float
) -> Tensor:
    """Return the loss of :class:`Asymmetric`."""
    absence = torch.sigmoid(-logits)
    present = -absence.pow(gamma_positive) * F.logsigmoid(logits)
    if clip:
        kept = (absence + clip).clamp(max=1)  # 1 - q
        log_absent = torch.log(kept)
    else:
        kept, log_absent = absence, F.logsigmoid(-logits)
    absent = -(1 - kept).pow(gamma_negative) * log_absent
    return (y * present + (1 - y) * absent).mean()
