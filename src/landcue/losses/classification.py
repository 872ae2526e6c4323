"""Losses of label logits ``[n, C]``: cross-entropies, asymmetric, distribution-balanced."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from landcue.errors import UsageError
from landcue.losses.inputs import (
    check_binary,
    check_range,
    class_indices,
    is_class_indices,
    one_hot,
    show_options,
)
from landcue.losses.statistics import LabelStatistics


class ClassificationLoss(nn.Module):
    """A loss of logits; subclasses implement :meth:`compute`."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar, computed in float32 or, of float64 logits, in float64.

        Args:
            logits: ``[n, C]``, any float type.
            labels: Multi-hot ``[n, C]`` of any type, or class indices, integer ``[n]``. Only
                :class:`Softmax` refuses values between 0 and 1.

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
            y = y.to(logits)
            if not bool(((y >= 0) & (y <= 1)).all()):
                raise UsageError("labels must lie in 0..1")
            return self.compute(logits, y)

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
        check_binary(y)
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


class DistributionBalanced(ClassificationLoss):
    """Classify labels of a long-tailed split: rare labels count more, easy absences less.

    ``L = mean over images and labels of r_ic [y log(1 + exp(-(x - v_c))) + (1 - y) / lambda *
    log(1 + exp(lambda (x - v_c)))]``: T. Wu et al., "Distribution-Balanced Loss for Multi-Label
    Classification in Long-Tailed Datasets", ECCV 2020. ``v_c = kappa log(1 / p_c - 1)`` with p_c
    the share of training images that carry the label; ``r = alpha + sigmoid(beta (P_c / P_i -
    mu))`` smooths how often a label should be drawn (``P_c = 1 / (C n_c)``) over how often its
    image is drawn for all its labels (``P_i = sum over its labels of 1 / (C n_c)``).
    Reconstructed: counts are smoothed as in :class:`LabelStatistics`, and an image without labels
    has ratio 1.

    Args:
        statistics: Of the training split.
        alpha: Least weight, at least 0.
        beta: Slope > 0 of the smoothing.
        mu: Its middle, at least 0.
        kappa: Strength >= 0 of the shift of rare labels.
        negative_scale: lambda >= 1: how much sooner an absent label stops to count.

    Raises:
        UsageError: An option out of range, or logits of another number of labels.

    >>> import torch
    >>> statistics = LabelStatistics.from_labels(torch.tensor([[1, 1], [1, 0], [0, 0]]))
    >>> DistributionBalanced(statistics)(torch.zeros(1, 2), torch.tensor([[1, 0]])).item() > 0
    True
    """

    def __init__(
        self,
        statistics: LabelStatistics,
        *,
        alpha: float = 0.1,
        beta: float = 10.0,
        mu: float = 0.2,
        kappa: float = 0.05,
        negative_scale: float = 2.0,
    ) -> None:
        super().__init__()
        check_range("alpha", alpha, 0)
        check_range("beta", beta, 0, above=True)
        check_range("mu", mu, 0)
        check_range("kappa", kappa, 0)
        check_range("negative_scale", negative_scale, 1)
        self.alpha, self.beta, self.mu = alpha, beta, mu
        self.kappa, self.negative_scale = kappa, negative_scale
        # A label on every image would have a frequency of 1 and no logarithm.
        share = statistics.frequency.clamp(max=1 - 0.5 / (statistics.n_images + 1))
        self._share = share

    def compute(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the loss of checked logits and multi-hot labels, ``[n, C]`` each."""
        if logits.shape[1] != len(self._share):
            raise UsageError(
                f"logits have {logits.shape[1]} columns, the statistics {len(self._share)}"
            )
        share = self._share.to(logits)
        of_image = (y / share).sum(1, keepdim=True)
        ratio = torch.where(of_image > 0, 1 / share / of_image.clamp(min=1e-12), 1.0)
        weight = self.alpha + torch.sigmoid(self.beta * (ratio - self.mu))
        shifted = logits - self.kappa * torch.log(1 / share - 1)
        scale = self.negative_scale
        absent = F.softplus(scale * shifted) / scale
        return (weight * (y * F.softplus(-shifted) + (1 - y) * absent)).mean()


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
