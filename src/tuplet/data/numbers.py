"""Numbers as they come, and as tensors that a preprocessing can work with: their type, their shape, all finite."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.scaling import BLOCK, loses_in_single
from tuplet.errors import DataError, ShapeError


def as_floats(items: Any, what: str, expected: str, wide: bool | None) -> Tensor:
    """Numbers as float32, or as float64 where they have to be; what fits already is shared, not copied.

    Args:
        items: Numbers of some shape.
        what: The items in words.
        expected: Their shape in words.
        wide: Whether float64 has to be; None asks the numbers themselves.
    """
    try:
        array = np.asanyarray(items)
        if wide is None:
            wide = array.ndim > 1 and loses(array, axis=1)
        kind = np.float64 if wide and array.dtype != np.float32 else np.float32
        with np.errstate(over="ignore"):  # too large for float32: reported as infinity
            array = array.astype(kind, copy=array.dtype != kind or not array.flags.writeable)
    except (ValueError, TypeError) as error:  # rows of unequal length, or no numbers at all
        raise ShapeError(
            f"{what} must be numbers of shape {expected}: {error}.",
            hint="Give inputs of the shape that the model was trained on.",
            reference="input-shape",
        ) from error
    return torch.from_numpy(array)


def loses(array: NDArray[Any], axis: int) -> bool:
    """Whether float32 cannot tell apart what an array holds along an axis."""
    return array.dtype.kind in "fiu" and loses_in_single(array, axis)


def require_finite(x: Tensor, what: str) -> Tensor:
    """The same numbers, all of them finite."""
    step = max(1, BLOCK // max(1, x[0].numel())) if len(x) else 1
    bad = [
        start + row
        for start in range(0, len(x), step)
        for row in (~x[start : start + step].flatten(1).isfinite().all(1)).nonzero()[:, 0].tolist()
    ]
    if bad:
        raise DataError(
            f"{len(bad)} of {len(x)} inputs hold NaN or infinity; the first is {what} {bad[0]}.",
            hint="Replace or remove these values.",
            reference="not-a-number",
        )
    return x


def wrong_shape(what: str, expected: str, found: Sequence[int]) -> ShapeError:
    """Says what shape inputs have, and what shape they should have."""
    return ShapeError(
        f"{what} must have shape {expected}, not {tuple(found)}.",
        hint="Give inputs of the shape that the model was trained on.",
        reference="input-shape",
    )
