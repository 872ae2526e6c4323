"""The specification of an experiment: one YAML file, checked before anything is computed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from landcue.errors import UsageError, did_you_mean, refusal
from landcue.experiments.measure import needs_bits, needs_hash_head, needs_label_head
from landcue.metrics.own_label import OF_LABELS
from landcue.metrics.protocol import DEFAULT, find_protocol
from landcue.training.config import LossSection, TrainingConfig, make_config, read_values
from landcue.training.objective import check_losses

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
Values = dict[str, Any]
Lengths = tuple[Annotated[int, Field(ge=1, le=4096)], ...]
BEST = "best"
_OPTIONS = {
    "name": "options",
    "hash_name": "hash_options",
    "classification": "classification_options",
}
_DEFAULT = {name: LossSection.model_fields[name].default for name in _OPTIONS}


class MethodSpec(BaseModel):
    """One row of the table: what is trained, and how its images are ranked.

    Attributes:
        config: Training settings over those of ``base``.
        train: The method whose trained models are ranked instead of training anew.
        rank: Candidate rankings; the validation part chooses one of them.
        bits: Instead of the experiment's ``bits``; empty for a method that has none.
        extra_bits: Added to the hash head's bits, for a plain code as long as a cue code.
        note: Shown in the table's legend.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Values = Field(default_factory=dict)
    train: str | None = None
    rank: tuple[str, ...] = ("embedding",)
    bits: Lengths | None = None
    extra_bits: int = Field(0, ge=0)
    note: str = ""


class Spec(BaseModel):
    """An experiment.

    Attributes:
        name: Names the tables.
        base: Training settings that all methods share; ``{seed}`` in a text is replaced.
        seeds: Each is the seed of the training and, through ``{seed}``, of the split.
        methods: Rows by name.
        compare: Pairs of methods to test against each other; ``best`` as the second stands for
            the best method with other models at the same code length. The first method against
            the best by default.
        bits: Lengths of hash codes; empty if no method has a hash head.
        metrics: Columns; the first decides on the validation part.
        protocol: What is measured.
        gallery: What a test query searches: the other test images, or the train part.
        test: Whether the test part is measured at all; an ablation leaves it alone.
        assumptions: What was assumed where a paper says nothing; shown with the table.
        codebook: How a cue code writes a predicted scene class: ``base2`` or ``hadamard``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base: Values
    seeds: tuple[int, ...] = Field(min_length=1)
    methods: dict[str, MethodSpec] = Field(min_length=1)
    bits: Lengths = ()
    metrics: tuple[str, ...] = ("nDCG@100", "WAP@100", "mAP", "own-label AP of rare labels")
    protocol: str = DEFAULT
    gallery: Literal["test", "train"] = "test"
    test: bool = True
    compare: tuple[tuple[str, str], ...] = ()
    codebook: Literal["base2", "hadamard"] = "base2"
    assumptions: tuple[str, ...] = ()

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The comparisons to make."""
        return self.compare or ((next(iter(self.methods)), BEST),)

    def trained_by(self, name: str) -> str:
        """Return the method whose models a row ranks."""
        return self.methods[name].train or name

    def bits_of(self, name: str) -> tuple[int | None, ...]:
        """Return the code lengths of a row; ``(None,)`` for a row without any."""
        own = self.methods[name].bits
        return (self.bits if own is None else own) or (None,)

    def trained_bits(self, name: str, bits: int | None) -> int | None:
        """Return the code length of the models that a row ranks.

        Floats and unlearned codes of one length may come from models of another, if those have
        one length only.

        Raises:
            UsageError: No model has a hash head of this length.
        """
        trained = self.bits_of(self.trained_by(name))
        if bits in trained:
            return bits
        if len(trained) == 1 and not any(needs_hash_head(r) for r in self.methods[name].rank):
            return trained[0]
        raise UsageError(f"method {name}: {self.trained_by(name)} is not trained at {bits} bits")

    def training(self, name: str, seed: int, bits: int | None) -> TrainingConfig:
        """Return the resolved training settings of one trained method.

        Raises:
            UsageError: A setting that does not exist or does not fit.
        """
        return make_config(self.settings(name, seed, bits))

    def settings(self, name: str, seed: int, bits: int | None) -> Values:
        """Return the training settings of one trained method, unchecked."""
        method = self.methods[name]
        values = merged(self.base, method.config)
        values = cast(Values, filled(values, seed)) | {"seed": seed}
        if bits is not None:
            values = merged(values, {"model": {"n_bits": bits + method.extra_bits}})
        return values


def read_spec(file: str | Path, base: Values | None = None) -> Spec:
    r"""Read and check a specification.

    Args:
        file: The YAML file.
        base: Settings that go over the file's ``base``, such as where the images are.

    Raises:
        UsageError: Broken YAML, an unknown key, or methods that contradict each other.

    >>> _ = Path("methods.yaml").write_text("seeds: [0]\nmethods: {supcon: {}}")
    >>> list(read_spec("methods.yaml", {"data": {"root": "photos"}}).methods)
    ['supcon']
    """
    file = Path(file)
    values = read_values(file)
    known = list(Spec.model_fields)
    for key in values:
        if key not in known:
            raise UsageError(f"{file}: unknown key {key!r}{did_you_mean(str(key), known)}")
    values.setdefault("name", file.stem)
    own = values.get("base", {})
    if not isinstance(own, dict):
        raise UsageError(
            f"{file}: base must hold sections (data, model, loss …), not a single value"
        )
    values["base"] = merged(cast(Values, own), base or {})
    return check_spec(file, values)


