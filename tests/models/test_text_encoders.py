"""Bags of hashed words, and pretrained folders."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import tuplet
from pretrained import write
from tuplet.data.transforms import TextPreprocessing
from tuplet.errors import CheckpointError, MissingExtraError, install
from tuplet.models import Embedder, build_encoder

INSTALLED = importlib.util.find_spec("sentence_transformers") is not None
TEXTS = ["a cat sat", "", "The quick brown fox", "ß 漢字 naïve"]


def test_a_bag_is_the_mean_of_its_tokens_and_filling_counts_for_nothing():
    encoder = build_encoder({"name": "bag-of-words", "buckets": 10, "dim": 3})
    table = encoder.tokens.weight
    expected = torch.stack([(table[4] + table[7] + table[4]) / 3, table[2], torch.zeros(3)])
    torch.testing.assert_close(encoder(torch.tensor([[4, 7, 4], [2, 0, 0], [0, 0, 0]])), expected)


def test_tokens_start_with_length_about_one():
    lengths = build_encoder({"name": "bag-of-words", "buckets": 1000, "dim": 64}).tokens.weight[1:].norm(dim=1)
    assert 0.9 < lengths.mean() < 1.1


def test_the_embedding_of_a_text_is_the_same_in_every_process():
    program = (
        "import sys; from tuplet.models import *; from tuplet.data.transforms import TextPreprocessing\n"
        "config = {'name': 'bag-of-words', 'buckets': 512, 'dim': 8}\n"
        "embedder = Embedder(build_encoder(config, seed=5), TextPreprocessing(buckets=512), encoder_config=config)\n"
        f"sys.stdout.buffer.write(embedder.embed({TEXTS!r}).numpy().tobytes())"
    )
    config = {"name": "bag-of-words", "buckets": 512, "dim": 8}
    embedder = Embedder(build_encoder(config, seed=5), TextPreprocessing(buckets=512), encoder_config=config)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(Path(tuplet.__file__).parents[1])},
        capture_output=True,
        check=True,
    )
    assert done.stdout == embedder.embed(TEXTS).numpy().tobytes()


@pytest.mark.skipif(INSTALLED, reason="sentence-transformers is installed")
def test_a_missing_package_is_named_with_the_line_that_installs_it():
    with pytest.raises(MissingExtraError) as caught:
        build_encoder({"name": "sentence-transformers", "folder": "anywhere"})
    assert caught.value.hint == f"Type: {install('models')}"


@pytest.fixture
def pretrained(tmp_path):
    return write(tmp_path)


@pytest.mark.filterwarnings("ignore")  # of other people's packages
def test_a_pretrained_folder_is_trained_saved_and_moved(pretrained, tmp_path):
    config = {"name": "sentence-transformers", "folder": str(pretrained)}
    embedder = Embedder(build_encoder(config), TextPreprocessing(hashed=False), encoder_config=config)
    before = embedder.embed(TEXTS)
    embedder.train()
    embedder(TEXTS).square().sum().backward()
    torch.optim.SGD(embedder.parameters(), 0.1).step()
    after = embedder.embed(TEXTS, batch_size=3)
    assert after.shape == (4, 16)
    assert not torch.allclose(before, after)
    embedder.save(tmp_path / "model")
    (tmp_path / "model").rename(tmp_path / "moved")
    pretrained.rename(tmp_path / "gone")
    loaded = Embedder.load(tmp_path / "moved")
    torch.testing.assert_close(loaded.embed(TEXTS), after, rtol=1e-5, atol=1e-6)
    loaded.save(tmp_path / "again")
    assert Embedder.load(tmp_path / "again").content_hash() == embedder.content_hash()


@pytest.mark.skipif(not INSTALLED, reason="sentence-transformers is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_folder_without_a_model_is_refused_before_anything_is_downloaded(tmp_path):
    with pytest.raises(CheckpointError, match=r"modules\.json is missing"):
        build_encoder({"name": "sentence-transformers", "folder": str(tmp_path)})
