"""A training that nobody keeps: what its best step is worth to the validation examples."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tuplet.engine import SINGLE_PROCESS
from tuplet.errors import RecipeError
from tuplet.evaluation import QueryResult
from tuplet.models import Embedder
from tuplet.training import checkpoint
from tuplet.training.evaluator import evaluate_raw, selection_of, validate
from tuplet.training.events import Event, EventLog
from tuplet.training.job import Job
from tuplet.training.loop import train
from tuplet.training.state import State


@dataclass(frozen=True)
class Trial:
    """What a training is worth to the examples that choose its best step; the test examples take no part.

    Attributes:
        measure: By which the best step was chosen.
        result: Of the best step, without intervals.
        raw: Of the raw input, likewise; None if it has nothing to show.
        best_step: The best step.
        steps: Steps taken; fewer than planned where patience ran out or the embedding collapsed.
        events: Events of the training.
    """

    measure: str
    result: QueryResult
    raw: QueryResult | None
    best_step: int
    steps: int
    events: tuple[Event, ...]


def tried(job: Job, device: torch.device | str = "cpu") -> Trial:
    """Train, evaluate the best step on the validation examples, and keep no file.

    Args:
        job: What to train; left with the weights of its best step.
        device: Where encoder and loss live.

    Raises:
        RecipeError: If there are no validation examples, or nothing by which they could choose a step.
        DivergedError: If the loss is no longer finite.
    """
    selection = selection_of(job)
    if selection is None or selection.metric is None:
        raise RecipeError(
            f"The recipe {job.name} has no validation examples that could choose a step.",
            hint="Hold some out: --set data.split.validation=0.15",
            reference="best-by",
        )
    state = State(job, torch.device(device))
    raw = evaluate_raw(job, selection.protocol, state.baseline.extractor)
    events = _trained(state)
    best = state.progress.best_step
    result = validate(job, selection.protocol, state.evaluated, SINGLE_PROCESS)
    assert result is not None  # noqa: S101  one process evaluates
    return Trial(selection.metric, result, raw, best, state.progress.step, events)


def fitted(job: Job, device: torch.device | str = "cpu") -> Embedder:
    """Train and keep no file: the embedder of the best step, or of the last one where nothing chooses.

    Args:
        job: What to train.
        device: Where encoder and loss live.

    Raises:
        DivergedError: If the loss is no longer finite.
    """
    state = State(job, torch.device(device))
    _trained(state)
    return state.evaluated.eval()


def _trained(state: State) -> tuple[Event, ...]:
    """Take all steps, and go back to the best of them."""
    with TemporaryDirectory() as folder, EventLog(None) as event_log:
        events = tuple(train(state, event_log, Path(folder), SINGLE_PROCESS))
        best = checkpoint.name_of(state.progress.best_step)
        state.restore_evaluated(checkpoint.load(Path(folder) / best))
    return events
