"""The presets of published papers, end to end on tiny fakes of each published layout."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from landcue.cli.main import app
from landcue.data.datasets import FACTS
from landcue.errors import DataError, UsageError
from landcue.experiments import PRESETS, estimate_hours, read_preset, run, to_markdown
from landcue.experiments.spec import cells

TINY = ("model.image_size=32", "model.backbone=mobilenetv3_small_050", "optimizer.epochs=1",
        "optimizer.batch_size=8", "model.pooling=avg")  # fmt: skip
PER_CLASS = 10


def photo(path, seed, map_values=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if map_values is None:
        Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8)).save(path)
    else:
        values = rng.choice(map_values, (40, 40)).astype(np.uint8)
        Image.fromarray(values).save(path)


def scene_folders(root, classes, suffix, number="{:02}"):
    for c, name in enumerate(classes):
        for i in range(PER_CLASS):
            yield root / name / f"{name}{number.format(i)}{suffix}", 100 * c + i


def fake(name, root):
    """Write a tiny copy of a dataset in its published layout and return its root."""
    if name == "dlrsd":
        classes = list(FACTS["ucmerced"].classes)[:3]
        for path, seed in scene_folders(root / "UCMerced_LandUse" / "Images", classes, ".tif"):
            photo(path, seed)
        for path, seed in scene_folders(root / "DLRSD" / "Images", classes, ".png"):
            photo(path, seed, [1 + seed % 3, 11, 4 + seed % 2])
    elif name == "whdld":
        for i in range(3 * PER_CLASS):
            photo(root / "Images" / f"wh{i:04}.jpg", i)
            photo(root / "ImagesPNG" / f"wh{i:04}.png", i, [1 + i % 3, 4, 5 + i % 2])
    elif name == "ml_aid":
        labels = FACTS["ml_aid"].labels
        lines = ["IMAGE\\LABEL," + ",".join(labels)]
        for c, scene in enumerate(("airport", "beach", "port")):
            for i in range(PER_CLASS):
                part = "images_tr" if i < 8 else "images_test"
                photo(root / part / scene.capitalize() / f"{scene}_{i}.jpg", 100 * c + i)
                row = ["1" if k in (c, 3 + i % 2, 9) else "0" for k in range(len(labels))]
                lines.append(f"{scene}_{i}," + ",".join(row))
        (root / "multilabel.csv").write_text("\n".join(lines) + "\n")
    elif name == "ucmerced":
        classes = list(FACTS["ucmerced"].classes)[:3]
        labels = FACTS["ucmerced"].labels
        lines = ["IMAGE\\LABEL\t" + "\t".join(labels)]
        for path, seed in scene_folders(root / "UCMerced_LandUse" / "Images", classes, ".tif"):
            photo(path, seed)
            lines.append(f"{path.stem}\t1" + "\t0" * (len(labels) - 1))
        (root / "multilabel").mkdir()
        (root / "multilabel" / "LandUse_Multilabeled.txt").write_text("\n".join(lines) + "\n")
    else:
        classes = list(FACTS["aid"].classes)[:3]
        for path, seed in scene_folders(root, classes, ".jpg", "_{}"):
            photo(path, seed)
    return root


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    datasets = {values["base"]["data"]["dataset"] for values in PRESETS.values()}
    return {name: fake(name, tmp_path_factory.mktemp(name)) for name in datasets}


def dataset_of(preset):
    return PRESETS[preset]["base"]["data"]["dataset"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_runs_end_to_end_and_resumes(copies, tmp_path, preset):
    spec = read_preset(
        preset, copies[dataset_of(preset)], init="none", settings=TINY, seeds=[1], partial=True
    )
    spec = spec.model_copy(update={"bits": spec.bits[:1]})
    first = next(iter(spec.methods))
    results = run(spec, tmp_path / "out", only=[first])
    assert results.failed == {}
    rows = {row.method for row in results.rows}
    assert first in rows
    if preset.startswith("dhcl"):
        assert rows == set(spec.methods)
    measured = results.rows[0].test[1]
    assert all(metric in measured.metrics for metric in spec.metrics)
    page = to_markdown(results)
    assert all(line in page for line in spec.assumptions)
    again = run(spec, tmp_path / "out", only=[first])
    assert again.readings == results.readings
    assert again.rows[0].test[1].metrics == pytest.approx(measured.metrics, nan_ok=True)


def test_the_estimate_counts_trainings_epochs_and_images(copies):
    def hours(*settings, seeds):
        spec = read_preset("marc-whdld", copies["whdld"], init="none", settings=TINY + settings,
                           seeds=seeds, partial=True)  # fmt: skip
        return estimate_hours(spec)

    one, more = hours(seeds=[1]), hours("optimizer.epochs=5", seeds=[1, 2])
    assert (one.trainings, more.trainings) == (7, 14)
    for found, work in ((one, 7 * 1 * 21), (more, 14 * 5 * 21)):
        assert found.hours == pytest.approx(work / found.images_per_second / 3600)


def test_a_copy_that_is_not_whole_is_refused(copies):
    with pytest.raises(DataError, match=r"not whole: DLRSD: 30 of 2,100 images and .* --partial"):
        read_preset("marc-dlrsd", copies["dlrsd"], init="none")


def test_mistakes_are_one_line(copies):
    with pytest.raises(UsageError, match=r"no preset 'marc-dlrs' .did you mean 'marc-dlrsd'"):
        read_preset("marc-dlrs", copies["dlrsd"])
    with pytest.raises(UsageError, match="did you mean 'epochs'"):
        read_preset("marc-dlrsd", copies["dlrsd"], settings=["optimizer.epoch=1"], partial=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a specification file, or a --preset"),
        (["spec.yaml", "--preset", "marc-dlrsd"], "name a specification file, or a --preset"),
        (["spec.yaml", "--seed", "1"], "--seed and --partial are for a --preset"),
        (["--preset", "marc-dlrsd"], "needs --data-root"),
        (["--preset", "marc-dlrs"], "no preset 'marc-dlrs' (did you mean 'marc-dlrsd'"),
    ],
)
def test_the_command_names_what_is_missing(tmp_path, words, message):
    result = CliRunner().invoke(app, ["experiment", *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 or isinstance(result.exception, UsageError)
    assert message in result.output or message in str(result.exception)


@pytest.mark.parametrize(
    ("preset", "setting"),
    [
        ("dhcl-ucmd", "loss.options.scale=16"),
        ("dhcl-ucmd", "loss.name=supcon"),
        ("dhcl-ucmd", "model.n_bits=8"),
        ("marc-whdld", "seed=7"),
    ],
)
def test_a_setting_that_no_method_takes_is_refused(copies, preset, setting):
    root = copies[dataset_of(preset)]
    with pytest.raises(UsageError, match=f"{setting}.: all methods of preset {preset} have"):
        read_preset(preset, root, init="none", settings=(*TINY, setting), partial=True)
    taken = ("loss.label=0.5", "data.split=per-class-50-20-30-seed{seed}", "optimizer.lr=1e-3")
    spec = read_preset(preset, root, init="none", settings=(*TINY, *taken), partial=True)
    cell = cells(spec)[-1]
    config = spec.training(cell.method, cell.seed, cell.bits)
    assert (config.loss.label, config.optimizer.lr) == (0.5, 1e-3)
    assert config.data.split == f"per-class-50-20-30-seed{cell.seed}"


@pytest.mark.parametrize("preset", ["dhcl-ucmd", "dhcl-aid"])
def test_a_section_is_checked_value_by_value(copies, preset):
    def read(*settings):
        root = copies[dataset_of(preset)]
        return read_preset(preset, root, init="none", settings=settings, partial=True)

    model = "model={dim: 64, backbone: mobilenetv3_small_050, init: none, image_size: 32}"
    spec = read(model, "loss={label: 0.5, name: dhcl}")
    cell = cells(spec)[0]
    config = spec.training(cell.method, cell.seed, cell.bits)
    assert (config.model.dim, config.model.n_bits, config.loss.label) == (64, 16, 0.5)
    for setting, key in (
        ("loss={label: 0.5, name: supcon}", "loss.name"),
        ("loss={label: 0.5, options: {scale: 16}}", "loss.options.scale"),
        ("loss={options: {1: 2}}", "loss.options.1"),
        ("model={dim: 64, n_bits: 8}", "model.n_bits"),
    ):
        with pytest.raises(UsageError, match=f"all methods of preset {preset} have .* for {key};"):
            read(model, setting)
