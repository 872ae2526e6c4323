"""open_clip, transformers and torchgeo behind one protocol, against the bare libraries."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_models
from landcue.errors import ModelError, UsageError
from landcue.models import PretrainedEncoder, fit_space, load_model

SIZES = [(64, 64), (97, 63), (120, 211), (33, 180)]


@pytest.fixture(scope="module")
def pictures():
    return [tiny_models.picture("city", i, size) for i, size in enumerate(SIZES)]


def check_round_trip(encoder, pictures, folder):
    """Save with a fitted space, restore, and compare all outputs."""
    many = [tiny_models.picture(tiny_models.KINDS[i % 4], i) for i in range(24)]
    texts = encoder.general_texts() if encoder.has_text else None
    space = fit_space(encoder.features(many), dim=6, n_bits=6, text_features=texts)
    fitted = PretrainedEncoder(encoder.tower, space)
    fitted.save(folder)
    again = load_model(folder)
    assert again.fingerprint == fitted.fingerprint
    ours, theirs = fitted.encode(pictures), again.encode(pictures)
    np.testing.assert_allclose(ours.embedding, theirs.embedding, atol=1e-6)
    if encoder.has_text:
        np.testing.assert_allclose(
            fitted.encode_text("a harbor"), again.encode_text("a harbor"), atol=1e-6
        )
    return again


# open_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_models.open_clip_folder(tmp_path_factory.mktemp("clip") / "tiny-clip")


def bare_clip(folder):
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


def test_image_and_text_features_equal_bare_open_clip(clip, pictures):
    encoder = load_model(f"open_clip:{clip}")
    model, transform, tokenizer = bare_clip(clip)
    texts = ["a harbor with many small boats", "forest"]
    with torch.inference_mode():
        batch = torch.stack([transform(Image.fromarray(one)) for one in pictures])
        wanted = model.encode_image(batch).numpy()
        words = model.encode_text(tokenizer(texts)).numpy()
    np.testing.assert_allclose(encoder.features(pictures), wanted, atol=1e-5)
    np.testing.assert_allclose(encoder.tower.text_features(texts), words, atol=1e-5)
    assert encoder.has_text


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_preprocessing_equals_that_of_open_clip(pictures, resize_mode, interpolation):
    from open_clip.transform import PreprocessCfg, image_transform_v2

    from landcue.models.pretrained.open_clip_models import _preprocessing

    config = PreprocessCfg(
        size=48, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), resize_mode=resize_mode,
        interpolation=interpolation, fill_color=7,
    )  # fmt: skip

    class Visual:
        preprocess_cfg = config.__dict__

    class Model:
        visual = Visual

    ours = _preprocessing(Model(), "made")
    transform = image_transform_v2(config, is_train=False)
    for one in pictures:
        prepared = torch.from_numpy(ours.prepare(one)).permute(2, 0, 1).float() / 255
        normal = (prepared - torch.tensor(ours.mean).view(3, 1, 1)) / torch.tensor(ours.std).view(
            3, 1, 1
        )
        torch.testing.assert_close(normal, transform(Image.fromarray(one)), atol=1e-5, rtol=0)


def test_a_text_query_is_the_mean_over_prompts(clip):
    from landcue.models.pretrained.encoder import PROMPTS

    encoder = load_model(f"open_clip:{clip}")
    model, _, tokenizer = bare_clip(clip)
    with torch.inference_mode():
        every = model.encode_text(tokenizer([p.format("a harbor") for p in PROMPTS]))
        every = torch.nn.functional.normalize(every, dim=1).mean(0, keepdim=True)
        wanted = torch.nn.functional.normalize(every, dim=1).numpy()
    np.testing.assert_allclose(encoder.encode_text(" a harbor "), wanted, atol=1e-5)
    with pytest.raises(UsageError, match="the text is empty"):
        encoder.encode_text("  ")


def test_an_open_clip_model_is_saved_and_restored(clip, pictures, tmp_path):
    again = check_round_trip(load_model(f"open_clip:{clip}"), pictures, tmp_path / "model")
    assert again.has_text
    assert str(clip.parent) not in (tmp_path / "model" / "config.json").read_text()


def test_the_fingerprint_of_an_open_clip_model_is_golden(clip):
    mark = "6b434fb40b4c2d1b14ef48a1cf5474e7785bef4fa5328e8593f5ce31cb312470"
    assert load_model(f"open_clip:{clip}").fingerprint == mark


def test_open_clip_weights_come_from_files_and_mistakes_are_named(clip, tmp_path):
    wrong = {
        "open_clip:ViT-B-23": "open_clip has no model 'ViT-B-23' (did you mean 'ViT-B-32'",
        "open_clip:ViT-B-32": "several weights of ViT-B-32: use open_clip:ViT-B-32@TAG",
        "open_clip:ViT-B-32@opnai": "no weights 'opnai' of ViT-B-32",
        "open_clip:ViT-B-32@openai": "use open_clip:ViT-B-32-quickgelu@openai",
    }
    for name, message in wrong.items():
        with pytest.raises(UsageError) as error:
            load_model(name)
        assert message in str(error.value), name
        assert "\n" not in str(error.value)
    weights = clip / "open_clip_model.safetensors"
    with pytest.raises(ModelError, match="is for another model"):
        load_model(f"open_clip:ViT-S-32-alt@{weights}")


# transformers


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny_models.hf_vit_folder(tmp_path_factory.mktemp("vit") / "tiny-vit")


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    return tiny_models.hf_clip_folder(tmp_path_factory.mktemp("hf") / "tiny-hf-clip")


def test_features_of_a_vision_model_equal_bare_transformers(vit, pictures):
    from transformers import AutoImageProcessor, AutoModel

    encoder = load_model(f"hf:{vit}")
    model = AutoModel.from_pretrained(vit).eval()
    processor = AutoImageProcessor.from_pretrained(vit, backend="pil")
    inputs = processor([Image.fromarray(one) for one in pictures], return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs).pooler_output.numpy()
    np.testing.assert_allclose(encoder.features(pictures), wanted, atol=1e-5)
    assert not encoder.has_text


def test_weights_without_a_pooling_layer_give_the_class_token(tmp_path, pictures):
    from transformers import AutoImageProcessor, AutoModel

    folder = tiny_models.hf_vit_folder(tmp_path / "mae", pooling=False)
    encoder = load_model(f"hf:{folder}")
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    inputs = processor([Image.fromarray(one) for one in pictures], return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(encoder.features(pictures), wanted, atol=1e-5)
    check_round_trip(encoder, pictures, tmp_path / "model")


def test_image_and_text_features_equal_bare_transformers(siglip, pictures):
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    encoder = load_model(f"hf:{siglip}")
    model = AutoModel.from_pretrained(siglip).eval()
    processor = AutoImageProcessor.from_pretrained(siglip, backend="pil")
    tokens = AutoTokenizer.from_pretrained(siglip)(
        ["a harbor", "trees by the water"], padding=True, return_tensors="pt"
    )
    inputs = processor([Image.fromarray(one) for one in pictures], return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**inputs, **tokens)
    ours = encoder.encode(pictures).embedding
    np.testing.assert_allclose(ours, wanted.image_embeds.numpy(), atol=1e-5)
    texts = encoder.tower.text_features(["a harbor", "trees by the water"])
    texts = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(texts, wanted.text_embeds.numpy(), atol=1e-5)


def test_transformers_models_are_saved_and_restored(vit, siglip, pictures, tmp_path):
    check_round_trip(load_model(f"hf:{vit}"), pictures, tmp_path / "vit")
    assert check_round_trip(load_model(f"hf:{siglip}"), pictures, tmp_path / "clip").has_text


def test_settings_that_a_later_transformers_adds_change_no_fingerprint(vit, tmp_path, monkeypatch):
    """Golden: an archive stays searchable by the model that made it."""
    from transformers import ViTConfig

    saved, plain = load_model(f"hf:{vit}"), ViTConfig.to_dict
    saved.save(tmp_path / "model")
    monkeypatch.setattr(ViTConfig, "to_dict", lambda config: {**plain(config), "added": None})
    assert load_model(tmp_path / "model").fingerprint == saved.fingerprint


def test_broken_transformers_folders_are_named(vit, tmp_path):
    with pytest.raises(ModelError, match=r"hf:.* cannot be read") as error:
        load_model(f"hf:{tmp_path}")
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"hf:.*none: there is no such folder"):
        load_model(f"hf:{tmp_path}/none")
    folder = tiny_models.hf_vit_folder(tmp_path / "vit")
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    processor["rescale_factor"] = 1 / 127.5
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(UsageError, match="resizes or scales in a way that is not known"):
        load_model(f"hf:{folder}")


# torchgeo

WEIGHTS = "ResNet18_Weights.SENTINEL2_ALL_MOCO"


@pytest.fixture(scope="module")
def sentinel(tmp_path_factory):
    """A model of torchgeo and the name of the encoder that reads its weights."""
    geo = pytest.importorskip("torchgeo.models")
    from safetensors.torch import save_file

    file = tmp_path_factory.mktemp("torchgeo") / "weights.safetensors"
    model = tiny_models.steady(geo.get_model("resnet18", in_chans=13))
    save_file(model.state_dict(), file)
    return model, f"torchgeo:{WEIGHTS}@{file}"


def test_the_fingerprint_of_a_torchgeo_model_is_golden(sentinel):
    """It covers the weights, their name, transforms and bands, and nothing of this machine."""
    mark = "bf65bd36f9891397fb2329df87b0f4eb0f15172981dc12ea080649e7283c2674"
    assert load_model(sentinel[1]).fingerprint == mark


def test_features_of_torchgeo_equal_the_bare_model(sentinel, tmp_path):
    import torchgeo.models as geo

    model, name = sentinel
    weight, encoder = geo.get_weight(WEIGHTS), load_model(name)
    assert encoder.tower.bands == tuple(weight.meta["bands"])
    assert encoder.tower.value_range == (0, 10000)
    assert (encoder.image_size, encoder.in_chans) == (256, 13)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 256, 256, 13), np.uint8)
    stored = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * 10000
    with torch.inference_mode():
        wanted = model.forward_head(model.forward_features(weight.transforms(stored)), True).numpy()
    np.testing.assert_allclose(encoder.features(pixels), wanted, atol=1e-5)
    encoder.save(tmp_path / "model")
    assert load_model(tmp_path / "model").fingerprint == encoder.fingerprint


def test_torchgeo_weights_that_cannot_be_used_are_named():
    pytest.importorskip("torchgeo.models")
    wrong = {
        "ResNet18_Weights.SENTINEL2_ALL_MOKO": "did you mean 'ResNet18_Weights.SENTINEL2_ALL_MOCO'",
        "ResNet19": "did you mean 'ResNet18' or",
        "CROMABase_Weights.CROMA_VIT": "without pooled features",
    }
    for name, message in wrong.items():
        with pytest.raises((UsageError, ModelError)) as error:
            load_model(f"torchgeo:{name}")
        assert message in str(error.value) or "cannot be fetched" in str(error.value)
        assert "\n" not in str(error.value)
