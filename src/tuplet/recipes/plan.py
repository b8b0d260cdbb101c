"""What a training will take, and what may be wrong with it, before it starts."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import Manifest
from tuplet.recipes.build import build
from tuplet.recipes.data import Reader
from tuplet.recipes.data_warnings import class_sizes, data_warnings
from tuplet.recipes.schema import Recipe
from tuplet.training import Job
from tuplet.training.evaluator import not_applicable
from tuplet.training.profile import StepProfile, profile_steps, size_of


@dataclass(frozen=True)
class Plan:
    """What a training will take.

    Args:
        name: Of the run.
        data: By split: `examples`, `classes`, and the `smallest`, `median` and `largest` class.
        steps: `batch` in examples, `batches_per_epoch`, `steps`, `epochs` and `validations` in all.
        memory: Bytes: `data` as decoded, `weights` of the encoder, `gradients`, `optimizer`, `averaged` weights,
            `head` and `bank` of the loss, what a step saves for backward (`activations`), all of it (`step`), and
            one `checkpoint` on disk.
        seconds: `step` (the median), `step_low` and `step_high` of the timed ones, `loading` (the part of a step in
            which the model waits for its batch), `epoch`, `validation`, `in_all`.
        warnings: A sentence for each thing that may be wrong.
        source: What was read as what, as `Job.facts` has it.
    """

    name: str
    data: Mapping[str, Mapping[str, int]]
    steps: Mapping[str, float]
    memory: Mapping[str, int]
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]
    source: Mapping[str, Any]


def plan(
    recipe: Recipe, *, cache: Path, reader: Reader | None = None, trust: bool = False, device: str = "cpu"
) -> Plan:
    """Build what a recipe describes, take a few steps, and say what all of them will take. Nothing is kept.

    Args:
        recipe: From `load_recipe` or `recipe_for`.
        cache: As for `build`.
        reader: As for `build`.
        trust: The same.
        device: Where the steps are taken; word vectors are trained on the CPU.

    Raises:
        DataError: If the data cannot be read or divided as asked.
        RecipeError: If a component refuses its options.
        DivergedError: If the first steps are not finite.
    """
    with _overheard("tuplet.losses") as notes, _overheard("tuplet.sampling"):  # of whose classes the warnings say more
        reader = reader or Reader(cache)
        job = build(recipe, cache=cache, reader=reader, trust=trust)
    if job.corpus is not None:
        data = {"train": {"examples": len(job.corpus), "classes": len(job.train)}}
        return _planned(job, data, profile_steps(job), notes)
    manifest = reader.manifest(recipe.data)
    parts = reader.parts(manifest, recipe.data.split)
    per_class = getattr(recipe.batch, "per_class", None)
    warnings = [*data_warnings(manifest, parts, job.task.split_by, per_class), *notes]
    warnings += [job.batch_exceeds_dataset] if job.batch_exceeds_dataset else []
    evaluated = [job.evaluation_split[1], *([job.validation] if job.validation else [])]
    warnings += dict.fromkeys(said for dataset in evaluated for said in not_applicable(dataset, job.evaluate))
    data = {name: _counted(part) for name, part in parts.items()}
    return _planned(job, data, profile_steps(job, device), warnings)


def _planned(
    job: Job,
    data: Mapping[str, Mapping[str, int]],
    profile: StepProfile,
    warnings: list[str],
) -> Plan:
    settings, batches = job.settings, job.sampler.batches_per_epoch
    steps = {
        "batch": job.sampler.batch_size,
        "batches_per_epoch": batches,
        "steps": settings.steps,
        "epochs": settings.steps / batches,
        "validations": 0 if profile.validation is None else -(-settings.steps // settings.interval),
    }
    if steps["epochs"] < 1:
        seen = f"train.steps = {settings.steps} is {steps['epochs']:.2f} epochs: some examples are never seen."
        warnings = [*warnings, f"{seen} One epoch: --set train.steps={batches}"]
    step = float(np.median(profile.seconds))
    seconds = {
        "step": step,
        "step_low": min(profile.seconds),
        "step_high": max(profile.seconds),
        "loading": profile.loading,
        "epoch": step * batches,
        "validation": profile.validation or 0.0,
        "in_all": step * settings.steps + (profile.validation or 0.0) * steps["validations"],
    }
    return Plan(job.name, data, steps, _memory(job, profile), seconds, tuple(warnings), job.facts)


def _counted(part: Manifest) -> dict[str, int]:
    sizes = class_sizes(part)
    counted = {"examples": len(part), "classes": len(sizes)}
    if len(sizes):
        counted |= {"smallest": int(sizes.min()), "median": int(np.median(sizes)), "largest": int(sizes.max())}
    return counted


def _memory(job: Job, profile: StepProfile) -> dict[str, int]:
    saved = profile.checkpoint
    weights, head = [*job.embedder.parameters()], [*job.loss.parameters()]
    memory = {
        "data": _size_of_data(job) if job.corpus is None else job.corpus.ids.nbytes,
        "weights": size_of(saved.tensors["model"]),
        "gradients": size_of([p for p in (*weights, *head) if p.requires_grad]) if job.corpus is None else 0,
        "optimizer": size_of(saved.optimizer),
        "averaged": size_of(saved.tensors.get("averaged", {})),
        "head": size_of(head),
        "bank": size_of([*job.loss.buffers()]),
        "activations": profile.saved,
    }
    memory["step"] = sum(memory.values())
    memory["checkpoint"] = size_of([*saved.tensors.values()]) + size_of(saved.optimizer)
    return memory


def _size_of_data(job: Job) -> int:
    """Bytes of all examples as they are held in memory."""
    found = 0
    for dataset in filter(None, (job.train, job.validation, job.test)):
        for inputs in (dataset.inputs, dataset.partners):
            texts = [one for one in inputs if isinstance(one, str)] if isinstance(inputs, list) else []
            found += sum(len(text.encode()) for text in texts) if texts else size_of(inputs)
    return found


@contextmanager
def _overheard(name: str) -> Iterator[list[str]]:
    """Collects the log messages of a part of tuplet instead of letting them be printed."""
    notes: list[str] = []
    listener = logging.Handler(logging.WARNING)
    listener.emit = lambda record: notes.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    logger.addHandler(listener)
    try:
        yield notes
    finally:
        logger.removeHandler(listener)
