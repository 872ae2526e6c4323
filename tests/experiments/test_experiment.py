"""Experiments: specification, cells, choice on validation, one reading of the test part."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from color_images import write_color_images
from landcue.codes.hashers import RIDGE
from landcue.codes.packing import pack_bits, unpack_bits
from landcue.errors import ModelError, UsageError
from landcue.experiments.measure import CLUSTER, Measured, load_measured, rank
from landcue.experiments.plots import draw
from landcue.experiments.runner import Results, Row, run_experiment
from landcue.experiments.spec import cells, merged, read_spec
from landcue.experiments.tables import comparisons, to_json, to_latex, to_markdown
from landcue.files import exclusive
from landcue.training.config import read_config
from landcue.training.evaluation import Spaces
from landcue.training.images import read_split


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """72 tiny images whose labels are their colors."""
    return write_color_images(tmp_path_factory.mktemp("images"), 72, 36)


def values(**changes):
    spec = {
        "base": {
            "data": {
                "dataset": "folder", "root": "images", "split": "per-class-70-10-20-seed{seed}",
            },
            "model": {
                "backbone": "mobilenetv3_small_050", "init": "none", "image_size": 32,
                "dim": 12, "n_bits": 8,
            },
            "optimizer": {"epochs": 1, "batch_size": 16},
            "loggers": ["csv"],
        },
        "seeds": [1, 2],
        "metrics": ["nDCG@100", "mAP", "own-label AP of rare labels"],
        "methods": {
            "marc": {"rank": ["embedding", "features"]},
            "supcon": {"config": {"loss": {"name": "supcon"}}, "note": "any shared label"},
        },
    }  # fmt: skip
    return {**spec, **changes}


BASE = values()["base"]


def write(tmp_path, images, **changes):
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(values(**changes), sort_keys=False))
    return read_spec(file, {"data": {"root": str(images)}})


@pytest.fixture(scope="module")
def finished(images, tmp_path_factory):
    """An experiment with codes, run once for all tests that only read it."""
    folder = tmp_path_factory.mktemp("finished")
    methods = {
        "marc": {"rank": ["code", "cue", "cue*3", "label-first"]},
        "longer": {"config": {"loss": {"name": "supcon"}}, "rank": ["code"], "extra_bits": 3},
        "label": {"train": "marc", "rank": ["label"]},
        "float": {"train": "marc", "rank": ["embedding"]},
        "itq": {"train": "marc", "rank": ["itq"]},
        "asymmetric": {"train": "marc", "rank": ["asymmetric", "asymmetric-cue"]},
    }
    compare = [["marc", "best"], ["marc", "label"]]
    spec = write(folder, images, methods=methods, bits=[8, 12], compare=compare)
    return spec, folder / "out", run_experiment(spec, folder / "out")


@pytest.fixture(scope="module")
def reported(finished):
    """Its results as JSON, with the comparisons."""
    return to_json(finished[2])


def test_cells_are_all_combinations_seed_by_seed(finished):
    spec, out, _ = finished
    names = [cell.name for cell in cells(spec)]
    expected = ["marc-s1-b8", "marc-s1-b12", "longer-s1-b8", "longer-s1-b12"]
    assert names == expected + [name.replace("s1", "s2") for name in expected]
    config = read_config(out / "runs" / "longer-s2-b12" / "config.yaml")
    assert (config.model.n_bits, config.seed) == (15, 2)
    assert config.data.split == "per-class-70-10-20-seed2"
    assert config.loss.name == "supcon"


def test_rows_choose_their_ranking_on_validation(finished):
    _, _, results = finished
    assert not results.missing
    assert not results.failed
    assert len(results.rows) == 12
    for row in results.rows:
        best = max(row.considered.values())
        assert row.considered[row.ranking] == best
        for seed, measured in row.validation.items():
            assert measured.facts["part"] == "val"
            assert row.test[seed].facts["ranking"] == row.ranking
            assert row.test[seed].facts["part"] == "test"
    for row in results.rows:
        mean = np.mean([m.metrics["nDCG@100"] for m in row.validation.values()])
        assert row.considered[row.ranking] == pytest.approx(mean)


def test_test_part_is_measured_once_per_model_and_ranking(finished, reported):
    spec, out, results = finished
    log = [json.loads(line) for line in (out / "test_log.jsonl").read_text().splitlines()]
    assert len(log) == results.readings == 24
    assert len({(line["cell"], line["ranking"]) for line in log}) == 24
    again = run_experiment(spec, out)
    assert again.readings == 24
    assert to_json(again, reported["comparisons"]) == reported


def test_values_per_query_average_to_the_metric(finished):
    _, out, results = finished
    for row in results.rows[:3]:
        for measured in row.test.values():
            assert set(measured.per_query) == {*measured.metrics, CLUSTER}
            for name in measured.metrics:
                per_query = measured.per_query[name]
                known = per_query[~np.isnan(per_query)]
                mean = known.mean() if known.size else np.nan
                assert mean == pytest.approx(measured.metrics[name], nan_ok=True), name
    file = out / "test" / "marc-s1-b8" / f"{results.rows[0].ranking.replace('*', 'x')}.json"
    loaded = load_measured(file)
    assert loaded is not None
    assert loaded.metrics == pytest.approx(results.rows[0].test[1].metrics, nan_ok=True)
    file_copy = out / "copy.json"
    shutil.copy(file, file_copy)
    with pytest.raises(ModelError, match="measures it again"):
        load_measured(file_copy)
    file_copy.unlink()


def test_tables_say_what_was_measured(finished, reported):
    spec, _, results = finished
    text = to_markdown(results, reported["comparisons"])
    for row in results.rows:
        assert f"| {row.method} | {row.ranking} |" in text
    assert "measured 24 times" in text
    assert "| longer | code | 11 bits |" in text
    assert "| chance |" in text
    latex = to_latex(results)
    assert latex.count(r"\\") == len(results.rows) + 2
    assert r"\begin{tabular}{lllrrrr}" in latex
    head = next(line for line in text.splitlines() if line.startswith("| "))
    assert head.endswith("| ms per query |")
    n_query = results.rows[0].test[1].facts["n_query"]
    assert f"median of {n_query} queries" in text
    for row in reported["rows"]:
        assert set(row["retrieval_time"]) == {"1", "2"}
        for timed in row["retrieval_time"].values():
            assert timed["median_ms"] > 0
            assert timed["n_query"] == timed["k"] == n_query
    found = reported["comparisons"]
    assert {one["bits"] for one in found} == {8, 12}
    assert {one["method"] for one in found} == {"marc"}
    # label, float and itq rank marc's own models, and the longer code stores more bits.
    by_bits = {(row.method, row.bits): row.test[1].facts["bits"] for row in results.rows}
    for one in found:
        mine, other = (by_bits[name, one["bits"]] for name in (one["method"], one["rival"]))
        assert one["rival"] == "label" or (one["rival"], mine) == ("longer", other)
    for one in found:
        assert one["difference"] == pytest.approx(np.mean(one["by_seed"]))
        assert one["interval"][0] <= one["difference"] <= one["interval"][1]
    found = json.dumps(reported, allow_nan=False)
    assert spec.base["data"]["root"] not in found
    assert spec.name in text


def test_figures_are_drawn(finished, tmp_path):
    files = draw(finished[2], tmp_path)
    names = [file.name for file in files]
    assert names == ["by_bits.png", "by_label.png", "by_seed.png", "training.png"]
    for file in files:
        with Image.open(file) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(2**20) or []) > 20


def test_a_row_waits_for_all_its_seeds(images, tmp_path):
    spec = write(tmp_path, images)
    out = tmp_path / "out"
    part = run_experiment(spec, out, only=["supcon"])
    assert [row.method for row in part.rows] == ["supcon"]
    assert part.missing == ["marc"]
    assert "not complete: marc" in to_markdown(part)
    whole = run_experiment(spec, out)
    assert [row.method for row in whole.rows] == ["marc", "supcon"]
    assert whole.readings == 4


def test_an_ablation_leaves_the_test_part_alone(images, tmp_path):
    results = run_experiment(write(tmp_path, images, test=False, seeds=[1]), tmp_path / "out")
    assert results.readings == 0
    assert not (tmp_path / "out" / "test").exists()
    assert all(not row.test for row in results.rows)
    assert "Queries: the val part" in to_markdown(results)


def test_a_choice_stays_once_its_test_part_was_measured(images, tmp_path):
    out = tmp_path / "out"
    methods = {"marc": {"rank": ["embedding"]}}
    run_experiment(write(tmp_path, images, methods=methods, seeds=[1]), out)
    both = {"marc": {"rank": ["features", "embedding"]}}
    spec = write(tmp_path, images, methods=both, seeds=[1])
    said: list[str] = []
    results = run_experiment(spec, out, message=said.append)
    assert results.rows[0].ranking == "embedding"
    best = max(results.rows[0].considered, key=results.rows[0].considered.__getitem__)
    assert any("stays with embedding" in line for line in said) == (best == "features")


def test_a_method_that_cannot_be_trained_does_not_stop_the_others(images, tmp_path):
    methods = {
        "wild": {"config": {"optimizer": {"lr": 1e30, "head_lr": 1e30, "epochs": 3}}},
        "supcon": {"config": {"loss": {"name": "supcon"}}},
    }
    results = run_experiment(write(tmp_path, images, methods=methods, seeds=[1]), tmp_path / "out")
    assert list(results.failed) == ["wild-s1"]
    assert [row.method for row in results.rows] == ["supcon"]
    assert "failed: `wild-s1`" in to_markdown(results)


def test_gallery_of_training_images_and_scene_classes(images, tmp_path):
    base = values()["base"]
    base["data"] |= {"target": "group", "split": "files-80-20"}
    methods = {
        "hash": {"config": {"loss": {"name": "supcon"}}, "rank": ["code"]},
        "cue": {"train": "hash", "rank": ["cue"]},
        "label": {"train": "hash", "rank": ["label"]},
    }
    spec = write(
        tmp_path, images, base=base, methods=methods, seeds=[1], gallery="train", bits=[8],
        metrics=["mAP@20", "mAP"], protocol="sl-retrieval-v1", codebook="hadamard",
    )  # fmt: skip
    results = run_experiment(spec, tmp_path / "out")
    sizes = [row.test[1].facts["size"] for row in results.rows]
    assert sizes == ["8 bits", "8 + 4 bits", "4 bits"]
    assert {row.test[1].facts["gallery"] for row in results.rows} == {"train"}
    assert "No validation part" in to_markdown(results)


def test_two_at_once_are_refused(images, tmp_path):
    spec, out = write(tmp_path, images), tmp_path / "out"
    with exclusive(out, ModelError, "x"), pytest.raises(ModelError, match="another process"):
        run_experiment(spec, out)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seed occurs twice"),
        ({"seeds": [1, -2]}, "seed"),
        ({"seeds": 3}, "write a list"),
        ({"bits": [0, 8]}, "bits"),
        ({"base": [1]}, "base must hold sections"),
        ({"methods": {"a": {"rank": "code"}}}, "write a list"),
        ({"methods": {"a": None}}, "write settings"),
        ({"methods": {"a": {"rank": ["itq"]}}}, "ranking itq needs bits"),
        ({"methods": {"a": {"extra_bits": 2}}}, "extra_bits needs bits"),
        ({"methods": {"a": {"rank": ["cue*99999999"]}}}, "label weight"),
        ({"methods": {"a": {"config": {"data": {"split": "files-80-20"}}}}}, "same images"),
        ({"methods": {"a": {"config": {"loss": {"name": "supconn"}}}}}, "method a: unknown loss"),
        ({"methods": {"a": {"config": {"loss": {"options": {"alpha": "5e-1"}}}}}}, "finite number"),
        (
            {"methods": {"a": {"rank": ["cue"], "config": {"model": {"label_head": False}}}}},
            "needs model.label_head",
        ),
        (
            {"methods": {"a": {"rank": ["code"], "config": {"model": {"n_bits": 0}}}}},
            "needs a hash head",
        ),
        ({"metrics": ["nDCG@7"]}, "no metric 'nDCG@7'"),
        ({"metrics": ["ANMRR"]}, "better when it is lower"),
        ({"methods": {}}, "methods"),
        ({"metrics": []}, "metrics is empty"),
        ({"sedes": [1]}, "did you mean 'seeds'"),
        ({"protocol": "ml-retrieval-v2"}, "ml-retrieval-v1"),
        ({"methods": {"a": {"rnak": ["code"]}}}, "did you mean 'rank'"),
        ({"methods": {"a": {"rank": ["codes"]}}}, "did you mean 'code'"),
        ({"methods": {"a": {"rank": []}}}, "rank is empty"),
        ({"methods": {"a/b": {}}}, "method name"),
        ({"methods": {"best": {}}}, "not 'best'"),
        ({"methods": {"a": {"train": "b"}}}, "no method 'b'"),
        ({"methods": {"a": {}, "b": {"train": "a"}, "c": {"train": "b"}}}, "must train its own"),
        ({"methods": {"a": {"config": {"optimizer": {"epoch": 3}}}}}, "did you mean 'epochs'"),
        (
            {
                "bits": [8, 16],
                "methods": {"a": {"bits": [8]}, "b": {"train": "a", "rank": ["cue"]}},
            },
            "a is not trained at 16 bits",
        ),
        ({"compare": [["marc", "supcn"]]}, "did you mean 'supcon'"),
    ],
)
def test_mistakes_in_a_specification_are_one_line(images, tmp_path, changes, word):
    with pytest.raises(UsageError) as caught:
        write(tmp_path, images, **changes)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mistakes_that_only_running_shows(images, tmp_path):
    base = values()["base"]
    base["data"] |= {"split": "files-80-20"}
    with pytest.raises(UsageError, match="no validation part to choose by"):
        run_experiment(write(tmp_path, images, base=base), tmp_path / "a")
    with pytest.raises(UsageError, match="no method 'x'"):
        run_experiment(write(tmp_path, images), tmp_path / "b", only=["x"])
    base["data"] |= {"split": "per-class-96-1-3-seed1"}  # of 36 images a class
    with pytest.raises(UsageError, match="these images has no validation part"):
        run_experiment(write(tmp_path, images, base=base), tmp_path / "c")


def test_a_ranking_cannot_be_chosen_by_what_is_not_defined(images, tmp_path):
    base = values()["base"]
    base["data"] |= {"split": "per-class-90-3-7-seed{seed}"}  # one validation image a class
    methods = {"marc": {"rank": ["embedding", "features"]}}
    spec = write(
        tmp_path, images, base=base, methods=methods, seeds=[1], metrics=["mAP(exact)", "mAP"]
    )
    with pytest.raises(UsageError, match="not defined on the validation part"):
        run_experiment(spec, tmp_path / "out")
    assert not (tmp_path / "out" / "test").exists()


def test_what_a_killed_process_left_does_not_block_a_cell(images, tmp_path):
    spec, out = write(tmp_path, images, seeds=[1], methods={"marc": {}}), tmp_path / "out"
    (out / "runs" / "marc-s1").mkdir(parents=True)
    (out / "runs" / "marc-s1" / ".config.yaml.77.tmp").write_text("da")
    assert not run_experiment(spec, out).failed


def test_unlearned_codes_of_any_length_come_from_one_model(images, tmp_path):
    methods = {"a": {"bits": [8]}, "b": {"train": "a", "rank": ["itq"]}}
    spec = write(tmp_path, images, bits=[4, 12], methods=methods, seeds=[1], test=False)
    assert [cell.name for cell in cells(spec)] == ["a-s1-b8"]
    rows = run_experiment(spec, tmp_path / "out").rows
    sizes = [row.validation[1].facts["size"] for row in rows]
    assert sizes == ["12 floats", "4 bits", "12 bits"]


def test_settings_lie_over_each_other():
    base = {"loss": {"name": "marc", "options": {"alpha": 1}, "label": 2}, "seed": 3}
    assert merged(base, {"loss": {"options": {"gamma": 0}}})["loss"] == {
        "name": "marc", "options": {"alpha": 1, "gamma": 0}, "label": 2,
    }  # fmt: skip
    assert merged(base, {"loss": {"name": "supcon"}})["loss"] == {"name": "supcon", "label": 2}
    assert merged(base, {"loss": {"name": "marc"}})["loss"] == base["loss"]
    unnamed = {"loss": {"options": {"alpha": 1}}}
    assert merged(unnamed, {"loss": {"name": "marc"}})["loss"]["options"] == {"alpha": 1}
    assert base["loss"]["options"] == {"alpha": 1}


def spaces(n, n_bits, n_labels, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 16)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    code = pack_bits(rng.integers(0, 2, (n, n_bits)).astype(bool))
    return Spaces(x, x, code, n_bits, rng.random((n, n_labels)).astype(np.float32))


@pytest.mark.parametrize("weight", [1, 3])
def test_cue_distance_bit_by_bit(weight):
    ours, theirs = spaces(5, 11, 6, 0), spaces(7, 11, 6, 1)
    ranked = rank("cue" if weight == 1 else f"cue*{weight}", ours, theirs)
    rows = ranked.distances.rows(slice(0, 5))
    bits = [unpack_bits(s.code, 11) for s in (ours, theirs)]
    for i in range(5):
        for j in range(7):
            label = sum((ours.label_scores[i] >= 0.5) != (theirs.label_scores[j] >= 0.5))
            hashed = sum(bits[0][i] != bits[1][j])
            assert rows[i, j] == weight * label + hashed
    assert ranked.size == "11 + 6 bits"


@pytest.mark.parametrize(("name", "n_bits"), [("asymmetric", 11), ("asymmetric-cue", 17)])
def test_asymmetric_rankings_are_the_least_squares_fit_of_the_train_part(name, n_bits):
    train, ours, theirs = (spaces(n, 11, 6, n) for n in (60, 5, 7))

    def signs(known):
        bits = unpack_bits(known.code, 11)
        if n_bits == 17:
            bits = np.hstack([known.label_scores >= 0.5, bits])
        return np.where(bits, 1.0, -1.0)

    ranked = rank(name, ours, theirs, train=train)
    # The ridge as extra images: rows of sqrt(penalty) for one bit each, whose embedding is 0.
    images = np.hstack([signs(train), np.ones((60, 1))])
    extra = np.hstack([np.sqrt(RIDGE * 60) * np.eye(n_bits), np.zeros((n_bits, 1))])
    target = np.vstack([train.embedding, np.zeros((n_bits, 16))])
    fitted = np.linalg.lstsq(np.vstack([images, extra]), target, rcond=None)[0]
    decoded = np.hstack([signs(theirs), np.ones((7, 1))]) @ fitted
    rows = ranked.distances.rows(slice(1, 5))
    np.testing.assert_allclose(rows, -ours.embedding[1:5] @ decoded.T, atol=1e-6)
    assert ranked.bits == n_bits
    assert ranked.size == ("11 bits" if n_bits == 11 else "11 + 6 bits")
    with pytest.raises(UsageError, match="train part"):
        rank(name, ours, theirs)


def test_rankings_that_the_model_cannot_give():
    bare = spaces(4, 0, 0, 0)
    for name, word in (("code", "hash head"), ("cue", "label head"), ("itq", "needs bits")):
        with pytest.raises(UsageError, match=word):
            rank(name, bare, bare)
    with pytest.raises(UsageError, match="asymmetric needs a hash head"):
        rank("asymmetric", bare, bare, train=bare)
    with pytest.raises(UsageError, match="hash head"):
        rank("cue", spaces(4, 0, 3, 0), spaces(4, 0, 3, 0))


@pytest.mark.parametrize("clusters", [{}, {CLUSTER: np.arange(40.0) % 8}])
def test_models_of_one_split_do_not_multiply_its_queries(images, tmp_path, clusters):
    rng = np.random.default_rng(0)
    values = {"marc": rng.random(40), "supcon": rng.random(40)}
    values["marc"][3] = values["supcon"][3] = np.nan
    facts = {"bits": None, "n_query": 40, "n_train": 100}

    def compared(split, seeds):
        spec = write(
            tmp_path, images, seeds=seeds, metrics=["nDCG@100"], compare=[["marc", "supcon"]],
            base=merged(BASE, {"data": {"split": split}}),
        )  # fmt: skip
        rows = []
        for name, per_query in values.items():
            mean = {"nDCG@100": float(np.nanmean(per_query))}
            one = Measured(facts, mean, {}, {}, {"nDCG@100": per_query, **clusters})
            rows.append(Row(name, None, "embedding", {}, dict.fromkeys(seeds, one), {}))
        (found,) = comparisons(Results(spec, rows, {}, [], 0, {}))
        return found

    fixed, varied = "per-class-70-10-20-seed1", "per-class-70-10-20-seed{seed}"
    alone, many = compared(fixed, [1]), compared(fixed, [1, 2, 3, 4, 5])
    for key in ("difference", "interval", "p_value", "n_query"):
        assert many[key] == pytest.approx(alone[key], abs=1e-12), key
    several = compared(varied, [1, 2, 3, 4, 5])
    assert np.ptp(several["interval"]) < 0.7 * np.ptp(alone["interval"])
    assert several["n_query"] == 5 * alone["n_query"]


def test_a_run_is_not_measured_on_images_that_were_divided_anew(images, tmp_path):
    root, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(images, root)
    methods = {"marc": {"rank": ["embedding"]}}
    run_experiment(write(tmp_path, root, methods=methods, seeds=[1], test=False), out)
    file = sorted(root.glob("*.png"))[0]
    file.unlink()
    table = root / "labels.csv"
    lines = [line for line in table.read_text().splitlines() if file.name not in line]
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(ModelError, match=r"marc-s1 was trained on other images.* delete the run"):
        run_experiment(write(tmp_path, root, methods=methods, seeds=[1]), out)
    shutil.rmtree(out)
    assert run_experiment(write(tmp_path, root, methods=methods, seeds=[1]), out).readings == 1


def test_images_of_the_test_part_that_cannot_be_read_are_named(images, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(images, root)
    spec = write(tmp_path, root, methods={"marc": {}}, seeds=[1])
    part = read_split(spec.training("marc", 1, None)).part("test")
    part.records[0].path.write_bytes(b"no image")
    said: list[str] = []
    results = run_experiment(spec, tmp_path / "out", message=said.append)
    assert results.rows[0].test[1].facts["n_query"] == len(part.records) - 1
    (line,) = [line for line in said if line.startswith("skipped")]
    assert part.records[0].path.name in line
