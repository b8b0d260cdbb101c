"""The training loop. It has no hooks: to change it, copy it."""

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from tuplet.engine import Processes
from tuplet.engine.gather import all_gather
from tuplet.training import checkpoint
from tuplet.training.collapse import Spread, advice, measure_spread, warning
from tuplet.training.distributed import any_rank, broadcast
from tuplet.training.evaluator import event_values, selection_of, validate
from tuplet.training.events import Event, EventLog
from tuplet.training.optim import learning_rate
from tuplet.training.state import State
from tuplet.training.step import StepResult

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """While it is entered, the first Ctrl-C or SIGTERM is only noted; the second one interrupts at once.

    Weights between the two halves of a step are worth nothing; between two steps they can be saved. Outside the main
    thread, where Python takes no signals, nothing changes.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._note) for one in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        if self.is_requested:
            raise KeyboardInterrupt
        self.is_requested = True


def train(state: State, event_log: EventLog, folder: Path, processes: Processes) -> Iterator[Event]:
    """Take the steps that remain.

    Args:
        state: Where the training stands; advanced in place.
        event_log: Takes the events.
        folder: Of the checkpoints.
        processes: Who shares each global batch.

    Yields:
        Events of kind step, evaluation and checkpoint.
    """
    job, settings = state.job, state.job.settings
    seen, loading, since, is_collapsed = 0.0, 0.0, time.monotonic(), False
    with Interruption() as interruption:
        while not state.is_done:
            step = state.progress.step
            is_logged = (step + 1) % settings.log_every == 0
            taken = state.take_step(watched=is_logged)
            seen, loading = seen + taken.rows, loading + taken.waited

            if is_logged:
                spread = _spread(state, taken, processes)
                collapses = spread is not None and spread.is_collapsed and step >= settings.warmup * settings.steps
                passed = time.monotonic() - since
                yield event_log.write(
                    "step",
                    step=step + 1,
                    loss=None if taken.loss is None else float(taken.loss),
                    learning_rate=learning_rate(settings, step),
                    gradient_norm=None if taken.norm is None else float(taken.norm),
                    stats=taken.stats,
                    spread=None if spread is None else spread._asdict(),
                    is_collapsed=collapses,
                    examples_per_second=round(seen / passed, 1),
                    waited=round(loading / passed, 3),
                )
                if spread is not None and collapses and not is_collapsed:
                    yield warning(spread, step + 1, job)
                is_collapsed = collapses
            is_interrupted = any_rank(interruption.is_requested, processes)
            if (step + 1) % settings.interval == 0 or state.is_done:
                yield from _validate(state, event_log, processes)
                yield _keep(state, event_log, folder, processes)
                seen, loading, since = 0.0, 0.0, time.monotonic()
            elif is_interrupted:
                _keep(state, event_log, folder, processes, planned=False)
                event_log.write("interrupted", step=step + 1)
            if is_interrupted:
                raise KeyboardInterrupt


def _spread(state: State, taken: StepResult, processes: Processes) -> Spread | None:
    """How the embeddings of the global batch lie; the state takes note of it."""
    if taken.embeddings is None:
        return None
    embeddings = all_gather(taken.embeddings, processes)
    labels = None if taken.labels is None else all_gather(taken.labels, processes)
    if len(embeddings) < 2:
        return None
    spread = measure_spread(embeddings, labels, state.job.embedder.geometry)
    state.observe(is_collapsed=spread.is_collapsed)
    return spread


def _validate(state: State, event_log: EventLog, processes: Processes) -> Iterator[Event]:
    """Evaluate the validation examples; without any, or a metric that selects, the latest step is the best."""
    job, step = state.job, state.progress.step
    selection = selection_of(job)
    if selection is None:
        state.progress = replace(state.progress, best_step=step)
        yield from _end_if_lost(state, event_log, is_chosen=False)
        return
    result = validate(job, selection.protocol, state.evaluated, processes)
    if selection.metric is None:
        best = False  # nobody says so
        state.progress = replace(state.progress, best_step=step)
    else:
        best = state.score(broadcast(result.values[selection.metric] if result else 0.0, processes))
    if result:
        yield event_log.write(
            "evaluation",
            step=step,
            split="validation",
            of="model",
            by=selection.reported,
            best=best,
            values=event_values(result),
        )
    yield from _end_if_lost(state, event_log, is_chosen=selection.metric is not None)


def _end_if_lost(state: State, event_log: EventLog, *, is_chosen: bool) -> Iterator[Event]:
    """End a training whose embedding has collapsed for good, and say which step is kept."""
    if not state.give_up(is_chosen=is_chosen):
        return
    step, since, best = state.progress.step, state.progress.collapsed_since, state.progress.best_step
    text = (
        f"Step {step}: the embedding has been collapsed since step {since}, so the training ends here; the model is "
        f"that of step {best}. {advice(state.job)} To go on all the same: --set train.stop_collapsed=false"
    )
    yield event_log.write("collapsed", step=step, since=since, best_step=best, text=text)


def _keep(state: State, event_log: EventLog, folder: Path, processes: Processes, *, planned: bool = True) -> Event:
    """Save a checkpoint; the last two stay, and the best."""
    captured = state.capture(event_log.settle(), planned=planned)
    if processes.rank == 0:
        checkpoint.save(folder, captured)
        checkpoint.prune(folder, [captured.progress.best_step, *checkpoint.steps_in(folder)[-2:]])
    step = captured.progress.step
    return event_log.write("checkpoint", step=step, path=checkpoint.path_of(step))
