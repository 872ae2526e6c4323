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
            state[name] = torch.from_numpy(np.asarray(values, np.float32)).reshape(shape)
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


def exported_model(file: Path, provenance: dict, dim=8, n_bits=16, size=32) -> Path:
    """Write a model as ``landcue export`` writes one without regions, of four squares' colors."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from landcue.models.onnx import INPUT, METADATA, OUTPUTS, OnnxCard

    widths = dict(zip(OUTPUTS, (dim, n_bits, len(KINDS)), strict=True))
    rng = np.random.default_rng(1)
    weights = {
        f"{name} weights": rng.normal(size=(12, width)).astype(np.float32)
        for name, width in widths.items()
    }
    flat, half = np.array([0, -1]), size // 2
    nodes = [
        helper.make_node("Cast", [INPUT], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["shares"]),
        helper.make_node("Transpose", ["shares"], ["bands"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["bands"], ["squares"], kernel_shape=[half, half], strides=[half, half]
        ),
        helper.make_node("Reshape", ["squares", "flat"], ["features"]),
        helper.make_node("MatMul", ["features", "embedding weights"], ["embedding"]),
        helper.make_node("MatMul", ["features", "hash weights"], ["hash"]),
        helper.make_node("MatMul", ["features", "label_scores weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["label_scores"]),
    ]
    constants = {**weights, "white": np.array(255, np.float32), "flat": flat}
    graph = helper.make_graph(
        nodes,
        "exported",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["n", size, size, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width])
            for name, width in widths.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    sizes = {"dim": dim, "n_bits": n_bits, "image_size": size, "label_names": list(KINDS)}
    card = OnnxCard({"backbone": "tiny", **sizes}, "float32", "f" * 64, provenance, {})
    helper.set_model_props(model, {METADATA: card.to_json()})
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


def open_clip_folder(folder: Path) -> Path:
    """Write a tiny model of open_clip as ``local-dir:`` reads it."""
    import json

    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {
            **{"context_length": 32, "vocab_size": 49408},
            **{"width": 32, "heads": 2, "layers": 2},
        },
    }
    preprocess = {"mean": [0.48, 0.45, 0.4], "std": [0.26, 0.26, 0.27], "size": 48}
    text = json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    (folder / "open_clip_config.json").write_text(text)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {name: value.clone() for name, value in steady(model).state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def hf_vit_folder(folder: Path, *, pooling: bool = True) -> Path:
    """Write a tiny vision transformer and its image processor."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=48, patch_size=16,
    )  # fmt: skip
    steady(ViTModel(config, add_pooling_layer=pooling)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder


def hf_clip_folder(folder: Path) -> Path:
    """Write a tiny CLIP of transformers with its image processor and a tokenizer of few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, PreTrainedTokenizerFast

    words = "a an of with by the satellite image photo aerial photograph harbor boats trees water"
    known = ["<pad>", "<unk>", "<start>", "<end>", *words.split()]
    vocabulary = {word: i for i, word in enumerate(known)}
    bare = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    bare.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 2), ("<end>", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, pad_token="<pad>", unk_token="<unk>", bos_token="<start>",
        eos_token="<end>", model_max_length=24,
    )  # fmt: skip
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text = {**sizes, "num_attention_heads": 2, "vocab_size": len(known)}
    text |= {"max_position_embeddings": 24, "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    vision = {**sizes, "num_attention_heads": 2, "image_size": 48, "patch_size": 16}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)
    steady(CLIPModel(config)).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48}
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
