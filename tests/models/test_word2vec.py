import numpy as np
import pytest
import torch

from tuplet.data import VectorPreprocessing, WordPreprocessing
from tuplet.errors import ShapeError
from tuplet.models import Embedder, build_encoder, save_word2vec, word_vectors
from tuplet.models.export import export

WORDS = ("the", "naïve", "cat's", "rare")


@pytest.fixture
def vectors():
    return torch.randn(4, 7, generator=torch.Generator().manual_seed(0)) * 1e-3


@pytest.mark.parametrize("name", ["words.txt", "words.bin"])
def test_gensim_reads_the_same_numbers(tmp_path, vectors, name):
    gensim = pytest.importorskip("gensim.models", reason="gensim is not installed (pip install gensim==4.4.0)")
    save_word2vec(tmp_path / name, WORDS, vectors)
    read = gensim.KeyedVectors.load_word2vec_format(str(tmp_path / name), binary=name.endswith(".bin"))
    assert read.index_to_key == list(WORDS)
    assert np.array_equal(read.vectors, vectors.numpy())


def test_the_text_format_is_a_header_and_a_line_per_word(tmp_path):
    save_word2vec(tmp_path / "two.txt", ("a", "b"), torch.tensor([[1.0, -0.5], [0.1, 3e-8]]))
    assert (tmp_path / "two.txt").read_text() == "2 2\na 1.0 -0.5\nb 0.1 0.00000003\n"


def test_the_binary_format_is_little_endian_float32(tmp_path):
    save_word2vec(tmp_path / "one.bin", ("é",), torch.tensor([[1.0, -2.0]]))
    assert (tmp_path / "one.bin").read_bytes() == b"1 2\n\xc3\xa9 \x00\x00\x80\x3f\x00\x00\x00\xc0\n"


@pytest.mark.parametrize("words", [("a b", "c"), ("a",), ("a", "")])
def test_what_the_format_cannot_hold_is_refused(tmp_path, words):
    with pytest.raises(ShapeError):
        save_word2vec(tmp_path / "bad.txt", words, torch.zeros(2, 3))
    assert list(tmp_path.iterdir()) == []


def test_a_saved_embedder_holds_its_words(tmp_path):
    config = {"name": "bag-of-words", "buckets": 5, "dim": 3}
    Embedder(build_encoder(config), WordPreprocessing(WORDS, r"\w+(?:'\w+)?"), encoder_config=config).save(
        tmp_path / "model"
    )
    embedder = Embedder.load(tmp_path / "model")
    words, vectors = word_vectors(embedder)
    assert words == WORDS
    assert torch.equal(vectors, embedder.encoder.tokens.weight.detach()[1:])
    export(embedder, tmp_path / "words.txt")
    save_word2vec(tmp_path / "same.txt", words, vectors)
    assert (tmp_path / "words.txt").read_bytes() == (tmp_path / "same.txt").read_bytes()
    both = embedder.embed(["the cat's", "of unknown"])
    torch.testing.assert_close(both[0], vectors[[0, 2]].mean(0))
    assert not both[1].any()


def test_other_embedders_hold_no_words():
    config = {"name": "linear", "in_dim": 3, "dim": 2}
    with pytest.raises(ShapeError, match="not words"):
        word_vectors(Embedder(build_encoder(config), VectorPreprocessing(), encoder_config=config))
