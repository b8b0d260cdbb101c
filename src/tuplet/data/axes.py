"""What the axes of an array of examples mean: rows of numbers, series or images."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuplet.data.manifest import Kind
from tuplet.data.source_errors import SourceErrors

_PIXELS = 8
"""An axis that is shorter counts no pixels, and one that is longer counts no channels of a usual series."""
_CHANNELS = (1, 3)
_IMAGE = "images of one channel: --set data.kind=image"
_SERIES = "series of {1} steps with {0} channels: --set data.kind=series"
_TURNED = (
    "series of {0} steps with {1} channels: turn them, np.save(file, np.load(file).transpose(0, 2, 1)), and --set "
    "data.kind=series"
)


def kind_of(rows: NDArray[Any], kind: Kind | None, name: str, problems: SourceErrors) -> tuple[Kind, tuple[str, ...]]:
    """What an example of an array is, and a sentence on how its axes were read where they could be others.

    Two axes are rows of numbers, three are series (n, channels, time), four are images. Three axes of uint8 whose
    examples are square are images of one channel; where three axes may mean something else too, it is a problem.

    Args:
        rows: Examples along the first axis.
        kind: What the user says an example is; None lets the shape tell.
        name: What the array is called in messages.
        problems: Collects what is ambiguous.
    """
    if kind is not None or rows.ndim != 3:
        return kind or ("image" if rows.ndim == 4 else "vector"), ()
    rest, (first, last) = rows.shape, rows.shape[1:]
    shape = f"{rows.dtype} {rest}"
    is_square = first == last >= _PIXELS
    if rows.dtype == np.uint8 and is_square:
        read = f"{name}: {shape} was read as images of {first} x {last} pixels; if they are series: {_SERIES}"
        return "image", (read.format(first, last) + ".",)
    choices = []
    if first == 1 or (first < _PIXELS and first < last):  # few channels, many steps
        return "series", ()
    if rows.dtype in (np.uint8, np.uint16) and min(first, last) >= _PIXELS:
        choices.append(_IMAGE)
    if is_square and rows.dtype.kind == "f":
        choices.append("images of one channel: save them as uint8, from 0 to 255")
    if first >= last:
        choices.append(_TURNED)
    if choices:
        meant = "; ".join([*choices, _SERIES]).format(first, last)
        problems.add("ambiguous-array", f"{shape} may be several things", hint=f"Say which. If it holds {meant}.")
    return "series", ()


def with_channels(rows: NDArray[Any], kind: Kind) -> NDArray[Any]:
    """The same rows as (n, channels, time) or (n, channels, height, width), without a copy."""
    if (kind == "series" and rows.ndim == 2) or (kind == "image" and rows.ndim == 3):
        return rows[:, None]
    return rows.transpose(0, 3, 1, 2) if kind == "image" and _channels_axis(rows.shape) == 3 else rows


def check_axes(rows: NDArray[Any], kind: Kind, problems: SourceErrors) -> None:
    """Note what keeps an array from being examples of a kind."""
    axes = {"vector": (2,), "series": (2, 3), "image": (3, 4)}.get(kind, ())
    found = f"shape {rows.shape} of {rows.dtype}"
    if rows.ndim not in axes or rows.dtype.kind not in "fiub":
        problems.add("bad-array", f"{found} does not hold examples of kind {kind!r}")
    elif kind != "image":
        return
    elif rows.dtype.kind not in "iu":
        hint = "Save them as uint8 from 0 to 255, (array * 255).round().astype('uint8') where white is 1."
        problems.add("bad-array", f"{found}: images are whole numbers", hint=hint)
    elif rows.ndim == 4 and not _channels_axis(rows.shape):
        hint = "Save images as (n, channels, height, width) or (n, height, width, channels), with 1 or 3 channels."
        problems.add("bad-array", f"{found}: no axis counts 1 or 3 channels", hint=hint)
    elif rows.ndim == 4 and {rows.shape[1], rows.shape[3]} <= set(_CHANNELS) and rows.shape[2] > 1:
        hint = "Save images of one channel as (n, height, width) and say --set data.kind=image."
        problems.add("ambiguous-array", f"{found}: channels may stand second or last", hint=hint)


def _channels_axis(shape: tuple[int, ...]) -> int:
    """Where (n, c, h, w) or (n, h, w, c) counts its channels; 0 if neither axis is of size 1 or 3."""
    return next((axis for axis in (1, 3) if shape[axis] in _CHANNELS), 0)
