"""Input as embedding: what a trained one has to beat."""

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.data.dataset import Dataset, Inputs
from tuplet.data.transforms import SeriesPreprocessing, TextPreprocessing, VectorPreprocessing
from tuplet.types import GeometryName

TEXT_DIM = 4096  # tokens are folded into so many columns, with random signs: inner products keep their mean


def raw_features(dataset: Dataset, gallery: Dataset | None = None) -> Float[Tensor, "n dim"]:
    """The inputs themselves as vectors, to be compared by `raw_geometry`.

    Images are their pixels, series their values (each series scaled by itself), rows their numbers (each column scaled
    to one standard deviation): all of them minus the mean. Texts are their words and n-grams, counted and weighted by
    how rare they are (tf-idf).

    Args:
        dataset: What to represent.
        gallery: Whose mean and other statistics count; by default those of `dataset`.

    Returns:
        Vectors in float32.
    """
    gallery = dataset if gallery is None else gallery
    if dataset.kind == "text":
        known = _counts(gallery.inputs)
        rarity = torch.log((1 + len(known)) / (1 + (known != 0).sum(0)))
        return (known if gallery is dataset else _counts(dataset.inputs)) * rarity
    if dataset.kind == "series":
        longest = max(one.shape[-1] for one in gallery.inputs if isinstance(one, Tensor))
        scaled = SeriesPreprocessing(length=longest, per_series=True)
        theirs = scaled(gallery.inputs).flatten(1)  # type: ignore[arg-type]
        mine = theirs if gallery is dataset else scaled(dataset.inputs).flatten(1)  # type: ignore[arg-type]
        return mine - theirs.mean(0)
    assert isinstance(dataset.inputs, Tensor)  # noqa: S101  images and rows
    assert isinstance(gallery.inputs, Tensor)  # noqa: S101  the same
    if dataset.kind == "vector":
        return VectorPreprocessing().fit(gallery.inputs)(dataset.inputs)
    return dataset.inputs.flatten(1).float() - gallery.inputs.flatten(1).mean(0, dtype=torch.float32)


def raw_geometry(dataset: Dataset) -> GeometryName:
    """How the inputs themselves are compared: series by Euclidean distance, as is the custom, others by cosine."""
    return "euclidean" if dataset.kind == "series" else "cosine"


def _counts(inputs: Inputs) -> Float[Tensor, "n dim"]:
    """How often each token occurs, on a logarithmic scale."""
    texts = [one for one in inputs if isinstance(one, str)]
    tokens = TextPreprocessing().load(texts) if texts else [one for one in inputs if isinstance(one, Tensor)]
    found = torch.zeros(len(inputs), TEXT_DIM)
    for row, ids in enumerate(tokens):
        different, counts = torch.unique(torch.as_tensor(ids).long(), return_counts=True)
        sign = 1 - 2 * (different // TEXT_DIM % 2)
        found[row].index_add_(0, different % TEXT_DIM, sign * (1 + counts.log()))
    return found
