"""Training an encoder: configuration, images, samplers, the loop, several processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from landcue.lazy import lazy_exports

if TYPE_CHECKING:
    from landcue.training.averages import average_checkpoints, fit_label_temperatures
    from landcue.training.config import LossSection, TrainingConfig, read_config
    from landcue.training.evaluation import study_run
    from landcue.training.images import ImageDataset
    from landcue.training.loop import Run, train
    from landcue.training.samplers import BatchSampler

__all__ = [
    "BatchSampler", "ImageDataset", "LossSection", "Run", "TrainingConfig", "average_checkpoints",
    "fit_label_temperatures", "read_config", "study_run", "train",
]  # fmt: skip

__getattr__ = lazy_exports(
    __name__,
    {
        "landcue.training.averages": ("average_checkpoints", "fit_label_temperatures"),
        "landcue.training.config": ("LossSection", "TrainingConfig", "read_config"),
        "landcue.training.evaluation": ("study_run",),
        "landcue.training.images": ("ImageDataset",),
        "landcue.training.loop": ("Run", "train"),
        "landcue.training.samplers": ("BatchSampler",),
    },
)
