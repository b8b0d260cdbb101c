"""The end of a run: its best embedder, what it is worth, and an index to search."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuplet.data import Dataset
from tuplet.engine import Processes
from tuplet.errors import CheckpointError, DataError, LabelError
from tuplet.evaluation.operating import operating_points
from tuplet.models import Embedder
from tuplet.training import checkpoint
from tuplet.training.checkpoint import Checkpoint
from tuplet.training.events import Diary, Event, note
from tuplet.training.gallery import save_gallery, splits_of
from tuplet.training.job import Job
from tuplet.training.judge import (
    Judged,
    as_json,
    health_of,
    judged_by,
    judges_of,
    not_applicable,
    thresholds,
    values_of,
    verified,
)
from tuplet.training.judges import Judge
from tuplet.training.looks import ModelLook, Sight
from tuplet.training.state import State
from tuplet.training.together import agreed

FORMAT = 1


def finish(state: State, diary: Diary, folder: Path, processes: Processes) -> Iterator[Event]:
    """Save the best embedder as `model`, judge it, and index all examples, each with its split.

    All processes embed a share of the examples; the first one does the rest.

    Args:
        state: A training that is done; left with the best weights.
        diary: Takes the events.
        folder: The run.
        processes: Who trained together.

    Yields:
        Events of kind evaluation, for the raw input, the encoder before training and the model, and end.
    """
    job, progress = state.job, state.progress
    agreed(0.0, processes)  # the first process has saved
    chosen, remarks = _best(folder / "checkpoints", progress.best_step)
    yield from map(note, remarks)
    state.restore_judged(chosen)
    best_step = chosen.progress.step
    split, dataset = job.verdict_on
    judges = judges_of(job, dataset)
    looks = _looks(state, processes)
    sights = [{of: judge.see(look) for of, look in looks.items()} for judge in judges]
    model = looks["model"]
    model.remember(*splits_of(job).values())
    if processes.rank > 0:
        return
    embedder = state.judged
    _set_thresholds(embedder, model, job.validation, job.seed)
    embedder.save(folder / "model")
    save_gallery(folder, model, splits_of(job))
    baseline = state.baseline
    sights = [{"raw": judge.see(baseline.look), **seen} for judge, seen in zip(judges, sights, strict=True)]
    judged, left_out = _judged(judges, sights, job)
    left_out += not_applicable(dataset, job.evaluate)
    yield from map(note, left_out)
    main = next((judge for judge in judges if judge.name in judged), None)
    for of, result in judged[main.name].items() if main else ():
        by, values = main.headline if main else "", values_of(result)
        yield diary.write("evaluation", step=best_step, split=split, of=of, by=by, best=of == "model", values=values)
    health = _health(model, dataset, judges, sights, job.seed)
    verdict = {
        "format": FORMAT,
        "name": job.name,
        "seed": job.seed,
        "step": best_step,
        "split": split,
        "geometry": embedder.geometry,
        "supervision": job.loss.supervision,
        "data": job.facts,
        "raw": baseline.to_dict(),
        "main": {"protocol": main.name, "measure": main.headline} if main else None,
        "protocols": as_json(judged, job.evaluate, job.seed) | verified(model, dataset, job.seed) | health,
        "left_out": left_out,
    }
    checkpoint.write_file(folder / "evaluation.json", json.dumps(verdict, indent=2, allow_nan=False) + "\n")
    yield diary.write("end", step=progress.step, best_step=best_step, stopped_early=progress.step < job.settings.steps)
    diary.settle()


def _best(checkpoints: Path, step: int) -> tuple[Checkpoint, list[str]]:
    """The checkpoint of the best step; where it is lost, the latest whole one, and a remark."""
    try:
        return checkpoint.load(checkpoints / checkpoint.name_of(step)), []
    except CheckpointError as problem:
        found, remarks = checkpoint.load_latest(checkpoints)
        if found is None:
            raise
        return found, [*remarks, f"{problem.message} The model is that of step {found.progress.step}."]


def _judged(
    judges: Sequence[Judge], sights: Sequence[Mapping[str, Sight | None]], job: Job
) -> tuple[Judged, list[str]]:
    """What each judge says, and a sentence for each that the examples give nothing to say: the others still count."""
    judged: Judged = {}
    left_out: list[str] = []
    for judge, seen in zip(judges, sights, strict=True):
        try:
            judged |= judged_by([judge], [seen], job.evaluate, job.seed)
        except (DataError, LabelError) as problem:
            left_out.append(f"The protocol {judge.name} is left out: {problem.message}")
    return judged, left_out


def _looks(state: State, processes: Processes) -> dict[str, ModelLook]:
    """The model, and itself before training where that is asked for."""
    embedders = {"untrained": state.untrained, "model": state.judged}
    size = state.job.evaluate.batch_size
    return {of: ModelLook(one, size, processes) for of, one in embedders.items() if one is not None}


def _set_thresholds(embedder: Embedder, model: ModelLook, validation: Dataset | None, seed: int) -> None:
    """Scores from which on two items count as the same, by the classes of the validation examples."""
    if validation is None or validation.classes is None:
        return
    with suppress(DataError):  # pairs of one kind have no threshold between them
        rows = model.rows(validation)
        embedder.thresholds = thresholds(rows, embedder.geometry, validation, seed)
        points = operating_points(rows, validation.classes, geometry=embedder.geometry, seed=seed)
        embedder.verification = {"split": "validation", **points}


def _health(
    model: ModelLook,
    dataset: Dataset,
    judges: Sequence[Judge],
    sights: Sequence[Mapping[str, Sight | None]],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """The protocol that asks whether the space is well used; none for a single example."""
    if len(dataset) < 2:
        return {}
    views = next((seen["model"] for judge, seen in zip(judges, sights, strict=True) if judge.name == "views"), None)
    return {"health": {"model": health_of(model, dataset, views, seed).to_dict()}}
