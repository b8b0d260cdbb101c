"""The end of a run: its best embedder, what it is worth, and an index to search."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuplet.data import Dataset
from tuplet.engine import Processes
from tuplet.errors import CheckpointError, DataError
from tuplet.evaluation.roc import operating_points
from tuplet.evaluation.words import WordSimilarityResult
from tuplet.models import Embedder
from tuplet.results import DataSummary, Evaluation, Primary, ProtocolResults
from tuplet.training import checkpoint
from tuplet.training.checkpoint import Checkpoint
from tuplet.training.distributed import broadcast
from tuplet.training.evaluator import (
    Evaluator,
    Results,
    event_values,
    health_of,
    not_applicable,
    protocol_results,
    protocols_of,
    thresholds,
    verified,
    word_similarities,
)
from tuplet.training.events import Event, EventLog, log_message
from tuplet.training.features import Features, ModelExtractor
from tuplet.training.gallery import save_gallery, splits_of
from tuplet.training.state import State


def finish(state: State, log: EventLog, folder: Path, processes: Processes) -> Iterator[Event]:
    """Save the best embedder as `model`, evaluate it, and index all examples, each with its split.

    All processes embed a share of the examples; the first one does the rest.

    Args:
        state: A training that is done; left with the best weights.
        log: Takes the events.
        folder: The run.
        processes: Who trained together.

    Yields:
        Events of kind evaluation, for the raw input, the encoder before training and the model, and end.
    """
    job, progress = state.job, state.progress
    broadcast(0.0, processes)  # the first process has saved
    chosen, notes = _best(folder / "checkpoints", progress.best_step)
    yield from map(log_message, notes)
    state.restore_evaluated(chosen)
    best_step = chosen.progress.step
    split, dataset = job.evaluation_split
    evaluator = Evaluator(protocols_of(job, dataset), job.evaluate, job.seed)
    extractors = _extractors(state, processes)
    features = evaluator.extract(extractors)
    model = extractors["model"]
    model.precompute(*splits_of(job).values())
    if processes.rank > 0:
        return
    embedder = state.evaluated
    _set_thresholds(embedder, model, job.validation, job.seed)
    embedder.save(folder / "model")
    save_gallery(folder, model, splits_of(job))
    raw = evaluator.extract({"raw": state.baseline.extractor})
    features = [{**one, **other} for one, other in zip(raw, features, strict=True)]
    results, left_out = evaluator.evaluate(features)
    left_out += not_applicable(dataset, job.evaluate)
    similarity = word_similarities(job, model)
    yield from map(log_message, left_out)
    main, reported = _report(evaluator, results, similarity)
    for fields in reported:
        yield log.write("evaluation", step=best_step, split=split, **fields)
    evaluation = Evaluation(
        name=job.name,
        seed=job.seed,
        step=best_step,
        split=split,
        geometry=embedder.geometry,
        supervision=job.task.supervision,
        data=DataSummary.model_validate(job.facts),
        raw=state.baseline.summary() if job.corpus is None else None,
        main=main,
        protocols=evaluator.compare(results)
        | {name: protocol_results({"model": found}) for name, found in similarity.items()}
        | verified(model, dataset, job.seed)
        | _health(model, dataset, evaluator, features),
        left_out=left_out,
    )
    evaluation.write(folder)
    yield log.write("end", step=progress.step, best_step=best_step, stopped_early=progress.step < job.settings.steps)
    log.settle()


def _report(
    evaluator: Evaluator, results: Results, similarity: Mapping[str, WordSimilarityResult]
) -> tuple[Primary | None, list[dict[str, Any]]]:
    """What stands for the whole result, and the fields of its `evaluation` events: of words, one for each file."""
    main = next((protocol for protocol in evaluator.protocols if protocol.name in results), None)
    if main is not None:
        by = main.primary_metric
        return Primary(protocol=main.name, measure=by), [
            {"of": of, "by": by, "best": of == "model", "values": event_values(result)}
            for of, result in results[main.name].items()
        ]
    first = next((Primary(protocol=name, measure="spearman") for name in similarity), None)
    return first, [
        {
            "of": "model",
            "best": True,
            "values": {f"{metric} {name}": {"value": value} for metric, value in found.values.items()},
        }
        for name, found in similarity.items()
    ]


def _best(checkpoints: Path, step: int) -> tuple[Checkpoint, list[str]]:
    """The checkpoint of the best step; where it is lost, the latest complete one, and a note."""
    try:
        return checkpoint.load(checkpoints / checkpoint.name_of(step)), []
    except CheckpointError as problem:
        found, notes = checkpoint.load_latest(checkpoints)
        if found is None:
            raise
        return found, [*notes, f"{problem.message} The model is that of step {found.progress.step}."]


def _extractors(state: State, processes: Processes) -> dict[str, ModelExtractor]:
    """The model, and the encoder before training where that is asked for."""
    embedders = {"untrained": state.untrained, "model": state.evaluated}
    size = state.job.evaluate.batch_size
    return {of: ModelExtractor(one, size, processes) for of, one in embedders.items() if one is not None}


def _set_thresholds(embedder: Embedder, model: ModelExtractor, validation: Dataset | None, seed: int) -> None:
    """Scores from which on two items count as the same, by the classes of the validation examples."""
    if validation is None or validation.classes is None:
        return
    with suppress(DataError):  # pairs of one kind have no threshold between them
        rows = model.embed(validation)
        embedder.thresholds = thresholds(rows, embedder.geometry, validation, seed)
        points = operating_points(rows, validation.classes, geometry=embedder.geometry, seed=seed)
        embedder.verification = {"split": "validation", **points}


def _health(
    model: ModelExtractor, dataset: Dataset, evaluator: Evaluator, features: Sequence[Mapping[str, Features | None]]
) -> dict[str, ProtocolResults]:
    """The protocol health, of the embedding space itself; none for a single example, or words."""
    if len(dataset) < 2 or dataset.kind == "words":
        return {}
    views = next((features[at]["model"] for at, one in enumerate(evaluator.protocols) if one.name == "views"), None)
    return {"health": protocol_results({"model": health_of(model, dataset, views, evaluator.seed)})}
