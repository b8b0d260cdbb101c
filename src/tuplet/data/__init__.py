"""Folders, tables and arrays as data sets."""

from tuplet.data.batch import Batch, take_batch
from tuplet.data.dataset import Dataset, Inputs, Labels, labels_of, load_dataset, take
from tuplet.data.manifest import Columns, Kind, Manifest
from tuplet.data.raw import raw_features
from tuplet.data.read import read_manifest

__all__ = [
    "Batch",
    "Columns",
    "Dataset",
    "Inputs",
    "Kind",
    "Labels",
    "Manifest",
    "labels_of",
    "load_dataset",
    "raw_features",
    "read_manifest",
    "take",
    "take_batch",
]
