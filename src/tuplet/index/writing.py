"""One writer at a time, and the description of an index, replaced as a whole."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tuplet.errors import IndexFormatError
from tuplet.models.embedder import saved_hash
from tuplet.storage import Lock, read_json, replaced_file, write_json

FORMAT = 2
CONFIG = "index.json"
REMEDY = "A run makes its gallery again: tuplet train --resume RUN; an index: tuplet index build"
LOCK = ".lock"
MODEL = "model"
COMMON: dict[str, type] = {"backend": str, "model": str, "model_hash": str, "geometry": str, "dim": int}
"""What the description of every index says."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that writes to the index in `folder`; a process that died holds it no longer.

    Raises:
        IndexFormatError: If another process writes to it now, or the folder cannot be written to.
    """
    lock = Lock(folder / LOCK)
    try:
        if not lock.take():
            raise IndexFormatError(
                f"Another process writes to the index {folder} at this moment.",
                hint="Wait until it is done, and run the command again; for many writers: --backend postgres",
                reference="index-busy",
            )
        yield
    except OSError as problem:
        raise _refused(folder, problem) from problem
    finally:
        lock.give_back()


def read_config(
    folder: Path,
    fields: Mapping[str, type],
    first: Callable[[Path, Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The description of an index, with all `fields`.

    Args:
        folder: Of the index.
        fields: What it says beside what that of every index does, and of which kind that is.
        first: What a description of format 1, which tuplet 0.1 wrote, does not say; without, that is refused.

    Raises:
        IndexFormatError: If it is missing, damaged or of an unknown format.
    """
    path = folder / CONFIG
    oldest = None if first is None else 1
    content = read_json(path, version=FORMAT, oldest=oldest, error=IndexFormatError, remedy=REMEDY, seal=True)
    if content["format"] == 1 and first is not None:
        content |= first(folder, content)
    wrong = [name for name, kind in {**COMMON, **fields}.items() if not isinstance(content.get(name), kind)]
    if wrong:
        raise damaged(path, f"{', '.join(map(repr, wrong))} missing or of the wrong kind")
    return content


def replace_config(folder: Path, content: Mapping[str, Any]) -> None:
    """Put a new description in the place of the old one, in one step: what it says is so from here on."""
    kept = {name: value for name, value in content.items() if name not in ("format", "checksum")}
    with replaced_file(folder / CONFIG, error=IndexFormatError) as new:
        write_json(new, kept, version=FORMAT, seal=True)


def model_folder(folder: Path, model: str) -> Path:
    """Where the model of an index is."""
    return Path(os.path.normpath(folder / model))  # gallery/../model, also while there is no gallery yet


def require_model(model: Path, expected: str) -> None:
    """Refuse a model that did not make an index.

    Raises:
        IndexFormatError: If the model in the folder `model` has another hash than `expected`.
        CheckpointError: If it cannot be read.
    """
    if (found := saved_hash(model)) != expected:
        raise IndexFormatError(
            f"The index was made by another model than the one in {model}: "
            f"hash {expected[:8]}, but this model has {found[:8]}.",
            hint="Name the model that made it. An index gets another model by: tuplet index upgrade INDEX --model NEW; "
            "a run makes its gallery again by: tuplet train --resume RUN",
            reference="wrong-model",
        )


def damaged(path: Path | str, what: str) -> IndexFormatError:
    """What to raise of a file that is not what was written."""
    return IndexFormatError(f"{path} is damaged: {what}.", hint=REMEDY, reference="damaged-file")


def _refused(folder: Path, problem: OSError) -> IndexFormatError:
    return IndexFormatError(
        f"{folder} could not be written: {problem.strerror or problem}.",
        hint="Choose a folder that you may write to, with enough space. What was added before is there.",
        reference="cannot-write",
    )
