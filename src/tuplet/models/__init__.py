"""Encoders, and embedders that carry an encoder with its preprocessing from training to search."""

from tuplet.models import series, text
from tuplet.models.embedder import Embedder
from tuplet.models.encoders import build_encoder, registry
from tuplet.models.word2vec import save_word2vec, word_vectors

__all__ = ["Embedder", "build_encoder", "registry", "save_word2vec", "series", "text", "word_vectors"]
