"""Folders of images: one folder per class, optionally one folder per split around them."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from tuplet.data.faults import Faults
from tuplet.data.images import is_cut_short, looks_like_image
from tuplet.data.labels import encode_names, split_name
from tuplet.data.manifest import Manifest


def read_folder(root: Path, *, needs: Collection[str] = ()) -> Manifest:
    """Images at `class/file`, `split/class/file`, or (without classes) `file`.

    A class may be nested: its name is the whole path of its folder. Hidden files and folders are skipped.

    Raises:
        DataError: There is no image, or there are files that are not images.
    """
    faults = Faults(str(root))
    files = sorted(_files(root))
    wrong = {file: "is not an image" for file in files if not looks_like_image(root / file)}
    if wrong:  # else decoding tells of them
        wrong |= {file: "is cut short" for file in files if file not in wrong and is_cut_short(root / file)}
    for file in sorted(wrong):
        faults.add("broken-image", f"{file} {wrong[file]}", hint=_NOT_AN_IMAGE)
    splits = _splits(files)
    places = [file.parts[1:-1] if splits else file.parts[:-1] for file in files]
    if not files:
        faults.add("empty-source", "the folder holds no files")
    elif "label" in needs and not any(places):
        faults.add("missing-column", "no image is in a class folder", hint="Move each image to CLASS/FILE.")
    faults.raise_if_any()
    labels, names = encode_names(["/".join(place) for place in places])
    return Manifest(
        kind="image",
        ids=tuple(file.as_posix() for file in files),
        items=tuple(root / file for file in files),
        labels=labels if names else None,
        class_names=names,
        splits=splits,
        source=str(root),
    )


_NOT_AN_IMAGE = (
    "Move these files away, or hide them with a leading dot; images are PNG, JPEG, GIF, BMP, TIFF, WebP or PNM."
)


def _splits(files: list[Path]) -> tuple[str, ...] | None:
    """The split of each file, if all the outermost folders are called like splits."""
    outer = {file.parts[0] if len(file.parts) > 2 else "" for file in files}
    if not outer or not all(split_name(name) for name in outer):
        return None
    return tuple(split_name(file.parts[0]) or "" for file in files)


def _files(root: Path) -> Iterator[Path]:
    """Visible files below `root`, relative to it; links are followed, loops are not."""
    walked: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in walked:
            folders.clear()
            continue
        walked.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root)
