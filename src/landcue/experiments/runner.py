"""Run an experiment: train every cell, choose on validation, measure the test part once."""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from landcue.data.imageset import ImageSet
from landcue.errors import LandcueError, ModelError, UsageError
from landcue.experiments.measure import Encodings, Measured, load_measured, measure
from landcue.experiments.spec import Cell, Spec, cells, read_spec
from landcue.files import exclusive, read_json, write_atomic
from landcue.training.config import TrainingConfig
from landcue.training.images import Message, Progress, ignore, read_split
from landcue.training.loop import train

_MOST_OPEN = 16  # models whose encodings stay in memory: a row goes through its seeds twice


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table.

    Attributes:
        method: Its name in the specification.
        bits: Code length; ``None`` for floats.
        ranking: What the validation part chose.
        validation: By seed, with the chosen ranking; empty if the split has no such part.
        test: By seed; empty until every seed is trained, or for an ablation.
        considered: Mean of the deciding metric on the validation part, by ranking.
    """

    method: str
    bits: int | None
    ranking: str
    validation: dict[int, Measured]
    test: dict[int, Measured]
    considered: dict[str, float]


@dataclass(frozen=True, slots=True)
class Results:
    """An experiment's outcome so far.

    Attributes:
        spec: The specification.
        rows: Complete rows, in the order of the specification.
        failed: Cells that could not be trained, and why.
        missing: Rows that lack a cell.
        readings: Number of measurements of the test part, over all calls.
        histories: Metrics by epoch of every trained cell.
    """

    spec: Spec
    rows: list[Row]
    failed: dict[str, str]
    missing: list[str]
    readings: int
    histories: dict[str, list[dict[str, float]]] = field(repr=False)


def run(
    spec: str | Path | Spec,
    out: str | Path,
    *,
    data_root: str | Path | None = None,
    init: str | Path | None = None,
    only: Iterable[str] = (),
    message: Message = ignore,
    progress: Progress = ignore,
) -> Results:
    """Run an experiment and write ``results.json``, ``table.md``, ``table.tex`` and figures.

    The same call continues after an interruption; see :func:`run_experiment`.

    Args:
        spec: A YAML file of methods, seeds, bits and protocol, or what :func:`read_spec` made of
            one.
        out: The folder to write, or to continue in.
        data_root: Folder of the images, unless the file names it.
        init: Weight file for the backbones, likewise.
        only: Methods to train now; all by default.
        message: Called with what happens.
        progress: Called with a stage's name, what is done and the total.

    Raises:
        UsageError: A mistake in the specification; ``only`` names no method of it.
        ModelError: Another process works in the folder.

    >>> results = landcue.experiments.run("methods.yaml", "out")  # doctest: +SKIP
    """
    from landcue.experiments.plots import draw
    from landcue.experiments.tables import comparisons, to_json, to_latex, to_markdown

    out = Path(out)
    if not isinstance(spec, Spec):
        base: dict[str, Any] = {}
        if data_root is not None:
            base["data"] = {"root": str(Path(data_root).expanduser().resolve())}
        if init is not None:
            base["model"] = {"init": str(Path(init).expanduser().resolve())}
        spec = read_spec(Path(spec), base)
    results = run_experiment(spec, out, only=only, message=message, progress=progress)
    compared = comparisons(results)
    found = json.dumps(to_json(results, compared), indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(out / "results.json", found + "\n")
    write_atomic(out / "table.md", to_markdown(results, compared))
    write_atomic(out / "table.tex", to_latex(results))
    draw(results, out)
    return results


def run_experiment(
    spec: Spec,
    out: Path,
    *,
    only: Iterable[str] = (),
    message: Message = ignore,
    progress: Progress = ignore,
) -> Results:
    """Run what is not done yet of an experiment in the folder ``out``.

    Every training is a run folder under ``runs/``; a training that was cut off resumes, one that
    is finished is kept. For each row all seeds' models are measured on the validation part, the
    ranking with the best mean is chosen, and only then the test part is measured: once per model
    and ranking, and every measurement leaves a line in ``test_log.jsonl``.
    """
    wanted = set(only)
    for name in wanted - set(spec.methods):
        raise UsageError(f"no method {name!r} in {spec.name}; it has {', '.join(spec.methods)}")
    with exclusive(out, ModelError, "running the experiment in"):
        return _Runner(spec, out, message, progress).run({spec.trained_by(name) for name in wanted})


class _Runner:
    def __init__(self, spec: Spec, out: Path, message: Message, progress: Progress) -> None:
        self.spec, self.out, self.message, self.progress = spec, out, message, progress
        self.images: dict[str, ImageSet] = {}
        self.open: dict[Cell, Encodings] = {}

    def run(self, only: set[str]) -> Results:
        self._check_choice()
        failed = self._train(only)
        rows: list[Row] = []
        missing: list[str] = []
        for name in self.spec.methods:
            for bits in self.spec.bits_of(name):
                if all((self._folder(c) / "finished").exists() for c in self._cells(name, bits)):
                    rows.append(self._row(name, bits))
                else:
                    missing.append(name + (f" at {bits} bits" if bits else ""))
        histories = {
            cell.name: _history(self._folder(cell) / "metrics.csv")
            for cell in cells(self.spec)
            if (self._folder(cell) / "finished").exists()
        }
        return Results(self.spec, rows, failed, missing, self._readings(), histories)

    def _train(self, only: set[str]) -> dict[str, str]:
        failed: dict[str, str] = {}
        todo = [cell for cell in cells(self.spec) if not only or cell.method in only]
        for number, cell in enumerate(todo, 1):
            folder = self._folder(cell)
            config = self.spec.training(cell.method, cell.seed, cell.bits)
            try:
                self.message(f"[{number}/{len(todo)}] {cell.name}")
                made = train(config, folder, message=self.message, progress=self.progress)
            except LandcueError as error:
                failed[cell.name] = str(error)
                self.message(f"failed: {cell.name}: {error}")
                continue
            write_atomic(folder / "finished", made.fingerprint + "\n")
        return failed

    def _check_choice(self) -> None:
        for name, method in self.spec.methods.items():
            for cell in self._cells(name, self.spec.bits_of(name)[0]):
                if self._has_validation(cell):
                    continue
                split = self._config(cell).data.split
                if len(method.rank) > 1:
                    raise UsageError(
                        f"method {name} has {len(method.rank)} rankings, but split {split} of "
                        "these images has no validation part to choose by; name one"
                    )
                if not self.spec.test:
                    raise UsageError(
                        f"split {split} of these images has no validation part, and test is false"
                    )

    def _row(self, name: str, bits: int | None) -> Row:
        spec, method = self.spec, self.spec.methods[name]
        members = self._cells(name, bits)
        validation: dict[str, dict[int, Measured]] = {}
        if self._has_validation(members[0]):
            for ranking in method.rank:
                validation[ranking] = {
                    cell.seed: self._measure(cell, ranking, bits, "val") for cell in members
                }
        key = spec.metrics[0]
        considered = {
            ranking: float(np.mean([_value(m, key) for m in found.values()]))
            for ranking, found in validation.items()
        }
        if len(considered) > 1 and not all(map(math.isfinite, considered.values())):
            raise UsageError(
                f"method {name}: {key} is not defined on the validation part, so nothing can be "
                "chosen by it; name one ranking, or take more images"
            )
        ranking = max(considered, key=considered.__getitem__) if considered else method.rank[0]
        ranking = self._final_choice(name, bits, ranking)
        test: dict[int, Measured] = {}
        if spec.test:
            test = {cell.seed: self._measure(cell, ranking, bits, "test") for cell in members}
        return Row(name, bits, ranking, validation.get(ranking, {}), test, considered)

    def _final_choice(self, name: str, bits: int | None, ranking: str) -> str:
        """Return the choice of a row; what was once tested stays chosen."""
        file = self.out / "choices.json"
        choices: dict[str, str] = {}
        if file.exists():
            choices = read_json(file, ModelError, "delete it, and the choice is made again")
        key = name + (f"-b{bits}" if bits else "")
        old = choices.get(key)
        if old and old != ranking and old in self.spec.methods[name].rank:
            tested = (self._file(cell, old, bits, "test") for cell in self._cells(name, bits))
            if any(file.exists() for file in tested):
                self.message(f"{key}: stays with {old}, whose test part was measured")
                return old
        if old != ranking:
            write_atomic(file, json.dumps({**choices, key: ranking}, indent=1) + "\n")
        return ranking

    def _measure(self, cell: Cell, ranking: str, bits: int | None, part: str) -> Measured:
        file = self._file(cell, ranking, bits, part)
        mark = (self._folder(cell) / "finished").read_text().strip()
        found = load_measured(file)
        if found and found.facts["fingerprint"] == mark and self._same_rules(found):
            return found
        made = measure(self._encodings(cell), ranking, part, self.spec, bits=bits, seed=cell.seed)
        if part == "test":
            self._log(cell, ranking, made)
        made.facts["protocol"], made.facts["codebook"] = self.spec.protocol, self.spec.codebook
        made.facts["asked"] = self.spec.gallery
        made.save(file)
        return made

    def _file(self, cell: Cell, ranking: str, bits: int | None, part: str) -> Path:
        length = f"-{bits}" if bits and bits != cell.bits else ""
        return self.out / part / cell.name / f"{ranking.replace('*', 'x')}{length}.json"

    def _same_rules(self, found: Measured) -> bool:
        spec = self.spec
        rules = (found.facts.get(key) for key in ("protocol", "codebook", "asked"))
        return tuple(rules) == (spec.protocol, spec.codebook, spec.gallery)

    def _log(self, cell: Cell, ranking: str, made: Measured) -> None:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "cell": cell.name,
            "ranking": ranking,
            "protocol": self.spec.protocol,
            "gallery": made.facts["gallery"],
            "model": made.facts["fingerprint"],
        }
        try:
            with (self.out / "test_log.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise LandcueError(
                f"cannot write {self.out}/test_log.jsonl: {error.strerror}"
            ) from None

    def _readings(self) -> int:
        file = self.out / "test_log.jsonl"
        return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0

    def _cells(self, name: str, bits: int | None) -> list[Cell]:
        return [Cell(self.spec.trained_by(name), seed, self.spec.trained_bits(name, bits))
                for seed in self.spec.seeds]  # fmt: skip

    def _folder(self, cell: Cell) -> Path:
        return self.out / "runs" / cell.name

    def _config(self, cell: Cell) -> TrainingConfig:
        return self.spec.training(cell.method, cell.seed, cell.bits)

    def _has_validation(self, cell: Cell) -> bool:
        return bool(self._images(self._config(cell)).part("val").records)

    def _encodings(self, cell: Cell) -> Encodings:
        if cell not in self.open:
            if len(self.open) == _MOST_OPEN:
                del self.open[next(iter(self.open))]  # the oldest
            config = self._config(cell)
            images = self._images(config)
            self.open[cell] = Encodings(
                self._folder(cell), config, images, self.progress, self.message
            )
        return self.open[cell]

    def _images(self, config: TrainingConfig) -> ImageSet:
        key = config.data.model_dump_json()
        if key not in self.images:
            self.images[key] = read_split(config)
        return self.images[key]


def _value(measured: Measured, metric: str) -> float:
    if metric not in measured.metrics:
        known = ", ".join(measured.metrics)
        raise UsageError(f"metrics: no metric {metric!r} (known: {known})")
    return measured.metrics[metric]


def _history(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    return [{name: float(cell) for name, cell in row.items() if cell} for row in rows]
