"""A training that nobody keeps: what its best step is worth to the validation examples, or to the test examples."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from tuplet.engine import SINGLE_PROCESS
from tuplet.errors import RecipeError
from tuplet.evaluation import QueryResult
from tuplet.models import Embedder
from tuplet.training import checkpoint
from tuplet.training.evaluator import Selection, evaluate_raw, protocols_of, selection_of, validate
from tuplet.training.events import Event, EventLog
from tuplet.training.job import Job
from tuplet.training.loop import train
from tuplet.training.protocols import EvaluationProtocol, KnnClassification
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
    return _tried(job, State(job, torch.device(device)))


@dataclass(frozen=True)
class Assessment:
    """What a training is worth to the test examples, which choose nothing.

    Attributes:
        trial: The same of the validation examples, by which the best step was chosen.
        protocol: How the test examples were evaluated: as the validation examples were.
        result: Of the best step on the test examples, without intervals.
        raw: Of the raw input, likewise; None if it has nothing to show.
    """

    trial: Trial
    protocol: str
    result: QueryResult
    raw: QueryResult | None


def assessed(job: Job, device: torch.device | str = "cpu") -> Assessment:
    """Train, evaluate the best step on validation and test examples, and keep no file.

    Args:
        job: What to train; left with the weights of its best step.
        device: Where encoder and loss live.

    Raises:
        RecipeError: If there are no test examples, or as for `tried`.
        DivergedError: If the loss is no longer finite.
    """
    protocol = protocol_of_test(job)
    state = State(job, torch.device(device))
    trial = _tried(job, state)
    result = validate(job, protocol, state.evaluated, SINGLE_PROCESS)
    assert result is not None  # noqa: S101  one process evaluates
    return Assessment(trial, protocol.name, result, evaluate_raw(job, protocol, state.baseline.extractor))


def protocol_of_test(job: Job) -> EvaluationProtocol:
    """How test examples are evaluated: as the validation examples that choose the best step.

    Args:
        job: Before or after its training.

    Raises:
        RecipeError: If there are no such examples, or as for `tried`.
    """
    of = type(selection_by_validation(job).protocol)
    asked = [] if job.test is None else protocols_of(job, job.test)
    found = [one for one in asked if isinstance(one, of) and not isinstance(one, KnnClassification)]
    if not found:
        raise RecipeError(
            f"The recipe {job.name} has no test examples that could be evaluated as the validation examples are.",
            hint="Hold some out: --set data.split.test=0.3",
            reference="no-test-examples",
        )
    return found[0]


def _tried(job: Job, state: State) -> Trial:
    """Train, and evaluate the best step on the validation examples."""
    selection = selection_by_validation(job)
    assert selection.metric is not None  # noqa: S101  just refused
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


def selection_by_validation(job: Job) -> Selection:
    """How validation selects the best step.

    Raises:
        RecipeError: If it cannot.
    """
    selection = selection_of(job)
    if selection is None or selection.metric is None:
        raise RecipeError(
            f"The recipe {job.name} has no validation examples that could choose a step.",
            hint="Hold some out: --set data.split.validation=0.15",
            reference="best-by",
        )
    return selection


def _trained(state: State) -> tuple[Event, ...]:
    """Take all steps, and go back to the best of them."""
    with TemporaryDirectory() as folder, EventLog(None) as event_log:
        events = tuple(train(state, event_log, Path(folder), SINGLE_PROCESS))
        best = checkpoint.name_of(state.progress.best_step)
        state.restore_evaluated(checkpoint.load(Path(folder) / best))
    return events
