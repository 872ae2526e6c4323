"""Encoders of other libraries against the bare libraries, on the same pixels."""

import json
import logging
import re
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import commands
import tiny_models
from landcue.errors import ModelError, UsageError
from landcue.models import PretrainedEncoder, fit_space, load_model
from landcue.models.pretrained import encoder as encoder_module
from landcue.models.pretrained.encoder import fetching, restore_encoder
from landcue.models.pretrained.preprocessing import Preprocessing

SIZES = [(64, 64), (257, 180), (160, 300), (33, 500)]


@pytest.fixture(scope="module")
def pictures():
    return [tiny_models.picture("city", i, size) for i, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny_models.timm_weights(tmp_path_factory.mktemp("timm") / "weights.safetensors")


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    file = tiny_models.onnx_model(tmp_path_factory.mktemp("onnx") / "tiny.onnx")
    file.with_suffix(".yaml").write_text("size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\n")
    return file


# timm


def bare_timm():
    import timm

    model = timm.create_model(tiny_models.TIMM, num_classes=0)
    full = tiny_models.steady(timm.create_model(tiny_models.TIMM))
    model.load_state_dict(full.state_dict(), strict=False)
    return model.eval()


def timm_transform(model):
    from timm.data import create_transform, resolve_model_data_config

    return create_transform(**resolve_model_data_config(model), is_training=False)


def test_features_of_timm_equal_the_bare_model(weights, pictures):
    encoder = load_model(f"timm:{tiny_models.TIMM}@{weights}")
    model = bare_timm()
    transform = timm_transform(model)
    with torch.inference_mode():
        batch = torch.stack([transform(Image.fromarray(one)) for one in pictures])
        wanted = model(batch).numpy()
    np.testing.assert_allclose(encoder.features(pictures), wanted, atol=1e-5)
    unit = wanted / np.linalg.norm(wanted, axis=1, keepdims=True)
    encoding = encoder.encode(pictures)
    np.testing.assert_allclose(encoding.embedding, unit, atol=1e-5)
    assert (encoding.n_bits, encoding.label_scores.shape) == (0, (4, 0))


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_preprocessing_equals_that_of_timm(pictures, crop_mode, interpolation, crop_pct):
    from timm.data import create_transform

    from landcue.models.pretrained.timm_models import _preprocessing

    class Model:
        pretrained_cfg = {  # noqa: RUF012
            "input_size": (3, 96, 96), "crop_pct": crop_pct, "crop_mode": crop_mode,
            "interpolation": interpolation, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4),
        }  # fmt: skip

    ours = _preprocessing(Model(), "made")
    theirs = create_transform(
        (3, 96, 96), is_training=False, interpolation=interpolation, crop_pct=crop_pct,
        crop_mode=crop_mode, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), normalize=False,
    )  # fmt: skip
    for one in pictures:
        wanted = theirs(Image.fromarray(one)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(ours.prepare(one), wanted)


def test_bands_are_resized_one_by_one(pictures):
    rgb = Preprocessing(40, (0.5,) * 3, (0.5,) * 3, scale_size=50)
    many = Preprocessing(40, (0.5,) * 5, (0.5,) * 5, scale_size=50)
    five = np.concatenate([pictures[1], pictures[1][..., :2]], axis=2)
    np.testing.assert_array_equal(many.prepare(five)[..., :3], rgb.prepare(pictures[1]))
    assert many.prepare(five).shape == (40, 40, 5)


def test_what_has_the_models_size_counts_as_prepared(weights):
    encoder = load_model(f"timm:{tiny_models.TIMM}@{weights}")
    one = tiny_models.picture("sand", 0, (200, 200))
    prepared = encoder.prepare(one)
    assert prepared.shape == (160, 160, 3)
    np.testing.assert_array_equal(encoder.prepare(prepared), prepared)
    np.testing.assert_allclose(
        encoder.encode(prepared[None]).embedding, encoder.encode([one]).embedding, atol=1e-6
    )


def test_fingerprints_cover_weights_and_preprocessing(weights, described, tmp_path):
    """Golden: an archive stays searchable by the model that made it."""
    timm_one = load_model(f"timm:{tiny_models.TIMM}@{weights}")
    onnx_one = load_model(f"onnx:{described}")
    assert timm_one.fingerprint == GOLDEN["timm"]
    assert onnx_one.fingerprint == GOLDEN["onnx"]
    other = tmp_path / "tiny.onnx"
    shutil.copy(described, other)
    text = described.with_suffix(".yaml").read_text()
    other.with_suffix(".yaml").write_text(text.replace("0.3]", "0.31]", 1))
    assert load_model(f"onnx:{other}").fingerprint != onnx_one.fingerprint


def test_a_pinned_model_that_was_changed_is_refused_before_anything_is_written(tmp_path):
    from commands import error_line

    file = tiny_models.timm_weights(tmp_path / "weights.safetensors")
    name = f"timm:{tiny_models.TIMM}@{file}"
    pin = load_model(name).fingerprint
    assert load_model(f"{name}@sha256:{pin}").fingerprint == pin
    assert load_model(f"{name}@sha256:{pin[:12].upper()}").dim == load_model(name).dim
    builtin = load_model("builtin").fingerprint
    assert load_model(f"builtin@sha256:{builtin[:16]}").fingerprint == builtin
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # the last weight
    file.write_bytes(data)
    tiny_models.write_pictures(tmp_path / "photos", 4)
    archive = tmp_path / "archive"
    line = error_line(
        1, "index", tmp_path / "photos", archive, "--model", f"{name}@sha256:{pin[:16]}"
    )
    assert f"not the pinned {pin[:16]}" in line
    assert not archive.exists()
    for wrong in ("", "12ab", "x" * 64, pin + "0"):
        with pytest.raises(UsageError, match="12 to 64 hexadecimal digits"):
            load_model(f"{name}@sha256:{wrong}")


GOLDEN = {
    "timm": "147c83548118643077f97aeb166b7def6a814b388cbe3e7bc3e337e456a6256d",
    "onnx": "2f45c4c28bb68b15f9548fff0ed50bb29ece071085a8f0362a6c83099e4b6814",
}


# ONNX


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_features_of_a_described_file_equal_the_bare_session(tmp_path, pictures, layout):
    import onnxruntime as ort

    file = tiny_models.onnx_model(tmp_path / "tiny.onnx", layout=layout, outputs=2)
    file.with_suffix(".yaml").write_text(
        "size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\nresize: squash\n"
        f"layout: {layout}\noutput: features\ninterpolation: bilinear\n"
    )
    encoder = load_model(f"onnx:{file}", threads=1)
    small = [Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR) for one in pictures]
    x = np.stack([np.asarray(one) for one in small]).astype(np.float32) / 255
    x = ((x - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).astype(np.float32)
    if layout == "nchw":
        x = x.transpose(0, 3, 1, 2)
    wanted = ort.InferenceSession(file).run(["features"], {"images": x})[0]
    np.testing.assert_allclose(encoder.features(pictures), wanted, atol=1e-5)


def yaml_error(file, text):
    file.with_suffix(".yaml").write_text(text)
    with pytest.raises(ModelError) as error:
        load_model(f"onnx:{file}")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_wrong_in_a_description_is_named(tmp_path):
    file = tiny_models.onnx_model(tmp_path / "tiny.onnx")
    good = "size: 32\nmean: [0.5, 0.4, 0.3]\nstd: [0.2, 0.3, 0.4]\n"
    with pytest.raises(ModelError, match=r"tiny\.yaml must describe it"):
        load_model(f"onnx:{file}")
    assert "unknown key 'outptu' (did you mean 'output'?)" in yaml_error(file, good + "outptu: x")
    assert "lacks std" in yaml_error(file, "size: 32\nmean: [0.5]\n")
    assert "cannot be read" in yaml_error(file, "size: [")
    assert "holds no keys" in yaml_error(file, "- 1")
    assert "names 2 bands" in yaml_error(file, good + "bands: [a, b]")
    assert "layout 'nhcw'" in yaml_error(file, good + "layout: nhcw")
    assert "no output 'x'" in yaml_error(file, good + "output: x")
    assert "could not convert" in yaml_error(file, good.replace("0.4", "four"))
    assert "std above 0" in yaml_error(file, good.replace("0.2", "0"))
    four = "size: 32\nmean: [0, 0, 0, 0]\nstd: [1, 1, 1, 1]\nbands: [a, b, c, d]\n"
    assert "does not take float32 images [1, 4, 32, 32]" in yaml_error(file, four)
    tiny_models.onnx_model(file, outputs=2)
    assert "has the outputs features, pooled: name one" in yaml_error(file, good)
    tiny_models.onnx_model(file, spatial=True)
    assert "returns [1, 12, 4, 4] for 1 images, not one vector each" in yaml_error(file, good)
    file.write_bytes(b"nothing")
    assert "no usable ONNX model" in yaml_error(file, good)


# Names and files


def test_unknown_models_are_named_with_near_matches(weights, tmp_path):
    wrong = {
        "tim:resnet18": (UsageError, "unknown kind of model 'tim' (did you mean 'timm'"),
        "timm:": (UsageError, "name a model after the colon"),
        "buildin": (
            ModelError,
            "buildin does not exist (did you mean 'builtin'?)",
        ),
        f"onnx:{tmp_path}/none.onnx": (ModelError, "none.onnx does not exist"),
        "timm:resnet81": (UsageError, "'resnet18'"),
        "timm:resnet18.nobody": (UsageError, "timm has no weights 'resnet18.nobody'"),
        f"timm:{tiny_models.TIMM}@{tmp_path}/none.safetensors": (ModelError, "cannot be read"),
        f"timm:{tiny_models.TIMM}@{tmp_path}/a.pth": (ModelError, "can run code"),
        f"timm:test_vit@{weights}": (ModelError, "is for another model, size or number of bands"),
    }
    for name, (kind, message) in wrong.items():
        with pytest.raises(kind) as error:
            load_model(name)
        assert message in str(error.value), name
        assert "\n" not in str(error.value)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is broken"):
        load_model(f"timm:{tiny_models.TIMM}@{broken}")
    bands = tiny_models.timm_weights(tmp_path / "bands.safetensors", in_chans=4)
    with pytest.raises(ModelError, match=r"of shape \[.*\], not \["):
        load_model(f"timm:{tiny_models.TIMM}@{bands}")
    with pytest.raises(UsageError, match="runs on torch"):
        load_model(f"timm:{tiny_models.TIMM}@{weights}", runtime="onnx")


def test_weights_that_cannot_be_fetched_are_named(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tiny_models.write_pictures(tmp_path / "photos", 4)
    words = ("index", tmp_path / "photos", tmp_path / "archive", "--model", "timm:resnet18")
    line = commands.error_line(1, *words)
    assert re.search(r"timm:resnet18: its weights cannot be fetched \(.*resnet18@FILE", line)
    assert not (tmp_path / "archive").exists()


def test_what_a_hub_logs_and_prints_is_not_shown(capfd, caplog):
    def load():
        with fetching("hf:a/b", "use hf:FOLDER"):
            print("Downloading")
            logging.getLogger("huggingface_hub").error("Retrying")
            raise OSError("no network\nat all")

    with pytest.raises(ModelError) as error:
        load()
    assert str(error.value) == "hf:a/b: its weights cannot be fetched (no network); use hf:FOLDER"
    assert capfd.readouterr() == ("", "")
    logging.getLogger("landcue").warning("heard again")
    assert "heard again" in caplog.text


def test_a_model_without_pooled_features_is_refused(weights, monkeypatch):
    import timm

    from landcue.models.pretrained.timm_models import _tower

    class Map(torch.nn.Module):
        def forward(self, x):
            return x[:, :, ::8, ::8]

    preprocessing = Preprocessing(32, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ModelError, match=r"returns \[1, 3, 4, 4\] for 1 images, not one vector"):
        _tower(Map(), "map", preprocessing, "cpu")
    assert timm.is_model(tiny_models.TIMM)


# Folders


@pytest.mark.parametrize("kind", ["timm", "onnx"])
def test_a_saved_encoder_is_restored_without_its_library_files(
    kind, weights, described, pictures, tmp_path
):
    name = f"timm:{tiny_models.TIMM}@{weights}" if kind == "timm" else f"onnx:{described}"
    bare = load_model(name)
    many = [tiny_models.picture(tiny_models.KINDS[i % 4], i) for i in range(40)]
    features = bare.features(many)
    truth = np.arange(40)[:, None] % 4 == 1
    space = fit_space(features, dim=8, n_bits=10, labels=truth, label_names=["water"])
    encoder = PretrainedEncoder(bare.tower, space)
    encoder.save(tmp_path / "model")
    again = load_model(tmp_path / "model")
    assert isinstance(again, PretrainedEncoder)
    assert again.fingerprint == encoder.fingerprint != bare.fingerprint
    assert (again.dim, again.n_bits, again.label_names) == (8, 10, ("water",))
    ours, theirs = encoder.encode(pictures), again.encode(pictures)
    np.testing.assert_array_equal(ours.embedding, theirs.embedding)
    np.testing.assert_array_equal(ours.code, theirs.code)
    np.testing.assert_array_equal(ours.label_scores, theirs.label_scores)
    text = (tmp_path / "model" / "config.json").read_text()
    assert str(tmp_path) not in text
    assert str(weights.parent) not in text


def test_a_folder_whose_files_do_not_belong_together_is_refused(described, tmp_path):
    bare = load_model(f"onnx:{described}")
    features = bare.features([tiny_models.picture("sand", i) for i in range(20)])
    folder = tmp_path / "model"
    PretrainedEncoder(bare.tower, fit_space(features, dim=4)).save(folder)
    space = (folder / "space.safetensors").read_bytes()
    (folder / "space.safetensors").write_bytes(fit_space(features, dim=4, n_bits=2).to_bytes())
    with pytest.raises(ModelError, match="do not belong together"):
        restore_encoder(folder)
    (folder / "space.safetensors").write_bytes(space[:-4])
    with pytest.raises(ModelError, match="is broken"):
        restore_encoder(folder)
    (folder / "space.safetensors").write_bytes(space)
    assert restore_encoder(folder).dim == 4
    config = json.loads((folder / "config.json").read_text())
    for change, message in [
        ({"format": 9}, "format 9"),
        ({"tower": {"kind": "magic"}}, "no known kind"),
        ({"tower": {**config["tower"], "preprocessing": {}}}, "is broken"),
    ]:
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ModelError, match=message):
            load_model(folder)


def test_a_space_of_another_model_is_refused(described):
    bare = load_model(f"onnx:{described}")
    with pytest.raises(ModelError, match="returns 12 features, its space maps 7"):
        PretrainedEncoder(bare.tower, fit_space(np.eye(7), dim=3))


def test_texts_are_refused_in_one_line(described):
    encoder = load_model(f"onnx:{described}")
    assert not encoder.has_text
    with pytest.raises(UsageError, match=r"onnx:tiny\.onnx has no text tower") as error:
        encoder.encode_text("a harbor")
    assert "\n" not in str(error.value)


def test_pretrained_encoders_are_listed_by_kind():
    from landcue.models.load import list_models

    assert "builtin" in list_models()
    assert "timm:resnet18.a1_in1k" in list_models("timm:resnet18*")
    assert "open_clip:ViT-B-32@laion2b_s34b_b79k" in list_models("open_clip:ViT-B-32*")
    assert list_models("timm:nothing*") == []
    with pytest.raises(UsageError, match="no list of models of kind 'clip'"):
        list_models("clip:*")


def test_a_line_says_what_is_waited_for_when_loading_takes_long(monkeypatch, capsys):
    shown = threading.Event()

    def show(*values, **options):
        print(*values, **options)
        shown.set()

    monkeypatch.setattr(encoder_module, "print", show, raising=False)
    with encoder_module.fetching("timm:some", "use a file", notice_after=0.0):
        assert shown.wait(30)
    assert capsys.readouterr().err == "loading timm:some: waiting for its hub or its files\n"
    with encoder_module.fetching("timm:some", "use a file", notice_after=600.0):
        pass
    assert capsys.readouterr().err == ""
