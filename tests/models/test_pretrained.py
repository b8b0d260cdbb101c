"""Pretrained models of images and texts: what they are given, what of their outputs counts, how they are saved."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from pretrained import MEAN, STD, write_text, write_vision
from sounds import tone, write
from tuplet.data.transforms import ImagePreprocessing, SeriesPreprocessing, TextPreprocessing
from tuplet.errors import CheckpointError, MissingExtraError, RecipeError, TupletError
from tuplet.models import Embedder, build_encoder, image_options, sound_options
from tuplet.models.export import export

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages
TEXTS = ["a cat", "", "the quick brown fox"]


@pytest.fixture(scope="module")
def vision(tmp_path_factory):
    return write_vision(tmp_path_factory.mktemp("models") / "dino")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 61, 3), np.uint8)).save(path)
    return path


def of_images(folder, **options):
    preprocessing = ImagePreprocessing(**image_options(folder))
    config = {"name": "pretrained", "folder": str(folder), "size": preprocessing.size, **options}
    return Embedder(build_encoder(config), preprocessing, encoder_config=config)


def by_hand(folder, picture, size=28):
    """The output of the model for what its image processor makes of a picture, step by step in Pillow."""
    with Image.open(picture) as file:
        wide = file.resize((int(32 * 61 / 40), 32), Image.Resampling.BICUBIC)
    left, top = (wide.width - size) // 2, (32 - size) // 2
    pixels = torch.from_numpy(np.array(wide.crop((left, top, left + size, top + size)))).permute(2, 0, 1) / 255
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        return transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=pixels[None])


@pytest.mark.parametrize("pool", ["auto", "cls", "mean", "pooler"])
def test_an_image_is_embedded_as_the_model_and_its_processor_do_it(vision, picture, pool):
    found = by_hand(vision, picture)
    states = found.last_hidden_state
    expected = {"mean": states[:, 1:].mean(1), "pooler": found.pooler_output}.get(pool, states[:, 0])
    torch.testing.assert_close(of_images(vision, pool=pool).embed([picture]), expected, rtol=1e-5, atol=1e-5)


def test_families_differ_in_what_comes_before_the_patches(tmp_path):
    images = torch.randn(2, 3, 42, 42)
    sizes = {"vit": ("ViT", {}), "registers": ("Dinov2WithRegisters", {"num_register_tokens": 3})}
    for name, (family, more) in sizes.items():
        folder = write_vision(tmp_path / name, family, **more)
        encoder = build_encoder({"name": "pretrained", "folder": str(folder), "size": 42, "pool": "mean"}).eval()
        asked = {"interpolate_pos_encoding": True} if family == "ViT" else {}
        states = transformers.AutoModel.from_pretrained(folder).eval()(pixel_values=images, **asked).last_hidden_state
        torch.testing.assert_close(encoder(images), states[:, -9:].mean(1))


def test_maps_of_a_convolutional_network_are_averaged(tmp_path):
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    encoder = build_encoder({"name": "pretrained", "folder": str(tmp_path), "size": 32}).eval()
    images = torch.randn(2, 3, 32, 32)
    found = transformers.AutoModel.from_pretrained(tmp_path).eval()(pixel_values=images)
    torch.testing.assert_close(encoder(images), found.pooler_output.flatten(1))
    with pytest.raises(RecipeError):
        build_encoder({"name": "pretrained", "folder": str(tmp_path), "size": 32, "pool": "cls"})


@pytest.mark.parametrize("kind", ["image", "text"])
def test_of_a_model_of_images_and_texts_each_kind_gets_its_half(tmp_path, written, kind):
    half = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config={**half, "vocab_size": 57, "eos_token_id": 3, "bos_token_id": 2},
        vision_config={**half, "image_size": 28, "patch_size": 14},
        projection_dim=12,
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(written / name, tmp_path / "clip" / name)
    whole = transformers.CLIPModel.from_pretrained(tmp_path / "clip").eval()
    options = {"name": "pretrained", "folder": str(tmp_path / "clip"), "kind": kind, "size": 28}
    if kind == "image":
        inputs, preprocessing = torch.randn(2, 3, 28, 28), ImagePreprocessing(28)
        expected = whole.visual_projection(whole.vision_model(pixel_values=inputs).pooler_output)
    else:
        inputs, preprocessing = TEXTS, TextPreprocessing(hashed=False)
        read = transformers.AutoTokenizer.from_pretrained(written)(TEXTS, padding=True, return_tensors="pt")
        read.pop("token_type_ids", None)
        expected = whole.text_projection(whole.text_model(**read).pooler_output)
    embedder = Embedder(build_encoder(options).eval(), preprocessing, encoder_config=options)
    torch.testing.assert_close(embedder.encoder(inputs), expected, rtol=1e-5, atol=1e-5)
    embedder.save(tmp_path / "model")
    torch.testing.assert_close(Embedder.load(tmp_path / "model").encoder(inputs), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pool", ["auto", "cls", "last"])
def test_texts_are_embedded_as_the_model_does_it_whatever_their_batch(written, pool):
    model = transformers.AutoModel.from_pretrained(written).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(written)
    options = {"name": "pretrained", "folder": str(written), "kind": "text", "pool": pool}
    found = build_encoder(options).eval()(TEXTS)
    for text, embedding in zip(TEXTS, found, strict=True):
        states = model(**tokens([text], return_tensors="pt")).last_hidden_state[0]
        expected = {"cls": states[0], "last": states[-1]}.get(pool, states.mean(0))
        torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-5)


def test_long_texts_are_cut(written):
    options = {"name": "pretrained", "folder": str(written), "kind": "text", "max_tokens": 6}
    encoder = build_encoder(options).eval()
    torch.testing.assert_close(encoder(["abcd efgh " * 500]), encoder(["abcd"]), rtol=1e-5, atol=1e-5)


def test_what_was_trained_is_saved_and_loads_where_the_model_is_not(vision, picture, tmp_path):
    shutil.copytree(vision, tmp_path / "dino")
    embedder = of_images(tmp_path / "dino", head="linear", dim=5)
    before = embedder.embed([picture])
    torch.optim.SGD(embedder.parameters(), 0.1).zero_grad()
    embedder.train()
    embedder(embedder.preprocessing.load([picture])).square().sum().backward()
    torch.optim.SGD([one for one in embedder.parameters() if one.grad is not None], 0.1).step()
    after = embedder.embed([picture])
    assert after.shape == (1, 5)
    assert not torch.allclose(before, after)
    embedder.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "dino")
    (tmp_path / "model").rename(tmp_path / "moved")
    assert not list((tmp_path / "moved" / "encoder").glob("*.safetensors"))  # the weights are there once
    loaded = Embedder.load(tmp_path / "moved")
    torch.testing.assert_close(loaded.embed([picture]), after, rtol=0, atol=0)
    loaded.save(tmp_path / "again")
    assert Embedder.load(tmp_path / "again").content_hash() == embedder.content_hash()
    assert export(loaded, tmp_path / "one.pt2") < 1e-4


def test_weights_that_no_output_depends_on_do_not_learn(vision, written):
    unused = {name for name, weight in of_images(vision).encoder.named_parameters() if not weight.requires_grad}
    assert unused == {"backbone.model.embeddings.mask_token"}
    text = build_encoder({"name": "pretrained", "folder": str(written), "kind": "text"})
    assert {name.split(".")[2] for name, weight in text.named_parameters() if not weight.requires_grad} == {"pooler"}


def test_activations_computed_again_change_no_gradient(vision):
    images = torch.randn(2, 3, 28, 28)
    gradients = []
    for again in (False, True):
        encoder = of_images(vision).encoder.train()
        encoder.set_checkpointing() if again else None
        encoder(images).square().sum().backward()
        gradients.append([one.grad for one in encoder.parameters() if one.grad is not None])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


DAMAGED = {
    "cut-short": ("damaged-file", lambda folder: (folder / "model.safetensors").write_bytes(b"\x08")),
    "no-weights": ("missing-file", lambda folder: (folder / "model.safetensors").unlink()),
    "pickle": ("missing-file", lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin")),
    "no-config": ("missing-file", lambda folder: (folder / "config.json").unlink()),
    "not-json": ("damaged-file", lambda folder: (folder / "config.json").write_text("[1")),
    "unknown": ("damaged-file", lambda folder: (folder / "config.json").write_text('{"model_type": "mine"}')),
    "list": ("damaged-file", lambda folder: (folder / "config.json").write_text("[]")),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_folder_that_cannot_be_read_is_one_message(vision, tmp_path, damage):
    shutil.copytree(vision, tmp_path / "model")
    reference, harm = DAMAGED[damage]
    harm(tmp_path / "model")
    with pytest.raises(TupletError) as refused:
        build_encoder({"name": "pretrained", "folder": str(tmp_path / "model"), "size": 28})
    assert (refused.value.reference, refused.value.exit_code) == (reference, 3)


def test_code_of_a_folder_is_not_run(vision, tmp_path):
    shutil.copytree(vision, tmp_path / "model")
    (tmp_path / "model" / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    content = json.loads((tmp_path / "model" / "config.json").read_text())
    content |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Config"}}
    (tmp_path / "model" / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError):
        build_encoder({"name": "pretrained", "folder": str(tmp_path / "model"), "size": 28})
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_missing_are_not_made_up(vision, tmp_path):

    shutil.copytree(vision, tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    del weights["encoder.layer.1.norm1.weight"]
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError) as refused:
        build_encoder({"name": "pretrained", "folder": str(tmp_path / "model"), "size": 28})
    assert refused.value.reference == "damaged-file"


@pytest.mark.parametrize(("kind", "other"), [("text", "vision"), ("image", "written"), ("series", "vision")])
def test_a_model_for_another_kind_of_data_is_refused(request, kind, other):
    folder = request.getfixturevalue(other)
    with pytest.raises(RecipeError) as refused:
        build_encoder({"name": "pretrained", "folder": str(folder), "kind": kind, "size": 28})
    assert refused.value.reference == "encoder-kind"


def test_a_model_of_timm_is_known_by_its_folder(tmp_path):
    known = {"input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "mean": MEAN, "std": STD}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny", "pretrained_cfg": known}))
    options = image_options(tmp_path)
    assert (options["size"], options["resize"], options["resample"]) == (224, 248, "bicubic")
    assert options["mean"] == tuple(MEAN)
    with pytest.raises(MissingExtraError) as refused:  # timm is never installed here
        build_encoder({"name": "pretrained", "folder": str(tmp_path)})
    assert refused.value.hint == "Type: pip install timm"


PROCESSORS = {
    "stretched": ({"size": {"height": 224, "width": 224}}, (224, 0, "stretch", "bilinear")),
    "of a number": ({"size": 384, "resample": 3}, (384, 0, "stretch", "bicubic")),
    "cut": ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True,
             "resample": 3}, (224, 256, "crop", "bicubic")),
    "by a share": ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, (224, 256, "crop", "bicubic")),
}  # fmt: skip


@pytest.mark.parametrize("name", PROCESSORS)
def test_settings_of_image_processors_become_options(tmp_path, name):
    settings, expected = PROCESSORS[name]
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD, **settings}))
    options = image_options(tmp_path)
    assert (options["size"], options["resize"], options["fit_by"], options["resample"]) == expected
    assert options["fixed"]
    ImagePreprocessing(**options)


def test_sounds_are_embedded_as_the_model_does_it(tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sizes |= {"conv_dim": (8, 8), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
    config = transformers.Wav2Vec2Config(**sizes, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)
    torch.manual_seed(4)
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "wave")
    extractor = {"sampling_rate": 8000, "do_normalize": True, "return_attention_mask": False}
    (tmp_path / "wave" / "preprocessor_config.json").write_text(json.dumps(extractor))
    assert sound_options(tmp_path / "wave")["rate"] == 8000
    file = write(tmp_path / "a.wav", tone(440))
    preprocessing = SeriesPreprocessing(**sound_options(tmp_path / "wave"))
    options = {"name": "pretrained", "folder": str(tmp_path / "wave"), "kind": "series"}
    embedder = Embedder(build_encoder(options), preprocessing, encoder_config=options)
    samples = torch.from_numpy(tone(440)).float()
    normal = (samples - samples.mean()) / samples.std(correction=0)
    states = transformers.AutoModel.from_pretrained(tmp_path / "wave").eval()(input_values=normal[None])
    expected = states.last_hidden_state.mean(1)
    torch.testing.assert_close(embedder.embed([file]), expected, rtol=1e-3, atol=1e-3)
    embedder.save(tmp_path / "model")
    torch.testing.assert_close(Embedder.load(tmp_path / "model").embed([file]), embedder.embed([file]))
