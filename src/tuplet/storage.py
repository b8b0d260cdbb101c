"""Folders and files that are written whole or not at all, JSON files that say their format, and locks."""

import errno
import json
import os
import shutil
import stat
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from tuplet.checksums import is_sealed, sealed
from tuplet.errors import TupletError, UnknownFormatError, install

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_HELD = {errno.EACCES, errno.EAGAIN, errno.EDEADLK}


@contextmanager
def replaced_folder(folder: Path | str, *, owns: Collection[str], error: type[TupletError]) -> Iterator[Path]:
    """Write a folder beside `folder` and put it in its place at the end.

    Whatever happens inside, `folder` holds either all of the old content or all of the new one. Only a process killed
    between two renames leaves it away; the old content then lies beside it, and `settle` puts it back.

    Args:
        folder: The folder to write. Its parents are made.
        owns: Names that a folder of this kind may hold. One that holds anything else is left alone.
        error: What to raise.

    Yields:
        An empty folder on the same file system.

    Raises:
        TupletError: Of the given kind, if the folder holds other files or cannot be written.
    """
    target = Path(os.path.realpath(folder))  # a link to a folder stays a link
    partial = target.with_name(f".{target.name}.partial")
    try:
        settle(target)
        _refuse_foreign(target, owns, error)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        _flush(partial)
        _swap(partial, target)
    except OSError as problem:
        raise _cannot_write(folder, problem, error) from problem
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def inner_takes_place(inner: Path, folder: Path, *, error: type[TupletError]) -> None:
    """Put a folder that lies inside `folder`, whole and durable, in the place of it; the rest of it goes.

    A process killed in the middle leaves what `settle` puts in order: all of the old content, or all of the new one.

    Raises:
        TupletError: Of the given kind, if the folder cannot be renamed.
    """
    target = Path(os.path.realpath(folder))
    place, previous = Path(os.path.realpath(inner)).relative_to(target), _previous(target)
    try:
        settle(target)
        target.rename(previous)
        (previous / place).rename(target)
        _sync(target.parent)
        shutil.rmtree(previous, ignore_errors=True)
    except OSError as problem:
        settle(target)
        raise _cannot_write(folder, problem, error) from problem


@contextmanager
def replaced_file(path: Path | str, *, error: type[TupletError], shared: bool = False) -> Iterator[Path]:
    """Write a file beside `path`, with the same suffix, and put it in its place at the end.

    Args:
        path: The file to write. Its parents are made.
        error: What to raise.
        shared: True if other processes may write the same file at the same time: the last one stays, whole.

    Yields:
        The path to write to.

    Raises:
        TupletError: Of the given kind, if the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _drafted(target, shared=shared) as draft:
            yield draft
    except OSError as problem:
        raise _cannot_write(path, problem, error) from problem


def write_file(path: Path, content: str | bytes, *, shared: bool = False) -> None:
    """Write a file whole or not at all, into a folder that is there.

    Args:
        path: The file.
        content: All of it.
        shared: As for `replaced_file`.

    Raises:
        OSError: If it cannot be written; it names the file.
    """
    try:
        with _drafted(Path(os.path.realpath(path)), shared=shared) as draft:
            draft.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(path)) from problem  # nobody asked for the draft


def draft_of(path: Path, mark: str = "") -> Path:
    """What a file is called until it is whole."""
    return path.with_name(f".{path.stem}{mark}.partial{path.suffix}")


@contextmanager
def _drafted(target: Path, *, shared: bool) -> Iterator[Path]:
    draft = draft_of(target, f".{token_hex(8)}" if shared else "")
    try:
        yield draft
        _sync(draft)
        draft.replace(target)
        _sync(target.parent)
    finally:
        with suppress(OSError):
            draft.unlink()


def settle(folder: Path | str) -> None:
    """Put the old content back, or clear it away, if a process was killed in the middle of replacing it."""
    target = Path(os.path.realpath(folder))
    previous = _previous(target)
    if not previous.is_dir():
        return
    if target.exists():
        shutil.rmtree(previous, ignore_errors=True)
        return
    with suppress(OSError):  # a reader without permission finds the folder missing, and says so
        previous.rename(target)


def write_json(path: Path, content: Mapping[str, Any], *, version: int, seal: bool = False) -> None:
    """Write a JSON object that starts with its `format` number and, if wanted, ends with its checksum."""
    content = {"format": version, **content}
    text = json.dumps(sealed(content) if seal else content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def read_json(
    path: Path, *, version: int, error: type[TupletError], remedy: str, seal: bool = False, oldest: int | None = None
) -> dict[str, Any]:
    """Read a JSON object written by `write_json`.

    Args:
        path: The file.
        version: The `format` number that is written today.
        error: What to raise.
        remedy: How to write the file again, for hints.
        seal: Whether it must end with its checksum, if it is of this format.
        oldest: The first number that is understood; by default only `version` is.

    Raises:
        TupletError: Of the given kind, if the file is missing, damaged, or of another format.
    """
    try:
        content = json.loads(read_bytes(path, error=error, remedy=remedy).decode())
    except (ValueError, RecursionError) as problem:  # bad JSON, bad UTF-8, brackets without end
        raise error(f"{path} is damaged: {problem}.", hint=remedy, reference="damaged-file") from problem
    if not isinstance(content, dict):
        raise error(f"{path} is damaged: expected a JSON object.", hint=remedy, reference="damaged-file")
    oldest = version if oldest is None else oldest
    found = content.get("format")
    if not isinstance(found, int) or not oldest <= found <= version:
        known = f"format {version}" if oldest == version else f"formats {oldest} to {version}"
        raise UnknownFormatError(
            f"{path} has format {found!r}; this version of tuplet reads {known}.",
            hint=f"Update tuplet ({install()}), or: {remedy}",
            reference="unknown-format",
        )
    if seal and found == version and not is_sealed(content):
        message = f"{path} is damaged: it was changed after it was written, its checksum is another one."
        raise error(message, hint=remedy, reference="damaged-file")
    return content


def read_bytes(path: Path, *, error: type[TupletError], remedy: str) -> bytes:
    """The content of a regular file. Anything else of that name, a pipe say, would keep its reader waiting.

    Args:
        path: The file.
        error: What to raise.
        remedy: What to type, for hints.

    Raises:
        TupletError: Of the given kind, if the file is missing, no regular file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise error(f"{path} is not a regular file.", hint=remedy, reference="missing-file")
        return path.read_bytes()
    except FileNotFoundError as problem:
        raise error(f"{path} is missing.", hint=remedy, reference="missing-file") from problem
    except OSError as problem:
        message = f"{path} could not be read: {problem.strerror or problem}."
        raise error(message, hint=remedy, reference="missing-file") from problem


