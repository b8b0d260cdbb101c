"""Who works in the folder of a run: one process, or several that train together."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tuplet.errors import DataError, FolderTakenError
from tuplet.storage import Lock, draft_of, numbered, write_file
from tuplet.training import checkpoint
from tuplet.training.events import Event, log_message, read_events
from tuplet.training.job import Job
from tuplet.training.record import EXAMPLES, RECORD, compare, extend_to, has_no_record, keep, refuse_other_start

LOCK = ".lock"
EVENT_LOG = "events.jsonl"
BEFORE_THE_FIRST_STEP = (EXAMPLES, RECORD, "environment.json", "recipe.toml", EVENT_LOG)
"""What a run holds when nothing of it can be lost: all of it can be made again."""


class Claim:
    """The folder of a run, held by this process until it ends or lets go.

    Args:
        folder: The run.
        number: Added to its name from 2 on.

    Raises:
        DataError: If another process holds it, or it cannot be made.
    """

    def __init__(self, folder: Path, number: int = 1) -> None:
        self.folder = folder
        self.number = number
        self._made = [place for place in folder.parents if not place.exists()]  # the nearest first
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(folder / LOCK)
            is_mine = self._lock.take()
        if not is_mine:
            raise FolderTakenError(
                f"{folder} is in use: another process trains in it.",
                hint="Wait for it or stop it first (Ctrl-C there saves); `tuplet runs` shows how far it is.",
                reference="run-in-use",
            )

    @property
    def is_known(self) -> bool:
        """False where the file system has no locks."""
        return self._lock.is_known

    def give_back(self) -> None:
        """Let go; a folder in which nothing was written is removed, and those above it that were made for it."""
        self._lock.give_back()
        with suppress(OSError):
            for place in (self.folder, *self._made):
                place.rmdir()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What the system says while a run is written, in one message."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} could not be written: {error.strerror}.",
            hint="Choose a folder that you may write to, on a disk with room. A checkpoint that is there stays good.",
            reference="cannot-write",
        ) from error


def claim_new(out: Path, name: str, *, may_number: bool) -> Claim:
    """A folder for a new run, held before anything else is done.

    Args:
        out: Folder of all runs.
        name: Of the run.
        may_number: Take the next number if the name is taken; else that is an error.

    Raises:
        DataError: If the folder holds a run that has saved something, or something else, or is in use.
    """
    number = 1
    while True:
        folder = out / numbered(name, number)
        try:
            refuse_taken(folder)
            claim = Claim(folder, number)
        except FolderTakenError:
            if not may_number:
                raise
            number += 1
            continue
        try:
            refuse_taken(folder)  # again, now that nobody else writes there
        except DataError:
            claim.give_back()
            if not may_number:
                raise
            number += 1
            continue
        return claim


def refuse_taken(folder: Path) -> None:
    """A new run takes a folder that is not there, is empty, or holds a run that ended before it saved anything.

    Raises:
        DataError: Else.
    """
    if not folder.exists() or not (foreign := _others(folder)):
        return
    is_run = (folder / "recipe.toml").exists()
    raise FolderTakenError(
        f"{folder} is not empty: it holds {'a run' if is_run else foreign[0]}.",
        hint=f"Use tuplet train --resume {folder} to go on with it, or choose another folder."
        if is_run
        else "Choose another folder.",
        reference="run-exists",
    )


def prepare(folder: Path, job: Job, environment: Mapping[str, Any], *, resume: bool, extend: bool) -> Iterator[Event]:
    """The folder with what it holds before the first step; or, of a run that goes on, the same job as before.

    Args:
        folder: The run, claimed.
        job: What shall be trained.
        environment: Versions and machine.
        resume: Go on with the run that is there, if there is one.
        extend: As for `run`.

    Raises:
        DataError: If the folder holds what a new run would overwrite; else see `compare`.
        RecipeError: See `compare`.
    """
    if resume and ((folder / RECORD).exists() or has_saved(folder)):
        if has_no_record(folder):
            events = read_events(folder / EVENT_LOG)
            refuse_other_start(folder, job, next((event for event in events if event["kind"] == "start"), {}))
            if extend:
                _refuse_fewer(folder, job.settings.steps)
            return
        before = compare(folder, job, extend=extend)
        if before is not None:
            _refuse_fewer(folder, job.settings.steps)
            extend_to(folder, job)
            yield log_message(f"It was set to {before} steps and takes {job.settings.steps} now.")
        _complete(folder, job, environment)
        return
    refuse_taken(folder)
    left = [path for name in BEFORE_THE_FIRST_STEP if (path := folder / name).is_file()]
    for path in left:
        path.unlink()
    if left:
        yield log_message(f"The run that was in {folder} ended before its first checkpoint; it starts again.")
    keep(folder, job)
    _complete(folder, job, environment)


def _complete(folder: Path, job: Job, environment: Mapping[str, Any]) -> None:
    """Write what is not there; the recipe last, because whoever finds it may go on with the run."""
    texts = {"environment.json": json.dumps(environment, indent=2) + "\n", "recipe.toml": job.recipe(folder)}
    for name, text in texts.items():
        if not (folder / name).exists():
            write_file(folder / name, text)


def _refuse_fewer(folder: Path, steps: int) -> None:
    taken = max(checkpoint.steps_in(folder / "checkpoints"), default=0)
    if steps <= taken:
        raise DataError(
            f"{folder} has taken {taken} steps already; {steps} in all is no more.",
            hint=f"Ask for more: tuplet train --resume {folder} --steps {2 * taken}",
            reference="steps-taken",
        )


def is_finished(folder: Path) -> bool:
    """Whether a run has come to its end. Where its event log is lost, its evaluation tells."""
    events = read_events(folder / EVENT_LOG)
    return (folder / "evaluation.json").is_file() and (not events or events[-1]["kind"] == "end")


def has_saved(folder: Path) -> bool:
    """Whether a run has ever saved something that starting it anew would overwrite."""
    if any((folder / name).exists() for name in ("model", "evaluation.json", "checkpoints/LATEST")):
        return True
    kinds = {event["kind"] for event in read_events(folder / EVENT_LOG)}
    return bool(kinds & {"checkpoint", "interrupted", "end"}) or bool(checkpoint.steps_in(folder / "checkpoints"))


def _others(folder: Path) -> list[str]:
    """What stands in the way of a new run."""
    if not folder.is_dir():
        return [folder.name]
    names = sorted(entry.name for entry in folder.iterdir())
    ours = {*BEFORE_THE_FIRST_STEP, LOCK, *(draft_of(Path(name)).name for name in BEFORE_THE_FIRST_STEP)}
    if has_saved(folder):
        return names
    return [name for name in names if name not in ours and not _is_empty(folder / name)]


def _is_empty(folder: Path) -> bool:
    """Whether it is the folder of checkpoints, or of curves, of a run that saved none."""
    return folder.name in ("checkpoints", "tensorboard") and folder.is_dir() and not any(folder.iterdir())
