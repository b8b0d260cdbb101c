"""Pictures of items: from the folder of the collection, or the small copies that a run keeps."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from tuplet.data.image_files import UNREADABLE, opened, quiet
from tuplet.index import FlatIndex, Index
from tuplet.index.flat import OUTLINES, THUMBNAILS

if TYPE_CHECKING:
    from PIL.Image import Image

_LINES = ("#2a5bd7", "#7a8190", "#b0b5bf")


@dataclass(frozen=True)
class Picture:
    """A picture, ready to be sent."""

    content: bytes
    media_type: str


class Pictures:
    """Pictures by the items that they belong to.

    A file is sent only if it lies in the collection: an id that is absolute, leads upwards or through a link out of
    the folder has no picture. Files are never sent as they are, but as WebP, decoded and shrunk here.

    Args:
        index: Whose items; a run's has small copies.
        folder: The collection: the picture of an item is the file of its id.
        max_pixels: Larger files are not decoded.
    """

    def __init__(self, index: Index, folder: Path | None, max_pixels: int) -> None:
        self._folder = None if folder is None else folder.resolve()
        self._max_pixels = max_pixels
        arrays = {name: index.array(name) for name in (THUMBNAILS, OUTLINES)} if isinstance(index, FlatIndex) else {}
        self._arrays: Mapping[str, Any] = {name: array for name, array in arrays.items() if array is not None}

    def __bool__(self) -> bool:
        return self._folder is not None or bool(self._arrays)

    def has(self, name: str) -> bool:
        """Whether there is a picture of an item."""
        return bool(self._arrays) or self._file(name) is not None

    def draw(self, position: int, name: str, size: int) -> Picture | None:
        """The picture of an item, ready to be sent, no side longer than `size`; None if it has none."""
        shrunk = self._shrunk(name, size)
        if shrunk is not None:
            return Picture(_webp(shrunk), "image/webp")
        if THUMBNAILS in self._arrays:
            return Picture(_webp(_decoded(self._arrays[THUMBNAILS][position]), lossless=True), "image/webp")
        if OUTLINES in self._arrays:
            return Picture(_outline(self._arrays[OUTLINES][position]), "image/svg+xml")
        return None

    def image(self, position: int, name: str, size: int) -> "Image | None":
        """The pixels of an item, no side longer than `size`; None if it has none."""
        image = self._shrunk(name, size)
        if image is None and THUMBNAILS in self._arrays:
            image = _decoded(self._arrays[THUMBNAILS][position])
            image.thumbnail((size, size))
        return image

    def _file(self, name: str) -> Path | None:
        """The file of an item, if it is one of the collection."""
        path = PurePosixPath(name)
        if self._folder is None or path.is_absolute() or ".." in path.parts or set(name) & {"\\", "\0", ":"}:
            return None
        try:
            found = (self._folder / path).resolve(strict=True)  # where links lead
        except (OSError, ValueError, RuntimeError):
            return None
        return found if found.is_relative_to(self._folder) and found.is_file() else None

    def _shrunk(self, name: str, size: int) -> "Image | None":
        file = self._file(name)
        return None if file is None else shrunk(file, size, self._max_pixels)


def shrunk(path: Path, size: int, max_pixels: int) -> "Image | None":
    """The picture in a file, upright, no side longer than `size`; None if it is none, or has too many pixels."""
    from PIL import ImageOps

    try:
        if not path.is_file():  # a pipe would be waited for
            return None
        with quiet(), opened(path) as image:
            if image.width * image.height > max_pixels:
                return None
            image.draft("RGB", (size, size))
            upright = ImageOps.exif_transpose(image)
            upright.thumbnail((size, size))
            return upright.convert("RGBA" if "A" in upright.getbands() else "RGB")
    except UNREADABLE:
        return None


def _decoded(pixels: Any) -> "Image":
    """A small copy (channels, height, width) in uint8."""
    from PIL.Image import fromarray

    rows = np.ascontiguousarray(np.asarray(pixels).transpose(1, 2, 0))
    return fromarray(rows[:, :, 0] if rows.shape[2] == 1 else rows).convert("RGB")


def _webp(image: "Image", *, lossless: bool = False) -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=lossless, quality=85, method=2)
    return file.getvalue()


def _outline(series: Any) -> bytes:
    """The channels of a series (channels, steps) as lines."""
    from tuplet.app.report.shown import draw_outlines

    lines = "".join(
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5" '
        'vector-effect="non-scaling-stroke" stroke-linejoin="round"/>'
        for points, colour in zip(draw_outlines(np.asarray(series)[None], [0])[0], _LINES, strict=False)
    )
    head = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 40" preserveAspectRatio="none">'
    return f"{head}{lines}</svg>".encode()


def folder_of_pictures(run: Path) -> Path | None:
    """The folder of images that a run was trained on, if it is still there."""
    import tomllib

    try:
        source = run / tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8"))["data"]["source"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return source if source.is_dir() else None
