"""BN-Inception: its size, its arithmetic written out a second time, and its weight files."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from landcue.errors import ModelError, UsageError
from landcue.models.backbones import create_backbone, load_backbone_weights
from landcue.models.bn_inception import BNInception


def randomized():
    """A model whose running statistics are not those of the start."""
    torch.manual_seed(0)
    model = BNInception().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.bias, std=0.1)
    return model


def test_it_has_the_published_size():
    model = BNInception()
    classifier = 1000 * (model.num_features + 1)
    assert sum(p.numel() for p in model.parameters()) + classifier == 11_295_240
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convs) == len(norms) == 69
    assert all(conv.bias is not None for conv in convs)
    assert all(norm.eps == 1e-5 for norm in norms)


def test_names_and_shapes_are_those_of_public_files():
    state = BNInception().state_dict()
    some = {
        "conv1_7x7_s2.weight": (64, 3, 7, 7),
        "conv1_7x7_s2_bn.running_var": (64,),
        "conv2_3x3_reduce.bias": (64,),
        "conv2_3x3.weight": (192, 64, 3, 3),
        "inception_3a_1x1.weight": (64, 192, 1, 1),
        "inception_3a_double_3x3_2_bn.bias": (96,),
        "inception_3c_3x3.weight": (160, 128, 3, 3),
        "inception_4a_1x1.weight": (224, 576, 1, 1),
        "inception_4d_1x1.weight": (96, 608, 1, 1),
        "inception_4e_double_3x3_2.weight": (256, 256, 3, 3),
        "inception_5a_3x3_reduce.weight": (192, 1056, 1, 1),
        "inception_5b_pool_proj.weight": (128, 1024, 1, 1),
        "inception_5b_pool_proj_bn.running_mean": (128,),
    }
    assert {name: tuple(state[name].shape) for name in some} == some
    assert not any(name.startswith(("inception_3c_1x1", "inception_4e_pool")) for name in state)


def reference(state, x):
    """The network from its tensors alone, in float64, following the names."""
    state = {name: t.double() for name, t in state.items()}

    def unit(name, x, stride=1):
        weight = state[f"{name}.weight"]
        y = F.conv2d(x, weight, state[f"{name}.bias"], stride, weight.shape[-1] // 2)
        scale = state[f"{name}_bn.weight"] / torch.sqrt(state[f"{name}_bn.running_var"] + 1e-5)
        shift = state[f"{name}_bn.bias"] - state[f"{name}_bn.running_mean"] * scale
        return (y * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)).clamp(min=0)

    def ceil_pool(x):
        windows = [
            [x[..., i : i + 3, j : j + 3].amax((2, 3)) for j in range(0, x.shape[3] - 1, 2)]
            for i in range(0, x.shape[2] - 1, 2)
        ]
        return torch.stack([torch.stack(row, -1) for row in windows], -2)

    x = ceil_pool(unit("conv1_7x7_s2", x, 2))
    x = ceil_pool(unit("conv2_3x3", unit("conv2_3x3_reduce", x)))
    for name in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        p = f"inception_{name}_"
        stride = 2 if name in ("3c", "4e") else 1
        three = unit(p + "3x3", unit(p + "3x3_reduce", x), stride)
        double = unit(p + "double_3x3_1", unit(p + "double_3x3_reduce", x))
        double = unit(p + "double_3x3_2", double, stride)
        if stride == 2:
            x = torch.cat([three, double, ceil_pool(x)], 1)
            continue
        around = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
        pooled = around.amax((-2, -1)) if name == "5b" else around.sum((-2, -1)) / 9
        x = torch.cat([unit(p + "1x1", x), three, double, unit(p + "pool_proj", pooled)], 1)
    return x


@pytest.mark.parametrize("side", [32, 96])
def test_forward_equals_the_network_written_out(side):
    model = randomized().double()
    x = 50 * torch.randn(2, 3, side, side, dtype=torch.float64)
    with torch.no_grad():
        got = model.forward_features(x)
        expected = reference(model.state_dict(), x)
        assert got.shape == (2, 1024, side // 32, side // 32)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(got, expected)
        torch.testing.assert_close(model(x), expected.mean((2, 3)))


@pytest.mark.parametrize(("side", "left"), [(33, 1), (100, 3), (160, 5), (200, 7), (224, 7)])
def test_any_side_fits(side, left):
    with torch.no_grad():
        got = BNInception().eval().forward_features(torch.zeros(1, 3, side, side))
    assert got.shape == (1, 1024, left, left)


@pytest.mark.parametrize("classifier", ["last_linear", "fc"])
def test_old_public_files_load(tmp_path, classifier):
    source = randomized().state_dict()
    # As converted from Caffe: normalization with a leading axis, no step counters, a classifier.
    state = {
        name: tensor[None].clone() if "_bn." in name else tensor
        for name, tensor in source.items()
        if not name.endswith("num_batches_tracked")
    }
    assert state["conv1_7x7_s2_bn.weight"].shape == (1, 64)
    state |= {f"{classifier}.weight": torch.zeros(1000, 1024), f"{classifier}.bias": torch.ones(1)}
    save_file(state, tmp_path / "bn_inception.safetensors")
    target = create_backbone("bn_inception")
    load_backbone_weights(target, tmp_path / "bn_inception.safetensors")
    loaded = target.state_dict()
    assert loaded.keys() == source.keys()
    assert all(torch.equal(loaded[name], source[name]) for name in source)


def test_incomplete_file(tmp_path):
    state = BNInception().state_dict()
    del state["inception_4c_3x3_bn.running_mean"]
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"first 'inception_4c_3x3_bn\.running_mean'"):
        load_backbone_weights(BNInception(), tmp_path / "w.safetensors")


def test_nothing_to_download_and_near_names():
    with pytest.raises(ModelError, match=r"bn_inception has no weights to download; use --init F"):
        create_backbone("bn_inception", hub_weights=True)
    with pytest.raises(UsageError, match="did you mean 'bn_inception'"):
        create_backbone("bn-inception")
