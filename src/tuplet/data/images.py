"""Image files and arrays as square uint8 tensors."""

import importlib.util
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.faults import Faults
from tuplet.errors import MissingExtraError

FitBy = Literal["crop", "pad", "stretch"]

_SIGNATURES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF8",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP  ",
    *(f"P{kind}".encode() + space for kind in range(1, 8) for space in (b"\n", b" ", b"\r", b"\t")),
)

_ENDS = {b"\x89PNG": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}
_TAIL = 64


def looks_like_image(path: Path) -> bool:
    """Whether a file starts like an image of a known format; it may still be damaged further on."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or head[4:12] in (b"ftypavif", b"ftypavis")


def is_cut_short(path: Path) -> bool:
    """Whether a PNG or JPEG lacks its end; only one that looks so is decoded."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
            file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read()
    except OSError:
        return True
    end = next((end for start, end in _ENDS.items() if head.startswith(start)), b"")
    if end in tail or importlib.util.find_spec("PIL") is None:
        return False
    try:
        _opened(path, 1)
    except _UNREADABLE:
        return True
    return False


def decode_images(
    items: Sequence[Any] | NDArray[Any],
    size: int,
    channels: int,
    fit_by: FitBy,
    *,
    out: NDArray[np.uint8] | None = None,
) -> UInt8[Tensor, "n channels size size"]:
    """Decodes files, Pillow images or arrays, each once, on all cores.

    Args:
        items: Paths, Pillow images, or uint8 arrays (h, w), (h, w, c) or (c, h, w); or one array of many.
        size: Height and width of the result in pixels.
        channels: 1 for grey, 3 for colour.
        fit_by: How another shape becomes a square.
        out: Takes the pixels of files, (n, channels, size, size); None makes room in memory.

    Raises:
        DataError: Items that cannot be decoded, all in one report.
        MissingExtraError: Pillow is not installed.
    """
    if isinstance(items, (np.ndarray, Tensor)) and tuple(items.shape[1:]) == (channels, size, size):
        stored = np.asarray(items)
        if stored.dtype == np.uint8:
            return torch.from_numpy(stored if stored.flags.writeable else stored.copy())
    _require_pillow()
    pixels = np.empty((len(items), channels, size, size), np.uint8) if out is None else out

    def decode(position: int) -> tuple[str, str, str] | None:
        try:
            pixels[position] = _square(_opened(items[position], size), size, channels, fit_by)
        except FileNotFoundError:
            return "missing-file", f"{items[position]}: no such file", "Check these paths; name files that are there."
        except _UNREADABLE as error:
            return "broken-image", f"{_name(items[position], position)}: {_reason(error)}", ""
        return None

    faults = Faults()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for fault in pool.map(decode, range(len(items))):
            if fault is not None:
                reference, text, hint = fault
                faults.add(reference, text, hint=hint)
    faults.raise_if_any()
    return torch.from_numpy(pixels)


# What Pillow raises for damaged files, and this module for pixels it does not understand.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, struct.error)


def _require_pillow() -> None:
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError(
            "Images are decoded with Pillow, which is not installed.",
            hint='Type: pip install "tuplet[app]"',
            reference="missing-extra",
        )


def _name(item: Any, position: int) -> str:
    return str(item) if isinstance(item, (str, Path)) else f"item {position}"


def _reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError  # noqa: PLC0415  optional: part of the extra `app`

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _opened(item: Any, size: int) -> Any:
    """A Pillow image, upright, of 8 bits a channel."""
    from PIL import Image, ImageOps  # noqa: PLC0415  optional: part of the extra `app`

    if isinstance(item, (np.ndarray, Tensor)):
        return Image.fromarray(_rows_first(np.asarray(item)))
    if isinstance(item, Image.Image):
        image = ImageOps.exif_transpose(item)
    else:
        try:
            with Image.open(item) as file:
                file.draft(None, (2 * size, 2 * size))  # JPEG only: decodes at a fraction, never below this size
                image = ImageOps.exif_transpose(file)
        except Image.DecompressionBombError as error:
            raise ValueError(str(error)) from error
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers, not 8-bit or 16-bit ones")
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip them to 255
        pixels = np.asarray(image).astype(np.int64)
        image = Image.fromarray((pixels if pixels.max() < 256 and image.mode == "I" else pixels >> 8).astype(np.uint8))
    return image


def _rows_first(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """(h, w) or (h, w, c), from (c, h, w) too."""
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise ValueError(f"an array {pixels.shape} of {pixels.dtype}, not (h, w) or (h, w, c) of uint8")
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4):
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return np.ascontiguousarray(pixels)


def _square(image: Any, size: int, channels: int, fit_by: FitBy) -> NDArray[np.uint8]:
    """Pixels (c, size, size); what is transparent lies on white."""
    from PIL import Image, ImageOps  # noqa: PLC0415  optional: part of the extra `app`

    if "A" in image.getbands() or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (size, size):
        bilinear = Image.Resampling.BILINEAR
        if fit_by == "stretch":
            image = image.resize((size, size), bilinear)
        elif fit_by == "crop":
            image = ImageOps.fit(image, (size, size), bilinear)
        else:
            image = ImageOps.pad(image, (size, size), bilinear, color=_border(image))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _border(image: Any) -> int | tuple[int, ...]:
    """Mean colour of the outermost pixels."""
    pixels = np.asarray(image).astype(np.float64)
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    mean = edge.mean(0).round().astype(int)
    return int(mean) if mean.ndim == 0 else tuple(mean.tolist())
