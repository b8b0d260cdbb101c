"""Numbers as tensors that a preprocessing can work with, centred and scaled; when single precision is too little."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import DataError, ShapeError

BLOCK = 1 << 24
"""Numbers looked at together: memory-mapped rows are never held whole."""
_LOST = 1e-3
"""Share of their spread that numbers may lose by rounding."""
_ULP = 2.0**-24
"""Largest relative error of a number that is rounded to float32."""


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the first and last of three axes, in float64; 1 where nothing varies.

    Nothing varies where the deviation is no more than a few roundings to float32 of the mean.
    """
    blocks = torch.split(x, max(1, BLOCK // max(1, x[0].numel())))
    count = len(x) * x.shape[2]
    mean = sum((block.double().sum((0, 2)) for block in blocks), torch.zeros(x.shape[1], dtype=torch.float64)) / count
    squares = ((block.double() - mean[:, None]).square().sum((0, 2)) for block in blocks)
    std = (sum(squares, torch.zeros(x.shape[1], dtype=torch.float64)) / count).sqrt()
    unit = 2.0**-52 if x.dtype == torch.float64 else _ULP
    return mean, std.where(std > 4 * unit * mean.abs() + torch.finfo(torch.float32).tiny, 1.0)


def standardised(x: Tensor, mean: Sequence[float], scale: Sequence[float]) -> Tensor:
    """Centre and scale the last axis, in the precision of `x`; empty statistics change nothing."""
    if mean:
        x = x - torch.tensor(mean, device=x.device, dtype=x.dtype)
    return x / torch.tensor(scale, device=x.device, dtype=x.dtype) if scale else x


def is_wide(mean: Sequence[float], scale: Sequence[float]) -> bool:
    """Whether numbers with these statistics lie too close to each other, for their size, for float32."""
    return any(abs(one) * _ULP > _LOST * other for one, other in zip(mean, scale, strict=bool(scale)))


def loses_in_single(values: NDArray[np.number], axis: int = 1) -> bool:
    """Whether rounding to float32 would take away more than a thousandth of how far numbers lie from each other.

    Times in seconds since 1970 are such numbers: float32 tells them apart only two minutes at a time.

    Args:
        values: Numbers with examples along the first axis, perhaps memory-mapped.
        axis: Each position along it (a column, a channel) has a spread of its own.
    """
    if values.dtype.itemsize < 4 or values.dtype == np.float32 or not values.size:
        return False
    others = tuple(other for other in range(values.ndim) if other != axis)
    count, step = 0, max(1, BLOCK // max(1, values[0].size))
    total = largest = squares = np.float64(0)
    for start in range(0, len(values), step):
        block = np.asarray(values[start : start + step], dtype=np.float64)
        block = np.where(np.isfinite(block), block, 0)
        largest = np.maximum(largest, np.abs(block).max(others, keepdims=True))
        total = total + block.sum(others, keepdims=True)
        count += block.size // max(1, largest.size)
    mean = total / count
    for start in range(0, len(values), step):
        block = np.asarray(values[start : start + step], dtype=np.float64)
        centred = np.where(np.isfinite(block), block - mean, 0.0)
        squares = squares + np.square(centred).sum(others, keepdims=True)
    spread = np.sqrt(squares / count)
    return bool(((largest * _ULP > _LOST * spread) & (spread > 0)).any())


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