def numbered(name: str, number: int) -> str:
    """A name that may be taken, with a number from 2 on."""
    return name if number < 2 else f"{name}-{number}"


class Lock:
    """A file that one process holds. The system lets go of it when that process ends, however it ends.

    Args:
        path: The file, made when the lock is taken and removed when it is given back. One that a dead process left
            behind is nobody's.

    Attributes:
        is_known: False where the file system has no locks: then everybody gets it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_known = True
        self._handle: int | None = None

    def take(self) -> bool:
        """Whether it is this one's now; at once, never waiting.

        Raises:
            OSError: If the file cannot be made.
        """
        while self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                _lock(handle)
            except OSError as problem:
                if problem.errno in _HELD:
                    os.close(handle)
                    return False
                self.is_known = False
            if _is_same(handle, self.path):
                self._handle = handle
            else:  # it was given back, and removed, between opening and locking
                os.close(handle)
        return True

    def give_back(self) -> None:
        """Let go of it, and remove the file."""
        if self._handle is None:
            return
        with suppress(OSError):  # Windows removes no file that is open: it stays, and is nobody's
            self.path.unlink()
        os.close(self._handle)
        self._handle = None


def _lock(handle: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_same(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


def _previous(target: Path) -> Path:
    return target.with_name(f".{target.name}.previous")


def _refuse_foreign(target: Path, owns: Collection[str], error: type[TupletError]) -> None:
    if target.exists() and not target.is_dir():
        raise error(f"{target} is a file, not a folder.", hint="Choose another folder.", reference="foreign-folder")
    foreign = sorted({path.name for path in target.iterdir()} - set(owns)) if target.exists() else []
    if foreign:
        raise error(
            f"{target} already holds {foreign[0]!r}, which was not written by tuplet; the folder would be replaced.",
            hint="Choose another folder, or empty this one.",
            reference="foreign-folder",
        )


def _flush(folder: Path) -> None:
    """Make content and names durable before the folder takes its place."""
    for path in [*sorted(folder.rglob("*")), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    if sys.platform == "win32" and path.is_dir():
        return  # which has no handle there
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap(partial: Path, target: Path) -> None:
    previous = _previous(target)
    while partial.exists():
        shutil.rmtree(previous, ignore_errors=True)
        if target.exists():
            target.rename(previous)
        try:
            partial.rename(target)
        except OSError as problem:
            if problem.errno not in {errno.ENOTEMPTY, errno.EEXIST}:  # else a reader has just put the old content back
                settle(target)
                raise
    shutil.rmtree(previous, ignore_errors=True)
    _sync(target.parent)


def _cannot_write(path: Path | str, problem: OSError, error: type[TupletError]) -> TupletError:
    above = isinstance(problem, FileExistsError | NotADirectoryError)
    reason = "a part of this path is a file, not a folder" if above else problem.strerror or problem
    return error(f"{path} could not be written: {reason}.", hint=_remedy(problem), reference="cannot-write")


def _remedy(problem: OSError) -> str:
    if problem.errno in _FULL:
        return "Free some space, or choose a folder on another disk. Nothing was left half-written."
    if problem.errno in _FORBIDDEN:
        return "Choose a folder that you may write to."
    return "Choose another folder."


def dotted(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of tables in tables by their dotted names."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
