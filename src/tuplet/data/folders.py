"""Folders of images, or of sounds: one folder per class, optionally one folder per split around or inside them."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from tuplet.data.audio import has_sound_name, is_sound, undecodable_sounds, wrong_sound
from tuplet.data.image_files import has_image_name, is_image, undecodable, what_is_wrong
from tuplet.data.labels import encode_names, role_name, split_name
from tuplet.data.manifest import Kind, Manifest
from tuplet.data.source_errors import SourceErrors
from tuplet.errors import counted

_SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
"""What operating systems put beside pictures; some of it are copies of them."""
_SYSTEM_FILES = {"thumbs.db", "desktop.ini", "icon\r"}
_EVALUATION = ("eval", "evaluation")
_NAMED = 5
_ROLES = dict.fromkeys(("query", "queries", "probe", "gallery", "holdout", *_EVALUATION), "test")
"""Folders that hold what is evaluated, besides those that are called like splits."""


@dataclass(frozen=True)
class Medium:
    """What the files of a folder are, and how they are distinguished from others.

    Args:
        kind: Of the examples.
        one: One of them, in words.
        noun: The word for it.
        many: Several of them.
        has_name: Whether a file is called like one.
        wrong: Why a file cannot be one, from its first and last bytes; "" if nothing speaks against it.
        is_one: Whether a file that is called otherwise is one all the same.
        undecodable: Those that cannot be decoded, and why.
        broken: Id of the error about one that is broken.
    """

    kind: Kind
    one: str
    noun: str
    many: str
    has_name: Callable[[Path], bool]
    wrong: Callable[[Path], str]
    is_one: Callable[[Path], bool]
    undecodable: Callable[[Sequence[Path]], dict[Path, str]]
    broken: str


IMAGES = Medium(
    "image", "an image", "image", "images", has_image_name, what_is_wrong, is_image, undecodable, "broken-image"
)
SOUNDS = Medium(
    "series", "a sound", "sound", "sounds", has_sound_name, wrong_sound, is_sound, undecodable_sounds, "broken-sound"
)


def holds_sounds(root: Path) -> bool:
    """Whether a folder holds files that are called like sounds, and none that is called like an image."""
    found = False
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(folder, name) for name in files if not name.startswith(".")]
        if any(map(has_image_name, paths)):
            return False
        found |= any(map(has_sound_name, paths))
    return found


def read_folder(
    root: Path, *, needs: Collection[str] = (), skip_broken: bool = False, medium: Medium = IMAGES
) -> Manifest:
    """Images or sounds at `class/file`, `split/class/file`, `class/split/file`, or, without classes, `[split/]file`.

    A class may be nested: its name is the path of its folder, in Unicode form NFC. Hidden files and folders are
    skipped; files that are no pictures, by name and content, are left out and named in the manifest.

    Args:
        root: What to read.
        needs: What must be known about the examples.
        skip_broken: Decode every image, and leave out those that cannot be decoded, in place of an error.
        medium: What its files are.

    Raises:
        DataError: There is no image, an image is broken, or only some folders are called like splits.
    """
    problems = SourceErrors(printable(str(root)))
    files, left_out = _sorted_out(root, problems, medium, skip_broken=skip_broken)
    level = _split_level(files, problems)
    places = [tuple(map(_class_part, file.parts[:-1])) for file in files]
    splits = roles = None
    if level is not None:
        named = [role_name(file.parts[level]) or "" for file in files]
        roles = tuple(named) if {"query", "gallery"} <= {*named} else None
        splits = _splits([file.parts[level] for file in files])
        wrapping = {place[:level] for place in places}  # one folder around all splits says nothing of a class
        places = [place[level + 1 :] if len(wrapping) == 1 else place[:level] + place[level + 1 :] for place in places]
    if not files and not len(problems):
        others = ", ".join(name for name, _ in left_out[:_NAMED]) + ", ..." * (len(left_out) > _NAMED)
        problems.add(
            "empty-source", f"it holds no {medium.many}, only {others}" if left_out else "the folder holds no files"
        )
    elif "label" in needs and not any(places):
        problems.add(
            "missing-column", f"no {medium.noun} is in a class folder", hint=f"Move each {medium.noun} to CLASS/FILE."
        )
    problems.raise_if_any()
    labels, names = encode_names(["/".join(place) for place in places])
    return Manifest(
        kind=medium.kind,
        ids=tuple(printable(file.as_posix()) for file in files),
        items=tuple(root / file for file in files),
        labels=labels if names else None,
        class_names=names,
        splits=splits,
        roles=roles,
        source=printable(str(root)),
        left_out=left_out,
        notes=_notes(root, left_out, places, labels, medium),
    )


def _notes(
    root: Path,
    left_out: Sequence[tuple[str, str]],
    places: Sequence[tuple[str, ...]],
    labels: NDArray[np.int64],
    medium: Medium,
) -> tuple[str, ...]:
    """What a user should know of how the folder was read."""
    notes = []
    if left_out:
        some = ", ".join(f"{name} ({why})" for name, why in left_out[:_NAMED])
        count = counted(len(left_out), "file is", "files are")
        notes.append(f"{printable(str(root))}: {count} left out: {some}{', ...' * (len(left_out) > _NAMED)}.")
    nameless = Counter("/".join(place) for place, label in zip(places, labels.tolist(), strict=True) if label < 0)
    notes += [
        f"{printable(str(root))}: the folder {name!r} names no class, so "
        f"{counted(number, f'{medium.noun} has', f'{medium.many} have')} "
        f"none; if it is one, rename it."
        for name, number in sorted(nameless.items())
        if name
    ]
    return tuple(notes)


def is_stray(entry: Path) -> bool:
    """Whether an entry of a folder of files is none of them: hidden, of the system, or a pipe."""
    name = entry.name.lower()
    return name.startswith(".") or name in _SYSTEM_FILES | _SYSTEM_FOLDERS or not (entry.is_file() or entry.is_dir())


def printable(name: str) -> str:
    r"""A file name as text that can be written anywhere: bytes that are not UTF-8 become `\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _class_part(name: str) -> str:
    return normalize("NFC", printable(name))


_BROKEN = "Replace or remove these files, or leave them out: --skip-broken"


def _sorted_out(
    root: Path, problems: SourceErrors, medium: Medium, *, skip_broken: bool
) -> tuple[list[Path], tuple[tuple[str, str], ...]]:
    """The images or sounds, sorted; and the files that are left out, with the reason."""
    images: list[Path] = []
    stray: list[tuple[str, str]] = []
    broken: list[tuple[str, str]] = []
    for file in sorted(_files(root, stray, broken)):
        wrong = medium.wrong(root / file)
        if not medium.has_name(file) and (wrong or not medium.is_one(root / file)):
            stray.append((printable(file.as_posix()), wrong or f"is not {medium.one}"))
        elif wrong:
            broken.append((printable(file.as_posix()), wrong))
        else:
            images.append(file)
    if skip_broken:
        wrong_ones = medium.undecodable([root / file for file in images])
        broken += [
            (printable(file.as_posix()), wrong_ones[root / file]) for file in images if root / file in wrong_ones
        ]
        images = [file for file in images if root / file not in wrong_ones]
    else:
        for name, wrong in broken:
            problems.add(medium.broken, f"{name} {wrong}", hint=_BROKEN)
    return images, tuple(sorted(stray + broken))


def _splits(names: Sequence[str]) -> tuple[str, ...]:
    """The splits that folders name. `eval` validates where another folder is the test."""
    spelled = {name: name.strip().lower() for name in set(names)}
    known = {name: split_name(lower) or _ROLES[lower] for name, lower in spelled.items()}
    if "test" in {split_name(name) for name in known}:
        known |= {name: "validation" for name, lower in spelled.items() if lower in _EVALUATION}
    return tuple(known[name] for name in names)


def _is_split(name: str) -> bool:
    return bool(split_name(name)) or name.strip().lower() in _ROLES


def _split_level(files: Sequence[Path], problems: SourceErrors) -> int | None:
    """At which place of their paths all files name their split; None if they do not."""
    depth = min((len(file.parts) for file in files), default=1) - 1
    common = 0  # folders around everything
    while common < depth and len({file.parts[common] for file in files}) == 1 and not _is_split(files[0].parts[common]):
        common += 1
    for level in dict.fromkeys((common, depth - 1)):
        if not 0 <= level < depth:
            continue
        at = {file.parts[level] for file in files}
        is_innermost = level == depth - 1 and all(len(file.parts) - 1 == depth for file in files)
        if level != common and not is_innermost:
            continue
        if all(map(_is_split, at)) and (len(at) > 1 or "train" in map(split_name, at) or level < depth - 1):
            return level
    _refuse_mixture(files, common, problems)
    return None


def _refuse_mixture(files: Sequence[Path], level: int, problems: SourceErrors) -> None:
    """Some of the folders are called like splits, and hold the same classes: these would be distinguished by split."""
    classes: Counter[str] = Counter()
    outer: dict[str, set[str]] = {}
    for file in files:
        if len(file.parts) > level + 1:
            outer.setdefault(file.parts[level], set()).update(file.parts[level + 1 : -1][:1])
    for inner in outer.values():
        classes.update(inner)
    named = sorted(name for name, inner in outer.items() if _is_split(name) and inner)
    others = sorted(set(outer) - set(named))
    is_shared = any(classes[name] > 1 for split in named for name in outer[split])
    if named and (len(named) > 1 or is_shared):
        strangers = ", ".join(others[:5]) or "files beside them"
        problems.add(
            "unknown-split",
            f"{' and '.join(named)} {'are called like splits' if len(named) > 1 else 'is called like a split'}, and "
            f"{strangers} {'is' if len(others) < 2 else 'are'} not",
            hint="Put every image below a folder called train, validation, test, query or gallery, or below none.",
        )


def _files(root: Path, stray: list[tuple[str, str]], broken: list[tuple[str, str]]) -> Iterator[Path]:
    """Visible files below `root`, relative to it; links are followed, loops are not."""
    visited: set[str] = set()

    def refused(error: OSError) -> None:
        broken.append((printable(os.path.relpath(error.filename, root)), f"cannot be opened ({error.strerror})"))

    for folder, folders, files in os.walk(root, followlinks=True, onerror=refused):
        real = os.path.realpath(folder)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [name for name in folders if name.lower() in _SYSTEM_FOLDERS]:
            folders.remove(name)
            stray.append((Path(folder, name).relative_to(root).as_posix(), "is a folder of the system"))
        for name in files:
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root)
