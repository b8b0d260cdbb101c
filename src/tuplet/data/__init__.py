"""Folders, tables, arrays and series as data sets."""

from tuplet.data.augment import AffineAugment, Augmentation, NoiseAugment, SeriesAugment, TokenAugment
from tuplet.data.corpus import Corpus, read_corpus
from tuplet.data.dataset import Batch, Dataset, Inputs, Labels, Preprocessing, labels_of, load_dataset, take, take_batch
from tuplet.data.hashing import content_ids
from tuplet.data.manifest import Columns, Kind, Manifest, Need, rare_classes
from tuplet.data.raw import RawChoice, raw_choices, raw_features, raw_geometry
from tuplet.data.read import read_manifest
from tuplet.data.split import Leak, find_leaks, split_by_class, split_by_row
from tuplet.data.transforms import (
    ImagePreprocessing,
    SeriesPreprocessing,
    TextPreprocessing,
    VectorPreprocessing,
    preprocessing_from_config,
)
from tuplet.data.words import WordPreprocessing

__all__ = [
    "AffineAugment",
    "Augmentation",
    "Batch",
    "Columns",
    "Corpus",
    "Dataset",
    "ImagePreprocessing",
    "Inputs",
    "Kind",
    "Labels",
    "Leak",
    "Manifest",
    "Need",
    "NoiseAugment",
    "Preprocessing",
    "RawChoice",
    "SeriesAugment",
    "SeriesPreprocessing",
    "TextPreprocessing",
    "TokenAugment",
    "VectorPreprocessing",
    "WordPreprocessing",
    "content_ids",
    "find_leaks",
    "labels_of",
    "load_dataset",
    "preprocessing_from_config",
    "rare_classes",
    "raw_choices",
    "raw_features",
    "raw_geometry",
    "read_corpus",
    "read_manifest",
    "split_by_class",
    "split_by_row",
    "take",
    "take_batch",
]
