"""The end of a run: its best embedder, what it is worth, and an index to search."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tuplet.data import Dataset
from tuplet.engine import Processes
from tuplet.evaluation import RetrievalResult, compare
from tuplet.index import FlatIndex
from tuplet.training import checkpoint
from tuplet.training.events import Diary, Event
from tuplet.training.job import Job
from tuplet.training.judge import embed_together, protocols, thresholds, values_of
from tuplet.training.state import State
from tuplet.training.together import agreed

FORMAT = 1
THUMBNAIL = 48
"""Longest side of a thumbnail in pixels."""


def finish(state: State, diary: Diary, folder: Path, processes: Processes) -> Iterator[Event]:
    """Save the best embedder as `model`, judge it, and index what it was judged on.

    All processes embed what it is judged on; the first one does the rest.

    Args:
        state: A training that is done; left with the best weights.
        diary: Takes the events.
        folder: The run.
        processes: Who trained together.

    Yields:
        Events of kind evaluation, for the raw input and the model, and end.
    """
    job, progress = state.job, state.progress
    agreed(0.0, processes)  # the first process has saved
    state.restore_judged(checkpoint.load(folder / "checkpoints" / checkpoint.name_of(progress.best_step)))
    embedder = state.judged
    split, dataset = job.verdict_on
    embeddings = embed_together(embedder, dataset, job.evaluate, processes)
    if job.validation is not None:
        validated = embed_together(embedder, job.validation, job.evaluate, processes)
        embedder.thresholds = thresholds(validated, embedder.geometry, job.validation, job.seed)
    if processes.rank > 0:
        return
    embedder.save(folder / "model")
    (folder / "gallery").mkdir(exist_ok=True)  # so that "../model" leads somewhere from it
    FlatIndex.write(folder / "gallery", embedder, embeddings, _facts(dataset), model="../model")
    _save_thumbnails(folder / "thumbnails.npy", dataset)
    if dataset.classes is not None:
        judged = protocols(embeddings, embedder.geometry, dataset, job.evaluate, job.seed)
        for of in ("raw", "model"):
            values, is_best = values_of(judged["all"][of]), of == "model"
            yield diary.write("evaluation", step=progress.best_step, split=split, of=of, best=is_best, values=values)
        verdict = {
            "format": FORMAT,
            "name": job.name,
            "seed": job.seed,
            "step": progress.best_step,
            "split": split,
            "geometry": embedder.geometry,
            "data": job.facts,
            "protocols": {name: _as_json(results, job) for name, results in judged.items()},
        }
        checkpoint.write_file(folder / "evaluation.json", json.dumps(verdict, indent=2, allow_nan=False) + "\n")
    yield diary.write(
        "end", step=progress.step, best_step=progress.best_step, stopped_early=progress.step < job.settings.steps
    )
    diary.settle()


def _facts(dataset: Dataset) -> list[dict[str, Any]]:
    """What the index knows of each item."""
    facts: list[dict[str, Any]] = [{"id": name} for name in dataset.ids]
    if dataset.classes is not None:
        for fact, label in zip(facts, dataset.classes.tolist(), strict=True):
            fact["label"] = dataset.class_names[label] if label >= 0 else None
    for fact, group in zip(facts, dataset.groups or (), strict=False):
        fact["group"] = group
    return facts


def _save_thumbnails(path: Path, dataset: Dataset) -> None:
    """Small copies of the images of the gallery, row by row, so that results can be shown wherever the run is moved."""
    if dataset.kind != "image" or not isinstance(dataset.inputs, Tensor):
        return
    images = dataset.inputs  # uint8 (n, channels, height, width)
    if max(images.shape[2:]) > THUMBNAIL:
        parts = torch.split(images, 256)
        images = torch.cat(
            [functional.interpolate(part.float(), THUMBNAIL, mode="area").round().byte() for part in parts]
        )
    content = io.BytesIO()
    np.save(content, images.numpy())
    checkpoint.write_file(path, content.getvalue())


def _as_json(results: dict[str, RetrievalResult], job: Job) -> dict[str, Any]:
    compared = compare(results["model"], results["raw"], bootstrap=job.evaluate.bootstrap, seed=job.seed)
    return {**{name: result.to_dict() for name, result in results.items()}, "comparison": compared.to_dict()}
