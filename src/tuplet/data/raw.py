"""Input as embedding: what a trained one has to beat."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.data.dataset import Dataset, Inputs
from tuplet.data.transforms import SeriesPreprocessing, TextPreprocessing, VectorPreprocessing
from tuplet.types import GeometryName

TEXT_DIM = 4096  # tokens are hashed into so many columns, with random signs: inner products keep their mean

Scaling = Literal["none", "centred", "standardised", "per-series", "tf-idf"]


@dataclass(frozen=True)
class RawChoice:
    """One plain way to compare inputs.

    Args:
        scaling: `none`: the numbers as they are; `centred`: minus their mean; `standardised`: each column of deviation
            1 besides; `per-series`: each series by itself, then centred; `tf-idf`: words by how rare they are.
        geometry: How two inputs are compared.
    """

    scaling: Scaling
    geometry: GeometryName

    @property
    def name(self) -> str:
        """In words: `standardised, cosine`."""
        return f"{'as it is' if self.scaling == 'none' else self.scaling}, {self.geometry}"


def raw_choices(dataset: Dataset) -> tuple[RawChoice, ...]:
    """The plain ways to compare some inputs; the usual one first."""
    scalings: tuple[Scaling, ...] = {
        "image": ("centred", "standardised", "none"),
        "vector": ("standardised", "none"),
        "series": ("per-series", "standardised", "none"),
        "text": ("tf-idf", "none"),
    }.get(dataset.kind, ("none",))  # type: ignore[assignment]
    geometries: tuple[GeometryName, ...] = (
        ("euclidean", "cosine") if dataset.kind == "series" else ("cosine", "euclidean")
    )
    # A shift changes no Euclidean distance: what is centred is compared by cosine only.
    return tuple(
        RawChoice(scaling, geometry)
        for scaling in scalings
        for geometry in geometries
        if (scaling, geometry) != ("centred", "euclidean")
    )


def raw_features(
    dataset: Dataset, gallery: Dataset | None = None, scaling: Scaling | None = None
) -> Float[Tensor, "n dim"]:
    """The inputs themselves as vectors.

    Images are their pixels, series their values, rows their numbers. Texts are their words and n-grams, counted.

    Args:
        dataset: What to represent.
        gallery: Whose mean and other statistics count; by default those of `dataset`.
        scaling: See `RawChoice`; by default the first of `raw_choices`.

    Returns:
        Vectors in float32.
    """
    gallery = dataset if gallery is None else gallery
    scaling = raw_choices(dataset)[0].scaling if scaling is None else scaling
    if dataset.kind == "text":
        known = _counts(gallery.inputs)
        mine = known if gallery is dataset else _counts(dataset.inputs)
        if scaling != "tf-idf":
            return mine
        return mine * torch.log((1 + len(known)) / (1 + (known != 0).sum(0)))
    if dataset.kind == "series":
        longest = max(one.shape[-1] for one in gallery.inputs if isinstance(one, Tensor))
        padded = SeriesPreprocessing(length=longest, per_series=scaling == "per-series")
        theirs = padded(gallery.inputs).flatten(1)  # type: ignore[arg-type]
        mine = theirs if gallery is dataset else padded(dataset.inputs).flatten(1)  # type: ignore[arg-type]
        return scaled(mine, theirs, "centred" if scaling == "per-series" else scaling)
    assert isinstance(dataset.inputs, Tensor)  # noqa: S101  images and rows
    assert isinstance(gallery.inputs, Tensor)  # noqa: S101  the same
    if dataset.kind == "vector" and scaling == "standardised":
        return VectorPreprocessing().fit(gallery.inputs)(dataset.inputs)
    return scaled(dataset.inputs.flatten(1), gallery.inputs.flatten(1), scaling)


def scaled(rows: Tensor, reference: Tensor, scaling: Scaling) -> Float[Tensor, "n dim"]:
    """Rows by the mean and deviation of others; a column that never changes there keeps its unit."""
    if scaling == "none":
        return rows.float()
    centre = reference.mean(0, dtype=torch.float32)
    if scaling != "standardised":
        return rows.float() - centre
    variance = torch.zeros_like(centre)
    for start in range(0, len(reference), 4096):  # images stay bytes
        variance += (reference[start : start + 4096].float() - centre).square().sum(0)
    deviation = (variance / max(1, len(reference))).sqrt()
    return (rows.float() - centre) / deviation.where(deviation > 0, 1.0)


def raw_geometry(dataset: Dataset) -> GeometryName:
    """How the inputs themselves are usually compared: series by Euclidean distance, others by cosine."""
    return raw_choices(dataset)[0].geometry


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
