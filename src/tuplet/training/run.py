"""A whole run: its folder, its training, its evaluation."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuplet import __version__
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.errors import CheckpointError, DivergedError
from tuplet.training import checkpoint
from tuplet.training.board import recorded, require_tensorboard
from tuplet.training.checkpoint import Checkpoint
from tuplet.training.chunks import refuse_chunks
from tuplet.training.claim import EVENT_LOG, Claim, has_saved, is_finished, prepare, writing
from tuplet.training.distributed import broadcast, refuse_batch_of_one
from tuplet.training.evaluator import Selection, evaluate_raw, event_values, protocols_of, selection_of, validate
from tuplet.training.events import Event, EventLog, log_message, read_events
from tuplet.training.finish import finish
from tuplet.training.job import Job
from tuplet.training.loop import train
from tuplet.training.record import adopt, has_no_record, other_data, start_facts
from tuplet.training.state import State
from tuplet.training.words import refuse_several

_ROUNDING = 1e-3
"""How far a score may be from that of the same weights on another machine."""


def run(
    job: Job,
    folder: Path,
    *,
    resume: bool = False,
    extend: bool = False,
    processes: Processes = SINGLE_PROCESS,
    device: torch.device | str = "cpu",
    claim: Claim | None = None,
) -> Iterator[Event]:
    """Train, evaluate and save.

    The folder is complete and movable: `recipe.toml`, `resume.json`, `examples.jsonl`, `environment.json`,
    `events.jsonl`, `checkpoints/`, `model/`, `gallery/`, `evaluation.json`. Its report is written by the command line.

    Args:
        job: What to train, from `tuplet.recipes.build`; trained in place.
        folder: New or empty; with `resume`, that of an earlier run of the same job.
        resume: Go on from the last whole checkpoint, bit for bit. A run that has come to its end stays as it is.
        extend: Let a resumed run take as many steps as the job says, if it was to take another number, even if it has
            come to its end.
        processes: Who trains together.
        device: Where encoder and loss live.
        claim: Of the folder, if the caller holds it already; given back at the end.

    Yields:
        Each `Event` as it is written to `events.jsonl`, and notes.

    Raises:
        DataError: If the folder holds something else, is in use, or cannot be written; if the data of a resumed run is
            not what it was.
        CheckpointError: If a checkpoint cannot be read or written, or all that there were are gone.
        RecipeError: If the encoder cannot be trained in chunks, or the settings of a resumed run are not what they
            were.
        DivergedError: If the loss is no longer finite.
        MissingExtraError: If TensorBoard is asked for and not there.
        KeyboardInterrupt: On Ctrl-C or SIGTERM, after a checkpoint was saved.
    """
    refuse_unfit(job, processes)
    if processes.rank == 0 and claim is None:
        claim = Claim(folder)
    try:
        if processes.rank == 0 and claim is not None and not claim.is_known:
            yield log_message(
                f"The file system of {folder} has no file locks: make sure that no other process trains there."
            )
        if resume and not extend and broadcast(is_finished(folder), processes):
            yield log_message(f"{folder} is finished. For more steps: tuplet train --resume {folder} --steps N")
            return
        events = _run(job, folder, torch.device(device), processes, resume=resume, extend=extend)
        if job.settings.tensorboard and processes.rank == 0:
            events = recorded(events, folder / "tensorboard")
        yield from events
    finally:
        if claim is not None:
            claim.give_back()


def refuse_unfit(job: Job, processes: Processes) -> None:
    """A message instead of a run that could not be, before anything is written.

    Args:
        job: What shall be trained.
        processes: Who would train together; all come to the same end.

    Raises:
        RecipeError: See `run`.
        MissingExtraError: See `run`.
    """
    if job.corpus is not None:
        refuse_several(processes)
    refuse_batch_of_one(job.embedder, job.sampler.batch_size)
    refuse_chunks(job.embedder, job.settings.chunk)
    selection_of(job)
    if job.settings.tensorboard:
        require_tensorboard()


def _run(
    job: Job, folder: Path, device: torch.device, processes: Processes, *, resume: bool, extend: bool
) -> Iterator[Event]:
    """The same, with the folder claimed."""
    state = State(job, device, processes)
    checkpoints, is_chief = folder / "checkpoints", processes.rank == 0
    is_first = resume and broadcast(has_no_record(folder), processes)
    with writing(folder):
        if is_chief:
            yield from prepare(folder, job, environment(state.device, processes), resume=resume, extend=extend)
        found, notes = _find(folder, processes) if resume else (None, [])
        yield from map(log_message, notes)
        with EventLog(folder / EVENT_LOG if is_chief else None, found.progress.events if found else 0) as event_log:
            if found is None and is_chief:
                yield from _begin(state, event_log)
                if job.origin is not None:
                    checkpoint.save(checkpoints, state.capture(event_log.settle(), planned=False))
            elif found is not None:
                yield from _go_on(state, found, event_log, checkpoints if is_chief else None)
                if is_first:
                    yield from _adopt(state, folder, processes)
            with _recording_failures(event_log, state):
                yield from train(state, event_log, checkpoints, processes)
            yield from finish(state, event_log, folder, processes)


@contextmanager
def _recording_failures(event_log: EventLog, state: State) -> Iterator[None]:
    """Of a training that diverged or was interrupted, the event log says so: nobody waits for its next step."""
    try:
        yield
    except DivergedError as error:
        event_log.write("diverged", step=state.progress.step + 1, text=error.message)
        raise


def _find(folder: Path, processes: Processes) -> tuple[Checkpoint | None, list[str]]:
    """The latest checkpoint that is whole; which one that is, the first process says."""
    checkpoints = folder / "checkpoints"
    found, notes = checkpoint.load_latest(checkpoints) if processes.rank == 0 else (None, [])
    if processes.rank == 0 and found is None and has_saved(folder):
        raise CheckpointError(
            f"{folder} has saved checkpoints, and {checkpoints} holds none.",
            hint="Put them back, or mount the disk that they are on. Begun again at step 0, the training would "
            f"overwrite what it has reached. In a folder of its own: tuplet train {folder}/recipe.toml",
            reference="no-checkpoints",
        )
    step = int(broadcast(found.progress.step if found else -1, processes))
    if processes.rank and step >= 0:
        found = checkpoint.load(checkpoints / checkpoint.name_of(step))
    return found, notes


def _go_on(state: State, found: Checkpoint, event_log: EventLog, checkpoints: Path | None) -> Iterator[Event]:
    """Everything as it was when a checkpoint was taken."""
    state.restore(found)
    step = found.progress.step
    yield log_message(f"Resuming from step {step}.")
    if checkpoints is not None and event_log.lost:
        yield log_message(
            f"{EVENT_LOG} lacks {event_log.lost} of its {found.progress.events} events; the report shows what there is."
        )
    if checkpoints is not None:
        checkpoint.go_back(checkpoints, step, found.progress.best_step)
    if found.progress.planned:
        yield event_log.write("checkpoint", step=step, path=checkpoint.path_of(step))
    if found.progress.steps not in (0, state.job.settings.steps):
        yield event_log.write("extended", step=step, steps=state.job.settings.steps)
        state.progress = replace(state.progress, waited=0, lost=False)


def _adopt(state: State, folder: Path, processes: Processes) -> Iterator[Event]:
    """Begin the record of a run of tuplet 0.1, which kept none, if its weights validate as they did."""
    said = "as many examples and parameters as then"
    selection = selection_of(state.job)
    if selection is not None:
        step, metric = state.progress.step, selection.reported
        values = [
            event["values"].get(metric, {}).get("value")
            for event in read_events(folder / EVENT_LOG)
            if (event["kind"], event.get("step"), event.get("of")) == ("evaluation", step, "model")
        ]
        result = validate(state.job, selection.protocol, state.evaluated, processes)
        if result is not None and values:
            if abs(result.values[metric] - values[-1]) > _ROUNDING:
                found = f"the weights of step {step} validate at {metric} {result.values[metric]:.4f}"
                raise other_data(folder, [f"{found}, and then at {values[-1]:.4f}"])
            said += ", and the validation examples give the same score"
    if processes.rank == 0:
        adopt(folder, state.job)
        yield log_message(
            f"{folder} was begun by tuplet 0.1, which kept no record of its data. There are {said}; more cannot be "
            "reported. Its record begins now: whatever changes from here on is noticed."
        )


def _begin(state: State, event_log: EventLog) -> Iterator[Event]:
    """What is known before the first step, and how far the raw input gets."""
    job = state.job
    if job.settings.precision == "bfloat16" and job.embedder.device.type == "cpu" and not _knows_bfloat16():
        yield log_message("This processor does not compute in bfloat16: --set train.precision=float32 is faster here.")
    if job.batch_exceeds_dataset:
        yield log_message(job.batch_exceeds_dataset)
    yield event_log.write("start", **start_facts(job))
    selection, split = selection_of(job), "validation"
    if selection is None:
        split, dataset = job.evaluation_split
        selection = next((Selection(protocol, None) for protocol in protocols_of(job, dataset)), None)
    result = None if selection is None else evaluate_raw(job, selection.protocol, state.baseline.extractor)
    if selection is not None and result is not None:
        by, values = selection.reported, event_values(result)
        yield event_log.write("evaluation", step=0, split=split, of="raw", by=by, best=False, values=values)


def _knows_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  # what torch's own tests ask


def environment(device: torch.device, processes: Processes) -> dict[str, Any]:
    """Versions, machine and threads."""
    return {
        "tuplet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes.size,
    }
