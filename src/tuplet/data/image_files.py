"""Image files before they are decoded: whether a file is one, whether it is whole, what its head says."""

import importlib.util
import io
import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuplet.errors import MissingExtraError

_READ = r"\.(a?png|jpe?g|jpe|jfif|gif|bmp|dib|tiff?|webp|avif|jp2|j2k|jpx|p[nbgp]m)"
_OTHER = r"\.(heic|heif|jxl|svg|psd|raw|dng|cr[23]|nef|arw|orf|rw2|exr|hdr|dcm)"
"""Pictures too, in formats that are not read: they are missed, and not taken for something else."""

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

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, struct.error)
"""What Pillow raises for damaged files, and `images` for pixels it does not understand."""


def has_image_name(path: Path) -> bool:
    """Whether the name of a file ends like that of a picture, of a format that is read or of another one."""
    return re.fullmatch(f"{_READ}|{_OTHER}", path.suffix, re.IGNORECASE) is not None


def looks_like_image(path: Path) -> bool:
    """Whether a file starts like an image of a known format; it may still be damaged further on."""
    return _is_signed(_start(path))


def what_is_wrong(path: Path) -> str:
    """Why a file cannot be an image, from its first and last bytes; "" if nothing speaks against it.

    Only a PNG or JPEG without its end is decoded, to be sure.
    """
    try:
        is_file, size = stat.S_ISREG((known := path.stat()).st_mode), known.st_size
    except OSError as error:
        return f"cannot be opened ({error.strerror})"
    if not is_file:
        return "is not a regular file"
    if not size:
        return "is empty"
    head = _start(path)
    if not head:
        return "cannot be opened"
    if not _is_signed(head):
        is_other = re.fullmatch(_OTHER, path.suffix, re.IGNORECASE)
        return f"is of a format that is not read ({path.suffix.lower()[1:]})" if is_other else "is not an image"
    return "is cut short" if _lacks_end(path, head) else ""


def is_image(path: Path) -> bool:
    """Whether Pillow recognises a file by its head; without Pillow, whether it starts like one."""
    if not _is_signed(_start(path)) or importlib.util.find_spec("PIL") is None:
        return looks_like_image(path)
    try:
        with quiet(), opened(path):
            return True
    except UNREADABLE:
        return False


def undecodable(paths: Sequence[Path]) -> dict[Path, str]:
    """The files that cannot be decoded, all of them being tried, and why."""
    require_pillow()

    def problem(path: Path) -> str:
        try:
            with opened(path) as file:
                file.draft(None, (1, 1))  # JPEG only: all of it is read, at an eighth of the size
                file.load()
        except UNREADABLE as error:
            return reason(error)
        return ""

    with quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:
        return {path: why for path, why in zip(paths, pool.map(problem, paths), strict=True) if why}


def shape_of(path: Path) -> tuple[int, int, int] | None:
    """Width, height, and 1 (grey) or 3 (colour) channels of an image file, from its head; None if it has none."""
    try:
        with quiet(), opened(path) as file:
            is_grey = file.mode in {"1", "L", "LA", "F"} or file.mode.startswith("I")
            return file.width, file.height, 1 if is_grey else 3
    except UNREADABLE:
        return None


@contextmanager
def opened(path: Path | io.BytesIO) -> Iterator[Any]:
    """A Pillow image whose pixels are not read yet, of a file or of the bytes of one.

    Raises:
        ValueError: It is not a regular file, or larger than Pillow reads.
        OSError: It cannot be opened.
    """
    from PIL import Image  # noqa: PLC0415  optional: part of the extra `app`

    # Opening a pipe would wait for whoever writes to it.
    if isinstance(path, Path) and not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("not a regular file")
    try:
        with Image.open(path) as file:
            yield file
    except Image.DecompressionBombError as error:
        found, limit = [f"{int(number):,}" for number in [*re.findall(r"\d+", str(error)), "0", "0"][:2]]
        raise ValueError(f"{found} pixels, more than the {limit} that Pillow reads; make it smaller") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without what Pillow warns of: large images, odd metadata. What matters it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def reason(error: Exception) -> str:
    """What is wrong with a file, in the words of an error."""
    from PIL import UnidentifiedImageError  # noqa: PLC0415  optional: part of the extra `app`

    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def require_pillow() -> None:
    """Raise if Pillow is not installed.

    Raises:
        MissingExtraError: It is not.
    """
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError(
            "Images are decoded with Pillow, which is not installed.",
            extra="app",
        )


def _start(path: Path) -> bytes:
    """The first bytes of a regular file; none of another one, or if it cannot be read."""
    try:
        if stat.S_ISREG(path.stat().st_mode):
            with path.open("rb") as file:
                return file.read(16)
    except OSError:
        pass
    return b""


def _is_signed(head: bytes) -> bool:
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head.startswith(_SIGNATURES) or head[4:12] in (b"ftypavif", b"ftypavis")


def _lacks_end(path: Path, head: bytes) -> bool:
    try:
        with path.open("rb") as file:
            file.seek(-min(_TAIL, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read()
    except OSError:
        return True
    end = next((end for start, end in _ENDS.items() if head.startswith(start)), b"")
    if end in tail or importlib.util.find_spec("PIL") is None:
        return False
    return bool(undecodable([path]))
