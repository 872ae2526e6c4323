"""Backbones, encoder and checkpoint folders."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as functional
from safetensors.torch import save_file

from landcue.errors import LandcueError, ModelError, UsageError
from landcue.models.backbones import (
    create_backbone,
    freeze_first_layers,
    load_backbone_weights,
    normalization,
)
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.export import round_weights, write_compact
from landcue.models.load import find_model, load_model
from landcue.models.locations import feature_map, locations_of
from landcue.models.mobilenetv2 import MobileNetV2Folded, SameConv2d, fold_batch_norm
from landcue.models.onnx import OnnxEncoder
from landcue.models.resize import resize_square
from landcue.types import Encoder

SMALL = "mobilenetv3_small_050"
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def small(**options) -> NeuralEncoder:
    torch.manual_seed(0)
    defaults = {"image_size": 32, "dim": 8, "n_bits": 12, "label_names": ("a", "b", "c")}
    return NeuralEncoder(build_config(SMALL, **{**defaults, **options})).eval()


@pytest.mark.parametrize("side", [7, 8, 31, 32])
def test_same_padding_equals_the_tensorflow_rule(side):
    conv = SameConv2d(2, 3, 3, stride=2)
    x = torch.randn(1, 2, side, side)
    out = -(-side // 2)
    total = max((out - 1) * 2 + 3 - side, 0)
    padded = torch.zeros(1, 2, side + total, side + total)
    padded[:, :, total // 2 : total // 2 + side, total // 2 : total // 2 + side] = x
    assert torch.allclose(
        conv(x), torch.nn.functional.conv2d(padded, conv.weight, conv.bias, 2), atol=1e-6
    )
    assert conv(x).shape[-1] == out


def test_folded_mobilenet_has_the_published_size():
    backbone = create_backbone("mobilenetv2_folded")
    assert sum(p.numel() for p in backbone.parameters()) == 3_489_097 - 1001 * 1281
    assert backbone(torch.zeros(2, 3, 65, 64)).shape == (2, 1280)


@pytest.mark.real_data
def test_folded_mobilenet_reproduces_the_reference(real_data):
    from landcue.data.datasets import load_dataset
    from landcue.data.images import read_image

    weights = real_data / "weights"
    backbone = create_backbone("mobilenetv2_folded").eval()
    load_backbone_weights(backbone, weights / "mobilenet_v2_1.0_224_imagenet_folded.npz")
    reference = np.load(weights / "mobilenet_v2_reference_outputs.npz")
    paths = {r.id: r.path for r in load_dataset("ucmerced", real_data / "uc_merced").records}
    images = np.stack([read_image(paths[str(i)]) for i in reference["image_ids"]])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        got = backbone(x).numpy()
    assert np.abs(got - reference["features"]).max() < 1e-3


def test_encoder_fulfils_the_protocol():
    model = small()
    assert isinstance(model, Encoder)
    got = model.encode(IMAGES)
    assert got.embedding.shape == (5, 8)
    assert got.embedding.dtype == np.float32
    assert np.allclose(np.linalg.norm(got.embedding, axis=1), 1, atol=1e-5)
    assert got.code.shape == (5, 2)
    assert got.n_bits == 12
    assert (got.code[:, 1] >> 4 == 0).all()  # padding bits
    assert got.label_scores.shape == (5, 3)
    assert ((got.label_scores >= 0) & (got.label_scores <= 1)).all()


def test_code_bits_are_the_signs_of_the_hash_head():
    model = small()
    relaxed = model.outputs(IMAGES).hash.numpy()
    bits = np.unpackbits(model.encode(IMAGES).code, axis=1, bitorder="little")[:, :12]
    assert np.array_equal(bits.astype(bool), relaxed > 0)


def test_heads_can_be_left_out():
    got = small(n_bits=0, label_names=()).encode(IMAGES)
    assert got.code.shape == (5, 0)
    assert got.label_scores.shape == (5, 0)


def test_features_can_be_searched_instead():
    model = small(retrieval="features")
    features = model.outputs(IMAGES).features.numpy()
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert model.dim == features.shape[1]
    assert np.allclose(model.encode(IMAGES).embedding, expected, atol=1e-5)


def test_resize_square_is_pillows_filter_within_a_gray_level():
    from PIL import Image

    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3), np.uint8)
    image.setflags(write=False)
    for size in (16, 50, 90):
        expected = Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR)
        got = resize_square(image, size)
        assert got.shape == (size, size, 3)
        assert got.flags.c_contiguous
        assert np.abs(got.astype(int) - np.asarray(expected)).max() <= 1
    square = image[:50, :50]
    assert resize_square(square, 50) is square


def test_prepare_resizes():
    assert small().prepare(np.zeros((40, 90, 3), np.uint8)).shape == (32, 32, 3)


@pytest.mark.parametrize("bad", [IMAGES.astype(np.float32), IMAGES[..., :2], IMAGES[..., 0]])
def test_encode_refuses_other_types_and_bands(bad):
    with pytest.raises(UsageError, match=r"need uint8 images \[h, w, 3\]"):
        small().encode(bad)


@pytest.mark.parametrize(
    ("bad", "what"), [("a.png", "a list"), ([], "at least one"), (IMAGES[:0, :9], "at least one")]
)
def test_encode_needs_a_list_of_images(bad, what):
    with pytest.raises(UsageError, match=what):
        small().encode(bad)


def test_encode_takes_files_pillow_images_and_arrays_of_any_size(tmp_path):
    from PIL import Image

    model = load_model("builtin")
    pixels = np.random.default_rng(3).integers(0, 256, (3, 90, 120, 3), np.uint8)
    pixels = [pixels[0], pixels[1][:50], pixels[2][:, :70]]
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    expected = model.encode(np.stack([model.prepare(image) for image in pixels])).embedding
    for images in (pixels, files, [str(file) for file in files], map(Image.open, files)):
        found = model.encode(list(images)).embedding
        assert np.array_equal(found, expected)


def test_the_builtin_holds_the_weights_it_was_trained_with():
    exported = load_model("builtin")
    trained = load_model("builtin", runtime="torch")
    assert trained.fingerprint == exported.card.source
    found = exported.encode(IMAGES).embedding
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([trained.prepare(image) for image in IMAGES]))
        out = trained(trained.normalize(x.permute(0, 3, 1, 2))).embedding.numpy()
    assert np.allclose(found, out, atol=1e-5)


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("tim:resnet18", "unknown kind of model 'tim' .*'timm'"),
        ("onnx:none.onnx", "none.onnx does not exist"),
        ("none", "none does not exist"),
    ],
)
def test_a_wrong_address_is_named(uri, what):
    with pytest.raises(LandcueError, match=what):
        load_model(uri)


def test_models_load_without_torch():
    code = (
        "import sys, numpy as np; from landcue.models import load_model\n"
        "load_model('builtin').encode([np.zeros((9, 9, 3), np.uint8)])\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_resize_square_is_torchs_filter_to_the_byte():
    rng = np.random.default_rng(2)
    for i in range(60):
        height, width = rng.integers(1, 400, 2)
        size = int(rng.choice([32, 64, 160, 224]))
        bands = int(rng.choice([1, 3, 3, 4, 12]))
        image = rng.integers(0, 256, (height, size if i % 5 == 0 else width, bands), np.uint8)
        x = torch.from_numpy(image).permute(2, 0, 1)[None]
        out = functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
        expected = out[0].permute(1, 2, 0).numpy()
        assert np.array_equal(resize_square(image, size), expected), (image.shape, size)


def test_the_first_images_of_a_process_are_resized_as_the_later_ones():
    code = (
        "import sys, numpy as np\nfrom landcue.models import resize_square\n"
        "rng = np.random.default_rng(3)\n"
        "shapes = [(50, 70, 3), (300, 200, 3), (1, 9, 1), (33, 64, 4), (700, 31, 12)]\n"
        "images = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]\n"
        "first = [resize_square(image, 64) for image in images]\n"
        "assert 'numba' not in sys.modules\n"
        "for _ in range(3): later = [resize_square(image, 64) for image in images]\n"
        "assert 'numba' in sys.modules\n"
        "assert all(map(np.array_equal, first, later))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("option", [{"dim": 0}, {"n_bits": -1}, {"image_size": 8}])
def test_impossible_configs(option):
    with pytest.raises(UsageError):
        build_config(SMALL, **option)


def test_normalization_follows_the_backbone():
    assert normalization("mobilenetv2_folded") == ((0.5,) * 3, (0.5,) * 3, "rgb")
    assert normalization("resnet18")[0] == (0.485, 0.456, 0.406)


def test_unknown_backbone_suggests():
    with pytest.raises(UsageError, match="resnet18"):
        create_backbone("resnet-18")


def test_checkpoint_round_trip(tmp_path):
    model = small()
    mark = save_checkpoint(tmp_path, model, {"dataset": "d", "scores": {"nDCG@100": 0.5}})
    made = load_checkpoint(tmp_path)
    assert made.encoder.fingerprint == mark == model.fingerprint
    assert made.encoder.config == model.config
    assert made.provenance["dataset"] == "d"
    a, b = model.encode(IMAGES), made.encoder.encode(IMAGES)
    assert np.array_equal(a.embedding, b.embedding)
    assert np.array_equal(a.code, b.code)
    card = (tmp_path / "README.md").read_text()
    assert mark in card
    assert "| nDCG@100 | 0.5000 |" in card
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".md", ".safetensors"]


def test_fingerprint_changes_with_weights_and_config(tmp_path):
    first = save_checkpoint(tmp_path / "a", small(), {})
    assert save_checkpoint(tmp_path / "b", small(), {"note": "provenance is not identity"}) == first
    assert save_checkpoint(tmp_path / "c", small(retrieval="features"), {}) != first
    model = small()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-6
    assert save_checkpoint(tmp_path / "d", model, {}) != first


def flip(file, offset):
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)


def edit(file, change):
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda d: flip(d / "model.safetensors", -5), "fingerprint differs"),
        (lambda d: flip(d / "model.safetensors", 3), "is broken"),
        (lambda d: (d / "model.safetensors").write_bytes(b"x"), "is broken"),
        (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda d: (d / "config.json").unlink(), "config.json is missing"),
        (lambda d: (d / "config.json").write_text("{"), "not valid JSON"),
        (lambda d: (d / "config.json").write_text("[]"), "JSON object"),
        (lambda d: edit(d / "config.json", lambda c: c.update(format=99)), "format 99"),
        (lambda d: edit(d / "config.json", lambda c: c["model"].pop("dim")), "does not describe"),
        (lambda d: edit(d / "config.json", lambda c: c["model"].update(dim=9)), "fingerprint"),
    ],
)
def test_damaged_checkpoints_are_refused_in_one_line(tmp_path, damage, word):
    save_checkpoint(tmp_path, small(), {})
    damage(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_checkpoint(tmp_path)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_checkpoint(tmp_path / "gone")


def test_backbone_weights_from_safetensors_and_from_a_checkpoint(tmp_path):
    source, target = create_backbone(SMALL), create_backbone(SMALL)
    save_file(
        source.state_dict() | {"classifier.weight": torch.zeros(3)}, tmp_path / "w.safetensors"
    )
    load_backbone_weights(target, tmp_path / "w.safetensors")
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(source.eval()(x), target.eval()(x))
    model = small()
    save_checkpoint(tmp_path / "run", model, {})
    load_backbone_weights(target, tmp_path / "run" / "model.safetensors")
    assert torch.equal(model.backbone(x), target(x))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pkl", ".ckpt"])
def test_pickles_are_refused_unopened(tmp_path, suffix):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    file = tmp_path / f"weights{suffix}"
    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="refused"):
        load_backbone_weights(create_backbone(SMALL), file)
    assert not (tmp_path / "exploded").exists()


def test_pickled_arrays_inside_npz_are_refused(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ModelError, match="is broken"):
        load_backbone_weights(create_backbone("mobilenetv2_folded"), tmp_path / "w.npz")


def test_weights_of_another_architecture(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="does not fit this backbone"):
        load_backbone_weights(create_backbone(SMALL), tmp_path / "w.safetensors")
    state = create_backbone(SMALL).state_dict()
    name = next(iter(state))
    save_file(state | {name: torch.zeros(7)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"is \(7,\), need"):
        load_backbone_weights(create_backbone(SMALL), tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["gone.safetensors", "notes.txt"])
def test_unreadable_weight_files(tmp_path, name):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=name):
        load_backbone_weights(create_backbone(SMALL), tmp_path / name)


@pytest.mark.parametrize("side", [32, 35, 64])
def test_folded_mobilenet_computes_the_same_while_it_learns(side):
    model = MobileNetV2Folded().double()
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        expected = model.forward_features(x)
    learning = model.forward_features(x)
    assert learning.shape == expected.shape
    torch.testing.assert_close(learning.detach(), expected)


def test_frozen_layers_are_the_first_ones():
    model = MobileNetV2Folded()
    frozen = freeze_first_layers(model, 3)
    assert [tuple(layer.weight.shape[:2]) for layer in frozen] == [(32, 3), (32, 1), (16, 32)]
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    still = [p.grad is None for p in model.parameters()]
    assert still == [True] * 6 + [False] * (len(still) - 6)
    with pytest.raises(UsageError, match="52 layers"):
        freeze_first_layers(model, 52)


def test_hash_head_starts_where_tanh_has_a_gradient():
    features = 1 + 0.1 * torch.randn(64, 1280, generator=torch.manual_seed(0))
    model = NeuralEncoder(build_config("mobilenetv2_folded", n_bits=64))
    assert float(torch.tanh(model.hash(features)).abs().mean()) < 0.7


@pytest.mark.slow  # the exporter takes long over this backbone
def test_weights_of_8_bits_are_what_the_encoder_becomes(tmp_path):
    torch.manual_seed(0)
    model = NeuralEncoder(
        build_config("mobilenetv2_folded", image_size=32, dim=8, n_bits=12, projection="linear")
    ).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:  # equal tensors would be stored once
            torch.nn.init.normal_(parameter, std=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    round_weights(model)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim > 1:
            step = before[name].abs().amax(tuple(range(1, tensor.ndim)), keepdim=True) / 127
            assert ((tensor - before[name]).abs() <= 0.501 * step + 1e-9).all()
    save_checkpoint(tmp_path / "run", model, {"seed": 3})
    made = load_checkpoint(tmp_path / "run")
    write_compact(made, tmp_path / "packed" / "model.onnx", {})
    size = (tmp_path / "packed" / "model.onnx").stat().st_size
    assert size < 0.6 * (tmp_path / "run" / "model.safetensors").stat().st_size
    again = load_checkpoint(tmp_path / "packed")
    assert again.encoder.fingerprint == made.encoder.fingerprint
    for name, tensor in again.encoder.state_dict().items():
        assert torch.equal(tensor, made.encoder.state_dict()[name]), name
    exported = OnnxEncoder(tmp_path / "packed" / "model.onnx")
    assert exported.has_features
    assert exported.has_locations
    found = exported.outputs(IMAGES, ["embedding", "features", "locations"])
    with torch.inference_mode():
        x = made.encoder.normalize(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
        out = made.encoder(x)
        apart = locations_of(made.encoder, feature_map(made.encoder, x))
    np.testing.assert_allclose(found["embedding"], out.embedding.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["features"], out.features.numpy(), atol=1e-3)
    np.testing.assert_allclose(found["locations"], apart.numpy(), atol=1e-3)
    without = exported.outputs(IMAGES, ["embedding", "features"])
    for name, value in without.items():
        np.testing.assert_array_equal(value, found[name])


def test_the_built_in_file_computes_only_what_is_used():
    graph = onnx.load(find_model("builtin") / "model.onnx").graph
    # A strided convolution that is computed densely is followed by slices.
    assert not {node.op_type for node in graph.node} & {"Slice", "Gather"}
    strided = [a for n in graph.node for a in n.attribute if a.name == "strides"]
    assert sum(list(a.ints) == [2, 2] for a in strided) == 10
    # The projection of each location is in a branch that an input switches on.
    (branch,) = [node for node in graph.node if node.op_type == "If"]
    assert list(branch.input) == ["with_locations"]
    assert list(branch.output) == ["locations"]


def test_joined_backbones_give_both_feature_maps():
    torch.manual_seed(0)
    joined = create_backbone("mobilenetv2_efficientnet_lite0").eval()
    joined.scale.data[:1280], joined.scale.data[1280:] = 2, 3
    x = torch.randn(2, 3, 65, 64)
    with torch.inference_mode():
        first, second = joined.first(x), joined.second(x)
        found = joined(x)
    assert torch.allclose(found, torch.cat([2 * first, 3 * second], dim=1), atol=1e-5)


def test_folding_batch_norm_changes_nothing():
    import timm

    torch.manual_seed(0)
    plain = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = plain.eval()(x)
        folded = fold_batch_norm(plain)
        assert torch.allclose(folded(x), expected, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
