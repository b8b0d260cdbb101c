"""Image files and arrays as square uint8 tensors."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.image_files import UNREADABLE, opened, quiet, reason, require_pillow
from tuplet.data.source_errors import SourceErrors

FitBy = Literal["crop", "pad", "stretch"]
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Levels = tuple[float, float]
"""Values of black and of white in images of more than 8 bits."""
EIGHT_BITS: Levels = (0.0, 255.0)
_DARK = 32  # of 256 levels: colour images of 16 bits that do not reach it lose most of what they hold
_CHANNELS = (1, 3, 4)


def decode_images(
    items: Sequence[Any] | NDArray[Any],
    size: int,
    channels: int,
    fit_by: FitBy,
    *,
    resize: int = 0,
    resample: Resample = "bilinear",
    levels: Levels | None = None,
    out: NDArray[np.uint8] | None = None,
) -> UInt8[Tensor, "n channels size size"]:
    """Decodes files, Pillow images or arrays, each once, on all cores.

    Args:
        items: Paths, the bytes of files (`BytesIO`), Pillow images, or arrays (h, w), (h, w, c) or (c, h, w); or one
            array of many. Arrays are uint8, or other whole numbers, which are images of more than 8 bits.
        size: Height and width of the result in pixels.
        channels: 1 for grey, 3 for colour.
        fit_by: How another shape becomes a square.
        resize: What the shorter side becomes before the middle is cropped; 0 takes as much of the image as fits.
        resample: The filter of another size.
        levels: Values of black and white in images of more than 8 bits; None for the least and largest of these items.
        out: Takes the pixels of files, (n, channels, size, size); None makes room in memory.

    Raises:
        DataError: Items that cannot be decoded, all in one report.
        MissingExtraError: Pillow is not installed.
    """
    if isinstance(items, (np.ndarray, Tensor)) and tuple(items.shape[1:]) == (channels, size, size):
        stored = np.asarray(items)
        if stored.dtype == np.uint8:
            return torch.from_numpy(stored if stored.flags.writeable else stored.copy())
    require_pillow()
    pixels = np.empty((len(items), channels, size, size), np.uint8) if out is None else out
    levels = levels or find_levels(items) or EIGHT_BITS

    def decode(position: int) -> tuple[str, str, str] | None:
        try:
            image = _shallow(_upright(items[position], max(size, resize)), levels)
            pixels[position] = _square(image, size, channels, fit_by, resize=resize, resample=resample)
        except FileNotFoundError:
            return "missing-file", f"{_name(items[position], position)}: no such file", _MISSING
        except UNREADABLE as error:
            return "broken-image", f"{_name(items[position], position)}: {reason(error)}", ""
        return None

    problems = SourceErrors()
    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for problem in pool.map(decode, range(len(items))):
            if problem is not None:
                reference, text, hint = problem
                problems.add(reference, text, hint=hint)
    problems.raise_if_any()
    return torch.from_numpy(pixels)


_MISSING = "Check these paths; name files that are there."


def find_levels(items: Sequence[Any] | NDArray[Any]) -> Levels | None:
    """Least and largest value in those images that have more than 8 bits; None if none has.

    Of files the heads are read, and what has more than 8 bits is decoded. What cannot be decoded is not looked at.

    Raises:
        DataError: Colour images of 16 bits use their lowest bits only, which Pillow drops.
    """
    if isinstance(items, (np.ndarray, Tensor)):
        known = np.asarray(items)
        blocks = [] if known.dtype == np.uint8 else np.array_split(known, max(1, known.size >> 24))
        return _joined([(float(block.min()), float(block.max())) for block in blocks if block.size])
    require_pillow()

    def look(item: Any) -> tuple[Levels | None, int | None]:
        try:
            if isinstance(item, (str, Path, BytesIO)):
                with opened(_file(item)) as file:
                    if not _is_deep(file):
                        return None, _brightest(file) if _is_deep_colour(file) else None
                    file.load()
                    return _range(_values(file)), None
            return (_range(_values(item)) if _is_deep(item) else None), None
        except UNREADABLE:
            return None, None

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = [*pool.map(look, items)]
    bright = {position: value for position, (_, value) in enumerate(seen) if value is not None}
    if bright and max(bright.values()) < _DARK:
        problems = SourceErrors()
        first = min(bright)
        problems.add(
            "image-depth",
            f"{len(bright)} colour images of 16 bits, such as {_name(items[first], first)}, use only their lowest bits",
        )
        problems.raise_if_any()
    return _joined([levels for levels, _ in seen if levels is not None])


def _joined(levels: list[Levels]) -> Levels | None:
    return (min(low for low, _ in levels), max(high for _, high in levels)) if levels else None


def _range(values: NDArray[Any]) -> Levels | None:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else None


def _is_deep(item: Any) -> bool:
    """Whether an image has one channel of more than 8 bits, or an array is of another type than uint8."""
    if isinstance(item, (np.ndarray, Tensor)):
        return bool(np.asarray(item).dtype != np.uint8)
    return bool(item.mode == "F" or item.mode.startswith("I"))


def _is_deep_colour(file: Any) -> bool:
    """Whether Pillow reads the upper 8 of 16 bits of a file: it knows no image of several channels of more."""
    if file.format == "PNG":
        return bool(file.tile) and ";16" in str(file.tile[0][3])  # a plain tuple before Pillow 11
    return file.format == "TIFF" and max(file.tag_v2.get(258, (8,))) > 8


def _brightest(file: Any) -> int:
    return max(high for _, high in np.reshape(file.getextrema(), (-1, 2)).tolist())


def _values(image: Any) -> NDArray[Any]:
    """Pixels of an image of more than 8 bits; unsigned ones of 32 bits, which Pillow takes for signed, as they are."""
    pixels = np.asarray(image)
    sample_format = getattr(image, "tag_v2", {}).get(339, (1,)) if getattr(image, "format", "") == "TIFF" else ()
    return pixels.view(np.uint32) if pixels.dtype == np.int32 and sample_format[:1] == (1,) else pixels


def _file(item: Any) -> Path | BytesIO:
    return item if isinstance(item, BytesIO) else Path(item)


def _name(item: Any, position: int) -> str:
    if isinstance(item, (str, Path)):
        return os.fsencode(item).decode("utf-8", "backslashreplace")
    return f"item {position}"


def _upright(item: Any, size: int) -> Any:
    """An image as its maker saw it, or the values of one that has more than 8 bits, (h, w) or (h, w, c)."""
    from PIL import Image, ImageOps  # noqa: PLC0415  optional: part of the extra `app`

    if isinstance(item, (np.ndarray, Tensor)):
        pixels = _rows_first(np.asarray(item))
        return Image.fromarray(pixels) if pixels.dtype == np.uint8 else pixels
    if isinstance(item, Image.Image):
        return ImageOps.exif_transpose(item)
    with opened(_file(item)) as file:
        file.draft(None, (2 * size, 2 * size))  # JPEG only: decodes at a fraction, never below this size
        if not _is_deep(file):
            return ImageOps.exif_transpose(file)
        file.load()
        return _turned(_values(file), file.getexif().get(0x0112, 1))


def _turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rows and columns in the order that an EXIF orientation asks for."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    upside_down, mirrored = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


def _shallow(image: Any, levels: Levels) -> Any:
    """A Pillow image of 8 bits a channel: black is the lower level, white the upper one."""
    from PIL import Image  # noqa: PLC0415  optional: part of the extra `app`

    if isinstance(image, Image.Image) and not _is_deep(image):
        return image
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("its pixels hold NaN or infinity")
    low, high = levels
    least, most = float(values.min()), float(values.max())
    if most > 2 * high - low or least < 2 * low - high:
        raise ValueError(
            f"its values go from {least:g} to {most:g}, those of the images that a model knows from {low:g} to {high:g}"
        )
    scaled = (values - low) * (255 / (high - low) if high > low else 0.0)
    return Image.fromarray(scaled.round().clip(0, 255).astype(np.uint8))


def _rows_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """(h, w) or (h, w, c), from (c, h, w) too."""
    if pixels.dtype.kind not in "ui" or pixels.ndim not in (2, 3):
        raise ValueError(f"an array {pixels.shape} of {pixels.dtype}, not whole numbers (h, w), (h, w, c) or (c, h, w)")
    if pixels.ndim == 3 and pixels.shape[0] in _CHANNELS and pixels.shape[2] not in _CHANNELS:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] not in _CHANNELS:
        raise ValueError(f"an array {pixels.shape} without an axis of 1, 3 or 4 channels")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return np.ascontiguousarray(pixels)


def _square(
    image: Any, size: int, channels: int, fit_by: FitBy, *, resize: int, resample: Resample
) -> NDArray[np.uint8]:
    """Pixels (c, size, size); what is transparent lies on white."""
    from PIL import Image, ImageOps  # noqa: PLC0415  optional: part of the extra `app`

    if "A" in image.getbands() or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    filtered = Image.Resampling[resample.upper()]
    if resize and fit_by == "crop":
        image = _middle(image, size, resize, filtered)
    if image.size != (size, size):
        if fit_by == "stretch":
            image = image.resize((size, size), filtered)
        elif fit_by == "crop":
            image = ImageOps.fit(image, (size, size), filtered)
        else:
            image = ImageOps.pad(image, (size, size), filtered, color=_border(image))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _middle(image: Any, size: int, resize: int, filtered: Any) -> Any:
    """The middle of an image whose shorter side was brought to `resize`, as image processors cut it."""
    shorter = min(image.size)
    width, height = (int(resize * side / shorter) if side != shorter else resize for side in image.size)
    image = image.resize((width, height), filtered)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _border(image: Any) -> int | tuple[int, ...]:
    """Mean colour of the outermost pixels."""
    pixels = np.asarray(image).astype(np.float64)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    mean = edge.mean(0).round().astype(int)
    return int(mean) if mean.ndim == 0 else tuple(mean.tolist())
