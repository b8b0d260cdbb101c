"""Checks of what several measures take: embeddings with labels, and groups."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Shaped
from torch import Tensor

from tuplet.errors import LabelError, ShapeError

Groups = Sequence[str] | Int[Tensor, "_"]
"""Group of each row, such as the type family of a glyph: names or numbers."""

UNKNOWN = -1
"""Label of an example whose class is not known."""


def finite_rows(embeddings: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
    """Embeddings as float64 on the CPU.

    Raises:
        ShapeError: If a row holds NaN or infinity.
    """
    rows = embeddings.detach().cpu().double()
    bad = (~rows.isfinite().all(1)).nonzero()[:, 0].tolist()
    if bad:
        shown = ", ".join(map(str, bad[:10])) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise ShapeError(
            f"The embeddings hold NaN or infinity in {len(bad)} rows: {shown}.",
            hint="Look at what made these embeddings: a diverged model, a broken input, a division by zero.",
            reference="non-finite-embeddings",
        )
    return rows


def class_labels(labels: Shaped[Tensor, " rows"], rows: int, name: str = "labels") -> Int64[Tensor, " rows"]:
    """Labels as int64 on the CPU, one for each row.

    Raises:
        LabelError: If they are no integers (float32 would merge ids above 2^24) or not one per row.
    """
    if labels.shape != (rows,) or labels.is_floating_point() or labels.is_complex():
        raise LabelError(
            f"{name} have shape {tuple(labels.shape)} and type {labels.dtype}; "
            f"one integer for each of {rows} rows is expected.",
            hint="Pass class ids as an integer tensor of shape (rows,); -1 for an unknown class.",
            reference="class-labels",
        )
    return labels.detach().cpu().long()


def group_codes(groups: Groups | None, rows: int, name: str) -> np.ndarray | None:
    """Groups as an array of names or numbers, one for each row.

    Raises:
        ShapeError: If there is not one for each row.
    """
    if groups is None:
        return None
    array = groups.detach().cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)
    if array.shape != (rows,):
        raise ShapeError(
            f"{name} have shape {array.shape}; one group for each of {rows} rows is expected.",
            hint="Pass one name or number for each embedding.",
            reference="group-shape",
        )
    return array


def common_codes(first: np.ndarray, second: np.ndarray) -> tuple[Tensor, Tensor]:
    """The same group, the same number, in both."""
    codes = torch.from_numpy(np.unique(np.concatenate([first, second]), return_inverse=True)[1])
    return codes[: len(first)], codes[len(first) :]
