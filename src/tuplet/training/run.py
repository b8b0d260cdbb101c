"""A whole run: its folder, its training, its verdict."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tuplet.data import Dataset
from tuplet.engine import ALONE, Processes
from tuplet.errors import DataError, DivergedError
from tuplet.training import checkpoint
from tuplet.training.baseline import baseline_of
from tuplet.training.board import recorded, require_tensorboard
from tuplet.training.checkpoint import Checkpoint
from tuplet.training.chunks import refuse_chunks
from tuplet.training.environment import environment
from tuplet.training.events import Diary, Event, note
from tuplet.training.finish import finish
from tuplet.training.job import Job
from tuplet.training.judge import chooser_of, judged_raw, judges_of, values_of
from tuplet.training.loop import train
from tuplet.training.optim import count_parameters
from tuplet.training.state import State
from tuplet.training.together import agreed, refuse_batch_norm
from tuplet.training.word_job import WordJob
from tuplet.training.words import WordState, begin_words, finish_words, refuse_several, train_words


def run(
    job: Job | WordJob,
    folder: Path,
    *,
    resume: bool = False,
    processes: Processes = ALONE,
    device: torch.device | str = "cpu",
) -> Iterator[Event]:
    """Train, judge and save.

    The folder is complete and movable: `recipe.toml`, `environment.json`, `events.jsonl`, `checkpoints/`, `model/`,
    `gallery/`, `evaluation.json`. Its report is written by the command line.

    Args:
        job: What to train, from `tuplet.recipes.build`; trained in place.
        folder: New or empty; with `resume`, that of an earlier run of the same job.
        resume: Go on from the last whole checkpoint, bit for bit.
        processes: Who trains together.
        device: Where encoder and loss live.

    Yields:
        Each `Event` as it is written to `events.jsonl`, and notes.

    Raises:
        DataError: If the folder holds something else, or cannot be written.
        CheckpointError: If a checkpoint cannot be read or written.
        RecipeError: If the encoder cannot be trained by several processes, or in chunks.
        DivergedError: If the loss is no longer finite.
        MissingExtraError: If TensorBoard is asked for and not there.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint was saved.
    """
    refuse_unfit(job, processes)
    if isinstance(job, WordJob):
        events = _run_words(job, folder, resume=resume)
    else:
        events = _run_job(job, folder, torch.device(device), processes, resume=resume)
    if job.settings.tensorboard and processes.rank == 0:
        events = recorded(events, folder / "tensorboard")
    yield from events


def refuse_unfit(job: Job | WordJob, processes: Processes) -> None:
    """A message instead of a run that could not be, before anything is written.

    Args:
        job: What shall be trained.
        processes: Who would train together; all come to the same end.

    Raises:
        RecipeError: See `run`.
        MissingExtraError: See `run`.
    """
    if isinstance(job, WordJob):
        refuse_several(processes)
    else:
        refuse_batch_norm(job.embedder, processes)
        refuse_chunks(job.embedder, job.settings.chunk)
        chooser_of(job)
    if job.settings.tensorboard:
        require_tensorboard()


def _run_job(job: Job, folder: Path, device: torch.device, processes: Processes, *, resume: bool) -> Iterator[Event]:
    """The same for batches of examples."""
    state = State(job, device)
    checkpoints, is_chief = folder / "checkpoints", processes.rank == 0
    with _writing(folder):
        if is_chief:
            _prepare(folder, job, resume=resume, facts=environment(state.device, processes))
        found, remarks = _find(checkpoints, processes) if resume else (None, [])
        yield from map(note, remarks)
        with Diary(folder / "events.jsonl" if is_chief else None, found.progress.events if found else 0) as diary:
            if found is None and is_chief:
                yield from _begin(job, diary)
            elif found is not None:
                yield note(f"Going on from step {found.progress.step}.")
                yield from _go_on(state, found, diary, checkpoints if is_chief else None)
            with _telling(diary, state):
                yield from train(state, diary, checkpoints, processes)
            yield from finish(state, diary, folder, processes)


def _run_words(job: WordJob, folder: Path, *, resume: bool) -> Iterator[Event]:
    """The same for word vectors."""
    state, checkpoints = WordState(job), folder / "checkpoints"
    with _writing(folder):
        _prepare(folder, job, resume=resume, facts=environment(torch.device("cpu"), ALONE))
        found, remarks = checkpoint.load_latest(checkpoints) if resume else (None, [])
        yield from map(note, remarks)
        with Diary(folder / "events.jsonl", found.progress.events if found else 0) as diary:
            if found is None:
                yield from begin_words(job, diary)
            else:
                yield note(f"Going on from step {found.progress.step}.")
                yield from _go_on(state, found, diary, checkpoints)
            with _telling(diary, state):
                yield from train_words(state, diary, checkpoints)
            yield from finish_words(state, diary, folder)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or folder} could not be written: {error.strerror}.",
            hint="Choose a folder that you may write to, on a disk with room. A checkpoint that is there stays good.",
            reference="cannot-write",
        ) from error


@contextmanager
def _telling(diary: Diary, state: State | WordState) -> Iterator[None]:
    """Of a training that diverged, the diary says so: nobody waits for its next step."""
    try:
        yield
    except DivergedError as error:
        diary.write("diverged", step=state.progress.step + 1, text=error.message)
        raise


def _prepare(folder: Path, job: Job | WordJob, *, resume: bool, facts: Mapping[str, Any]) -> None:
    """The folder with what it holds before the first step."""
    folder.mkdir(parents=True, exist_ok=True)
    if not resume and any(folder.iterdir()):
        raise DataError(
            f"{folder} is not empty.",
            hint=f"Type tuplet train --resume {folder} to go on with it, or choose another folder.",
            reference="run-exists",
        )
    for name, text in (("recipe.toml", job.recipe(folder)), ("environment.json", json.dumps(facts, indent=2) + "\n")):
        if not (folder / name).exists():
            checkpoint.write_file(folder / name, text)


def _find(checkpoints: Path, processes: Processes) -> tuple[Checkpoint | None, list[str]]:
    """The latest checkpoint that is whole; which one that is, the first process says."""
    found, remarks = checkpoint.load_latest(checkpoints) if processes.rank == 0 else (None, [])
    step = int(agreed(found.progress.step if found else -1, processes))
    if processes.rank and step >= 0:
        found = checkpoint.load(checkpoints / checkpoint.name_of(step))
    return found, remarks


def _go_on(state: State | WordState, found: Checkpoint, diary: Diary, checkpoints: Path | None) -> Iterator[Event]:
    """Everything as it was when a checkpoint was taken."""
    state.restore(found)
    step = found.progress.step
    if checkpoints is not None:
        checkpoint.go_back(checkpoints, step, found.progress.best_step)
    if found.progress.planned:
        yield diary.write("checkpoint", step=step, path=checkpoint.path_of(step))


def _begin(job: Job, diary: Diary) -> Iterator[Event]:
    """What is known before the first step, and how far the raw input gets."""
    if job.settings.precision == "bfloat16" and job.embedder.device.type == "cpu" and not _knows_bfloat16():
        yield note("This processor does not compute in bfloat16: --set train.precision=float32 is faster here.")
    if job.crowding:
        yield note(job.crowding)
    yield diary.write(
        "start",
        name=job.name,
        seed=job.seed,
        steps=job.settings.steps,
        examples=len(job.train),
        classes=_count_classes(job.train),
        batches_per_epoch=job.sampler.batches_per_epoch,
        batch=job.sampler.batch_size,
        parameters=count_parameters([job.embedder, job.loss]),
    )
    chooser, split = chooser_of(job), "validation"
    if chooser is None:
        split, dataset = job.verdict_on
        chooser = next(((judge, None) for judge in judges_of(job, dataset)), None)
    result = None if chooser is None else judged_raw(job, chooser[0], baseline_of(job).look)
    if chooser is not None and result is not None:
        by, values = chooser[1] or chooser[0].headline, values_of(result)
        yield diary.write("evaluation", step=0, split=split, of="raw", by=by, best=False, values=values)


def _count_classes(dataset: Dataset) -> int:
    return 0 if dataset.classes is None else len(torch.unique(dataset.classes[dataset.classes >= 0]))


def _knows_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  # what torch's own tests ask
