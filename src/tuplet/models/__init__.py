"""Encoders, and embedders that carry an encoder with its preprocessing from training to search."""

from tuplet.models import backbone, series, text
from tuplet.models.embedder import Embedder
from tuplet.models.encoders import build_encoder, registry
from tuplet.models.hub import download, image_options, locate, named_model, sound_options
from tuplet.models.word2vec import save_word2vec, word_vectors

__all__ = [
    "Embedder",
    "backbone",
    "build_encoder",
    "download",
    "image_options",
    "locate",
    "named_model",
    "registry",
    "save_word2vec",
    "series",
    "sound_options",
    "text",
    "word_vectors",
]
