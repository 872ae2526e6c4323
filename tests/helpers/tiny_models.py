"""Tiny models of other libraries with weights that are always the same, and images for them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

TIMM = "test_resnet"
KINDS = ("field", "water", "city", "sand")


def steady(module):
    """Fill a torch module with numbers from NumPy's generator, the same in every version."""
    import torch

    rng = np.random.default_rng(0)
    state = module.state_dict()
    for name in sorted(state):
        if state[name].is_floating_point():
            shape = tuple(state[name].shape)
            values = rng.normal(size=shape) / np.sqrt(max(1, int(np.prod(shape[1:]))))
            if name.endswith("running_var"):
                values = np.ones(shape) + 0 * values
            elif len(shape) == 1 and name.endswith("weight"):
                values = 1 + 0.1 * values
            state[name] = torch.from_numpy(values.astype(np.float32)).reshape(shape)
    module.load_state_dict(state)
    return module.eval()


def timm_weights(file: Path, name: str = TIMM, **options) -> Path:
    """Write weights of a tiny model of timm, with its classifier, as the hub has them."""
    import timm
    from safetensors.torch import save_file

    save_file(steady(timm.create_model(name, **options)).state_dict(), file)
    return file


def onnx_model(file: Path, *, n_features=12, bands=3, layout="nchw", outputs=1, spatial=False):
    """Write an exported model: patches of 8 x 8 pixels, convolved, and their mean."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(n_features, bands, 8, 8)).astype(np.float32) / 14
    shape = ["n", bands, "h", "w"] if layout == "nchw" else ["n", "h", "w", bands]
    nodes = []
    if layout == "nhwc":
        nodes.append(helper.make_node("Transpose", ["images"], ["turned"], perm=[0, 3, 1, 2]))
    nodes += [
        helper.make_node(
            "Conv",
            ["images" if layout == "nchw" else "turned", "kernel"],
            ["patches"],
            strides=[8, 8],
        ),
        helper.make_node("Relu", ["patches"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"], axis=1),
    ]
    shapes = {
        "features": ["n", n_features],
        "pooled": ["n", n_features, 1, 1],
        "positive": ["n", n_features, "rows", "columns"],
    }
    names = ["positive" if spatial else "features", *(["pooled"] if outputs > 1 else [])]
    kept = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes[n]) for n in names]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        kept,
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def picture(kind: str, seed: int, size=(64, 64)) -> np.ndarray:
    """Draw one of four kinds of surface, uint8 ``[h, w, 3]``."""
    rng = np.random.default_rng(seed)
    high, wide = size
    rows, columns = np.mgrid[:high, :wide]
    shift = rng.integers(0, 16)
    base = {
        "field": np.stack([80 + 0 * rows, 140 + 40 * ((columns + shift) // 8 % 2), 60 + 0 * rows]),
        "water": np.stack([20 + 0 * rows, 60 + 0 * rows, 140 + 20 * np.sin((rows + shift) / 5)]),
        "city": np.stack([120 + 80 * ((rows // 8 + (columns + shift) // 8) % 2)] * 3),
        "sand": np.stack([200 + 0 * rows, 180 + 0 * rows, 120 + 0 * rows]),
    }[kind]
    noisy = np.moveaxis(base, 0, 2) + rng.normal(0, 12, (high, wide, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, n: int = 48, first: int = 0) -> Path:
    """Write images of the four kinds and ``labels.csv`` with their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for i in range(first, first + n):
        kind = KINDS[i % 4]
        Image.fromarray(picture(kind, i)).save(folder / f"{kind}{i:03}.png")
        rows.append([f"{kind}{i:03}.png", *(int(kind == one) for one in KINDS)])
    with (folder.parent / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", *KINDS], *rows])
    return folder
