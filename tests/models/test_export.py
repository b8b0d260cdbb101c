"""What is exported computes the same without tuplet."""

import importlib.util
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tuplet.data.transforms import ImagePreprocessing, SeriesPreprocessing, TextPreprocessing, VectorPreprocessing
from tuplet.errors import CheckpointError, DataError, MissingExtraError, install
from tuplet.models import Embedder, build_encoder
from tuplet.models.export import export

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
KINDS = {
    "image": ({"name": "conv-small", "channels": 1, "size": 12, "width": (8, 8)}, ImagePreprocessing(12, 1)),
    "vector": ({"name": "mlp", "in_dim": 5, "dim": 4}, VectorPreprocessing(mean=(1.0,) * 5)),
    "series": ({"name": "series-conv", "channels": 2, "dim": 4, "width": (8, 8, 8)}, SeriesPreprocessing(2, 20)),
    "text": ({"name": "bag-of-words", "buckets": 99, "dim": 4}, TextPreprocessing(buckets=99)),
}


def make(kind):
    config, preprocessing = KINDS[kind]
    return Embedder(build_encoder(config, trust=True), preprocessing, encoder_config=config).train()


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_gives_the_same_embeddings_for_any_number_of_inputs(kind, tmp_path):
    embedder = make(kind)
    assert export(embedder, tmp_path / "model.pt2") < 1e-6
    assert embedder.training
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


@pytest.mark.parametrize("kind", KINDS)
def test_weights_stand_beside_the_network_that_reads_them(kind, tmp_path):
    embedder = make(kind)
    assert export(embedder, tmp_path / "model.safetensors") < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.py", "model.safetensors"]
    weights = load_file(tmp_path / "model.safetensors")
    for name, weight in embedder.encoder.named_parameters():
        [found] = [kept for key, kept in weights.items() if key.endswith(name.replace(".", "_"))]
        torch.testing.assert_close(found, weight.detach(), rtol=0, atol=0)


def test_an_exported_image_model_reads_pixels(tmp_path):
    embedder = make("image")
    export(embedder, tmp_path / "model.pt2")
    pixels = torch.randint(0, 256, (9, 1, 12, 12), dtype=torch.uint8)
    program = torch.export.load(tmp_path / "model.pt2").module()
    torch.testing.assert_close(program(pixels), embedder.embed(pixels))


@pytest.mark.slow
@pytest.mark.skipif(not ONNX, reason="onnx, onnxscript or onnxruntime is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_an_onnx_file_gives_the_same_embeddings(kind, tmp_path):
    assert export(make(kind), tmp_path / "model.onnx") < 1e-5
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


@pytest.mark.skipif(ONNX, reason="onnx is installed")
def test_onnx_that_is_not_installed_is_named_with_the_line_that_installs_it(tmp_path):
    with pytest.raises(MissingExtraError, match="Export to ONNX needs") as caught:
        export(make("vector"), tmp_path / "model.onnx")
    assert caught.value.hint == f"Type: {install('export')}"
    assert list(tmp_path.iterdir()) == []


class TwoFaced(nn.Module):
    """Computes something else when it is exported."""

    def forward(self, x):
        return x * 2 if torch.compiler.is_exporting() else x


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    config = {"name": "callable", "target": "two_faced:TwoFaced", "dim": 5}
    embedder = Embedder(TwoFaced(), VectorPreprocessing(), encoder_config=config)
    for name in ("model.pt2", "model.safetensors"):
        with pytest.raises(CheckpointError) as refused:
            export(embedder, tmp_path / name, example=np.random.default_rng(0).normal(size=(2, 5)))
        assert (refused.value.reference, list(tmp_path.iterdir())) == ("export-differs", [])


def test_an_input_of_unknown_shape_needs_an_example(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "two_faced", sys.modules[__name__])
    config = {"name": "callable", "target": "torch.nn:Flatten", "dim": 5}
    embedder = Embedder(build_encoder(config, trust=True), VectorPreprocessing(), encoder_config=config)
    with pytest.raises(DataError, match="shape of an input of 'callable' is not known") as caught:
        export(embedder, tmp_path / "model.pt2")
    assert "example=" in caught.value.hint
    assert export(embedder, tmp_path / "model.pt2", example=[[1, 2, 3, 4, 5]]) == 0


def test_texts_themselves_cannot_be_exported(tmp_path):
    config = {"name": "callable", "target": "torch.nn:Identity", "dim": 5}
    embedder = Embedder(build_encoder(config, trust=True), TextPreprocessing(hashed=False), encoder_config=config)
    with pytest.raises(DataError, match="reads texts"):
        export(embedder, tmp_path / "model.pt2")


def test_an_unknown_suffix_names_the_known_ones(tmp_path):
    with pytest.raises(CheckpointError, match=r"ends in '\.h5'") as caught:
        export(make("vector"), tmp_path / "model.h5")
    assert caught.value.reference == "export-format"
    assert {".pt2", ".onnx", ".safetensors"} <= set(re.findall(r"\.\w+", caught.value.hint))


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/model\.pt2 could not be written"):
        export(make("vector"), tmp_path / "file" / "model.pt2")
