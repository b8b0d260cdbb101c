"""What metrics take, converted and checked: embeddings, labels, groups, numbers; and the libraries that some need.

Tensors, NumPy arrays and nested lists are all taken; what is none of these, or ragged, is refused.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Shaped
from numpy.typing import NDArray
from torch import Tensor

from tuplet.engine.topk import Rows
from tuplet.errors import LabelError, MissingExtraError, NonFiniteError, ShapeError

Arrays = NDArray[Any] | Sequence[Any]
"""What stands for a tensor: a NumPy array, or a list of numbers or of rows."""
Groups = Sequence[str] | Sequence[int] | Int[Tensor, "_"] | Shaped[np.ndarray, "_"]
"""Group of each row, such as the type family of a glyph or the camera of a picture: names or numbers."""

UNKNOWN = -1
"""Label of an example whose class is not known."""


def as_tensor(values: Tensor | Arrays, name: str) -> Tensor:
    """Numbers as a tensor; a tensor stays what it is.

    Raises:
        ShapeError: If these are no numbers, or rows of different lengths.
    """
    if isinstance(values, Tensor):
        return values
    try:
        if isinstance(values, Sequence) and values and isinstance(values[0], Tensor):
            return torch.stack(list(values))
        array = np.asarray(values)
        if array.dtype.kind in "biuf":  # no text, no objects
            wide = array.dtype.newbyteorder("=") if array.dtype != np.uint64 else np.int64
            return torch.from_numpy(np.array(array, dtype=wide))  # a copy: a mapped file may be read-only
        found = f"an array of type {array.dtype}"
    except (TypeError, ValueError, RuntimeError):
        found = "rows of different lengths, or no numbers"
    raise ShapeError(
        f"{name} are {found if isinstance(values, np.ndarray | Sequence) else f'of type {type(values).__name__}'}; "
        "a tensor, a NumPy array or a list of numbers is expected.",
        hint="Pass torch.as_tensor(...) of numbers, every row of the same length.",
        reference="no-tensor",
    )


def embedding_rows(values: Tensor | Arrays, name: str = "embeddings") -> Float[Tensor, "rows dim"]:
    """Embeddings as a matrix of floating-point numbers, on the device that they are on.

    Raises:
        ShapeError: If they are not one row of numbers each.
    """
    rows = as_tensor(values, name)
    if rows.ndim != 2 or rows.is_complex():
        raise ShapeError(
            f"{name} have shape {tuple(rows.shape)} and type {rows.dtype}; one row of real numbers for each example, "
            "shape (rows, dim), is expected.",
            hint="Flatten each example to one row: x.flatten(1).",
            reference="embedding-shape",
        )
    return rows if rows.is_floating_point() else rows.double()


def gallery_rows(values: Rows | Arrays) -> Rows:
    """The same for a gallery; a (memory-mapped) array of floating-point rows stays where it is."""
    if isinstance(values, np.ndarray) and values.ndim == 2 and values.dtype.kind == "f":
        return values
    return embedding_rows(values, "gallery")


def finite_rows(embeddings: Tensor | Arrays, name: str = "embeddings") -> Float[Tensor, "rows dim"]:
    """Embeddings as float64 on the CPU.

    Raises:
        ShapeError: If they are no matrix, or a row holds NaN or infinity.
    """
    rows = embedding_rows(embeddings, name).detach().cpu().double()
    refuse_non_finite(rows, name)
    return rows


def refuse_non_finite(rows: Float[Tensor, "rows dim"], name: str) -> None:
    """Name the rows that hold NaN or infinity.

    Raises:
        ShapeError: If there are any.
    """
    bad = (~rows.isfinite().all(1)).nonzero()[:, 0].tolist()
    if bad:
        shown = ", ".join(map(str, bad[:10])) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
        raise NonFiniteError(
            f"The {name} hold NaN or infinity in {len(bad)} rows: {shown}.",
            hint="Look at what made these embeddings: a diverged model, a broken input, a division by zero.",
            reference="non-finite-embeddings",
        )


def class_labels(labels: Shaped[Tensor, " rows"] | Arrays, rows: int, name: str = "labels") -> Int64[Tensor, " rows"]:
    """Labels as int64 on the CPU, one for each row.

    Raises:
        LabelError: If they are no integers (float32 would merge ids above 2^24) or not one per row.
    """
    try:
        found = as_tensor(labels, name)
    except ShapeError as problem:
        raise _no_labels(problem.message.removesuffix("."), rows) from problem
    if found.shape != (rows,) or found.is_floating_point() or found.is_complex():
        raise _no_labels(f"{name} have shape {tuple(found.shape)} and type {found.dtype}", rows)
    return found.detach().cpu().long()


def _no_labels(what: str, rows: int) -> LabelError:
    return LabelError(
        f"{what}; one integer for each of {rows} rows is expected.",
        hint="Pass class ids as an integer tensor of shape (rows,); -1 for an unknown class. Names become ids by "
        "numpy.unique(names, return_inverse=True)[1].",
        reference="class-labels",
    )


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


def scientific(module: str) -> Any:
    """Import a module of scipy or scikit-learn.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(
            f"This measure needs {module.partition('.')[0]}, which is not installed.",
            extra="app",
        ) from missing
