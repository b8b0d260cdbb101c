"""Arrays and lists in the place of tensors: converted, or refused with one sentence."""

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuplet.errors import LabelError, ShapeError, TupletError


def as_tensor(value: Any, name: str, device: torch.device | None = None) -> Tensor:
    """The tensor of a NumPy array, a list of numbers, a list of tensors, or of anything that NumPy can read.

    Args:
        value: A tensor is returned as it is.
        name: Of the argument, for messages.
        device: Where a converted one goes.

    Raises:
        ShapeError: If the value cannot be a tensor: rows of different lengths, objects.
        LabelError: If it is text: classes are numbers.
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and value and all(isinstance(each, Tensor) for each in value):
        if len({each.shape for each in value}) == 1:
            return torch.stack(list(value)).to(device)
        raise _uneven(name)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise _uneven(name) from error
    if array.dtype.kind in "US":
        raise LabelError(
            f"{name} are text ({str(array.flat[0])[:40]!r}, ...); numbers are expected."
            if array.size
            else f"{name} are empty text.",
            hint=f"Number the classes: numpy.unique({name}, return_inverse=True)[1].",
            reference="label-shape",
        )
    if array.dtype.kind not in "biuf" or (array.ndim == 0 and not np.isscalar(value)):
        raise ShapeError(
            f"{name} are of type {type(value).__name__} ({array.dtype}); a tensor, an array or a list of numbers is "
            "expected.",
            hint="Pass a torch tensor.",
            reference="embedding-shape",
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch has few operations for them
    plain = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")  # a copy: writable, strides above 0
    return torch.from_numpy(plain).to(device)


def _uneven(name: str) -> TupletError:
    return ShapeError(
        f"{name} are a list whose entries have different lengths or shapes.",
        hint="Give every row as many numbers, or pad them.",
        reference="embedding-shape",
    )


def wide_dtype(*tensors: Tensor) -> torch.dtype:
    """In which tensors are computed with each other: the widest of theirs, float32 at least."""
    return functools.reduce(torch.promote_types, (x.dtype for x in tensors), torch.float32)
