"""Image files decoded once, for all trainings to come: pixels on disk, mapped into memory."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tuplet.data.images import FitBy, Levels, Resample, decode_images
from tuplet.storage import Lock

_FORMAT = 2


def decode_once(
    files: Sequence[Path],
    size: int,
    channels: int,
    fit_by: FitBy,
    cache: Path,
    *,
    resize: int = 0,
    resample: Resample = "bilinear",
    levels: Levels | None = None,
) -> UInt8[Tensor, "n channels size size"]:
    """What `decode_images` returns; files are decoded the first time only.

    Their pixels are a file of `cache`, named by the paths, sizes and times of the images and by the settings. It is
    read as needed, so the images may take more room than there is memory, and it may be deleted at any time.

    Args:
        files: Paths of images.
        size: As for `decode_images`.
        channels: The same.
        fit_by: The same.
        cache: Folder, made if missing. If it cannot be written, files are decoded into memory.
        resize: As for `decode_images`.
        resample: The same.
        levels: The same.

    Raises:
        DataError: Files that cannot be decoded, all of them in one report.
    """
    shape = (len(files), channels, size, size)
    how: dict[str, Any] = {"resize": resize, "resample": resample, "levels": levels}
    more = (resize, resample) if (resize, resample) != (0, "bilinear") else ()  # pixels of old caches are as they were
    try:
        path = cache / f"images-{key_of(files, (_FORMAT, size, channels, fit_by, levels, *more))}.npy"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            _sweep(cache)
            draft = path.with_name(f".{path.name}.{token_hex(8)}.partial")  # containers share numbers of processes
            claim = Lock(draft.with_suffix(".lock"))
            try:
                claim.take()
                _reserve(draft, shape)
                pixels = np.lib.format.open_memmap(draft, "r+")
                decode_images(files, size, channels, fit_by, **how, out=pixels)
                pixels.flush()
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
                claim.give_back()
        return torch.from_numpy(np.lib.format.open_memmap(path, "c"))  # what is written to it stays in memory
    except OSError:  # a missing image too: the decoder has the words for it
        return decode_images(files, size, channels, fit_by, **how)


def key_of(files: Sequence[Path], settings: tuple[object, ...]) -> str:
    """Something short that changes with the paths, sizes and times of files, and with settings."""
    digest = hashlib.blake2b(repr(settings).encode(), digest_size=12)
    for file in files:
        known = file.stat()
        digest.update(os.fsencode(file.absolute()) + f"\0{known.st_size}\0{known.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _sweep(cache: Path) -> None:
    """Remove what killed processes left half-written: the lock beside it is nobody's."""
    for draft in cache.glob(".images-*.partial"):
        claim = Lock(draft.with_suffix(".lock"))
        if claim.take() and claim.is_known:
            draft.unlink(missing_ok=True)
        claim.give_back()


def _reserve(draft: Path, shape: tuple[int, ...]) -> None:
    """An empty file of the full size: a full disk is an error here, and would be a signal when a page is written."""
    with draft.open("wb") as file:
        header = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), file.tell(), int(np.prod(shape)))
        else:
            file.truncate(file.tell() + int(np.prod(shape)))