def check_spec(file: Path, values: Values) -> Spec:
    """Check the values of a specification; ``file`` names it in messages."""
    try:
        spec = Spec.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = refusal(first["msg"])
        if first["type"] == "extra_forbidden":
            message += did_you_mean(str(first["loc"][-1]), list(MethodSpec.model_fields))
        elif first["type"] == "tuple_type":
            message = "write a list, such as [a, b]"
        elif first["type"] in ("model_type", "dict_type", "model_attributes_type"):
            message = "write settings, such as {rank: [embedding]}"
        raise UsageError(f"{file}: {where}: {message}") from None
    _check(file, spec)
    return spec


def merged(base: Values, over: Values) -> Values:
    """Return nested dictionaries with those of ``over`` laid over them.

    A loss of another name takes none of the options of the one below it.
    """
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            section, inner = cast(Values, value), cast(Values, below)
            for name, options in _OPTIONS.items():
                if name in section and section[name] != inner.get(name, _DEFAULT[name]):
                    inner = {k: v for k, v in inner.items() if k != options}
            result[key] = merged(inner, section)
        else:
            result[key] = value
    return result


def filled(value: Any, seed: int) -> Any:
    """Return a value in whose texts ``{seed}`` is replaced."""
    if isinstance(value, dict):
        return {key: filled(item, seed) for key, item in cast(Values, value).items()}
    return value.replace("{seed}", str(seed)) if isinstance(value, str) else value


def _check(file: Path, spec: Spec) -> None:
    _check_metrics(file, spec)
    for what, values in (("seed", spec.seeds), ("code length", spec.bits)):
        if len(set(values)) != len(values):
            raise UsageError(f"{file}: a {what} occurs twice; each stands for runs of its own")
    for pair in spec.pairs:
        for name, known in zip(pair, ([*spec.methods], [*spec.methods, BEST]), strict=True):
            if name not in known:
                raise UsageError(f"{file}: compare: no method {name!r}{did_you_mean(name, known)}")
    for name, method in spec.methods.items():
        if name == BEST or not _NAME.match(name):
            raise UsageError(
                f"{file}: method name {name!r}: use letters, digits, '-', '_', '.'; not {BEST!r}"
            )
        try:
            _check_method(spec, name, method)
        except UsageError as error:
            raise UsageError(f"{file}: method {name}: {error}") from None


def _check_metrics(file: Path, spec: Spec) -> None:
    known = {metric.name: metric for metric in find_protocol(spec.protocol).metrics()}
    if not spec.metrics:
        raise UsageError(f"{file}: metrics is empty; name at least one, such as nDCG@100")
    for name in spec.metrics:
        if name in known and known[name].family.falling:
            raise UsageError(f"{file}: metrics: {name} is better when it is lower; name another")
        if name not in known and name not in OF_LABELS.values():
            near = did_you_mean(name, [*known, *OF_LABELS.values()])
            raise UsageError(f"{file}: metrics: {spec.protocol} has no metric {name!r}{near}")


def _check_method(spec: Spec, name: str, method: MethodSpec) -> None:
    if not method.rank:
        raise UsageError("rank is empty; name at least one ranking")
    if method.train is not None:
        if method.train not in spec.methods:
            near = did_you_mean(method.train, spec.methods)
            raise UsageError(f"no method {method.train!r} to train{near}")
        if spec.methods[method.train].train is not None or method.config or method.extra_bits:
            raise UsageError(
                f"it ranks the models of {method.train}: it can have no config or extra_bits, and "
                "that method must train its own"
            )
    if "seed" in method.config or "data" in method.config:
        raise UsageError("data and seed belong to base and seeds: all methods see the same images")
    for bits in spec.bits_of(name):
        if method.extra_bits and bits is None:
            raise UsageError("extra_bits needs bits")
        trainer, length = spec.trained_by(name), spec.trained_bits(name, bits)
        for seed in spec.seeds:
            check_losses(spec.training(trainer, seed, length))
        model = spec.training(trainer, spec.seeds[0], length).model
        for ranking in method.rank:
            if needs_hash_head(ranking) and not model.n_bits:
                raise UsageError(f"ranking {ranking} needs a hash head; use bits or model.n_bits")
            if needs_label_head(ranking) and not model.label_head:
                raise UsageError(f"ranking {ranking} needs model.label_head")
            if needs_bits(ranking) and bits is None:
                raise UsageError(f"ranking {ranking} needs bits")


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: a method, a seed and, for hash heads, a code length."""

    method: str
    seed: int
    bits: int | None

    @property
    def name(self) -> str:
        """Name of its run folder."""
        return f"{self.method}-s{self.seed}" + (f"-b{self.bits}" if self.bits else "")


def cells(spec: Spec) -> list[Cell]:
    """Return all trainings, one seed after the other: early rows can be compared soon."""
    methods = [name for name, method in spec.methods.items() if method.train is None]
    return [
        Cell(name, seed, bits)
        for seed in spec.seeds
        for name in methods
        for bits in spec.bits_of(name)
    ]
