"""What an embedder is worth, beside the raw input and, if asked for, itself before training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from tuplet.data import Dataset
from tuplet.engine import Processes
from tuplet.errors import DataError, RecipeError, ShapeError
from tuplet.evaluation import QueryResult, Result, compare, health, verification
from tuplet.models import Embedder
from tuplet.training.job import Job
from tuplet.training.judges import ByClass, ByGallery, ByPartner, ByTarget, ByTraining, ByView, Judge, classes_of
from tuplet.training.looks import ModelLook, RawLook, Sight
from tuplet.training.settings import EvaluateSettings
from tuplet.types import GeometryName

PAIRS, PAIR_DRAWS = 100_000, 200
"""Pairs of a verification, and resamples behind its intervals."""
Values = dict[str, dict[str, float]]
Judged = dict[str, dict[str, QueryResult]]
"""Results by protocol, then by `model`, `raw` and perhaps `untrained`."""


def judges_of(job: Job, dataset: Dataset) -> list[Judge]:
    """Who judges some examples of a training; the most telling first: by what the loss was told, then by the rest."""
    found = judges_for(dataset, job.evaluate)
    if job.loss.supervision == "graded":
        found.sort(key=lambda judge: not isinstance(judge, ByTarget))
    if dataset.partners is not None:
        found.sort(key=lambda judge: not isinstance(judge, ByPartner))
    if job.facts.get("by") == "row":  # the classes are what they are: other examples could have been asked
        found = [replace(judge, resample="examples") if isinstance(judge, ByClass) else judge for judge in found]
    if _shares_classes(job, dataset):
        is_told = job.loss.supervision in ("class", "multi")
        found.insert(1 if is_told and found else 0, ByTraining(dataset, job.train))
    if not found and job.augment is not None:
        found.append(ByView(dataset, job.augment, job.embedder.preprocessing, job.seed))
    return found


def judges_for(dataset: Dataset, settings: EvaluateSettings) -> list[Judge]:
    """Who judges examples by what is known of them alone."""
    found: list[Judge] = []
    if has_company(dataset):
        grouped = bool(settings.groups and dataset.groups and _crosses_groups(dataset))
        asks = {"query", "gallery"} <= {*(dataset.roles or ())}
        if asks:
            name = "reid" if grouped else "query_gallery"
            found.append(ByGallery(dataset, dataset.groups if grouped else None, name, "class_and_group"))
        found.append(ByClass(dataset, shares=grouped and not asks))
        if grouped and not asks:
            found.append(ByClass(dataset, dataset.groups, _grouped(settings), settings.junk, shares=True))
    if dataset.targets is not None and _targets_differ(dataset):
        found.append(ByTarget(dataset))
    if dataset.partners is not None:
        found.append(ByPartner(dataset))
    return found


def not_applicable(dataset: Dataset, settings: EvaluateSettings) -> list[str]:
    """A sentence for each protocol that the data names the columns of, and that has nothing to measure there."""
    said = []
    if settings.groups and dataset.groups and has_company(dataset) and not _crosses_groups(dataset):
        said.append(
            f"The protocol {_grouped(settings)} is left out: each class lies in one group, so none is found in another."
        )
    if dataset.targets is not None and not _targets_differ(dataset):
        said.append("The protocol targets is left out: all examples have the same targets, so nothing can follow them.")
    return said


def chooser_of(job: Job) -> tuple[Judge, str | None] | None:
    """Who says after each validation whether a step is the best so far, and by which measure.

    Returns:
        None if there is nothing to judge by; no measure if the latest step is the best.

    Raises:
        RecipeError: If the measure that the recipe names cannot be taken.
    """
    judges = [] if job.validation is None else [j for j in judges_of(job, job.validation) if j.name != "train"]
    wanted = job.evaluate.best_by
    if wanted in ("auto", "last"):
        measure = judges[0].choosing[0] if judges and judges[0].choosing and wanted == "auto" else None
        return (judges[0], measure) if judges else None
    found = next((judge for judge in judges if wanted in judge.choosing), None)
    if found is None and job.validation is not None:
        known = [measure for judge in judges for measure in judge.choosing]
        raise RecipeError(
            f"evaluate.best_by = {wanted!r} cannot be measured on these validation examples; "
            f"{', '.join(dict.fromkeys(known)) or 'nothing'} can.",
            hint="Type --set evaluate.best_by=auto, or last to keep the latest step.",
            reference="best-by",
        )
    return None if found is None else (found, wanted)


def validated(job: Job, judge: Judge, embedder: Embedder, processes: Processes) -> QueryResult | None:
    """What a judge says of the validation examples, without intervals.

    Each process embeds its share; the first judges, the others get None.
    """
    sight = judge.see(ModelLook(embedder, job.evaluate.batch_size, processes))
    if processes.rank or sight is None:
        return None
    return judge.judge(sight, job.evaluate, bootstrap=0, seed=job.seed)


def judged_raw(job: Job, judge: Judge, look: RawLook) -> QueryResult | None:
    """What a judge says of the raw input, without intervals; None if it has nothing to show."""
    sight = judge.see(look)
    return None if sight is None else judge.judge(sight, job.evaluate, bootstrap=0, seed=job.seed)


def judged_by(
    judges: Sequence[Judge], sights: Sequence[Mapping[str, Sight | None]], settings: EvaluateSettings, seed: int
) -> Judged:
    """What each judge says, with intervals, of what it sees: by the name of the look, None where there is nothing."""
    return {
        judge.name: {
            of: judge.judge(sight, settings, bootstrap=settings.bootstrap, seed=seed)
            for of, sight in seen.items()
            if sight is not None
        }
        for judge, seen in zip(judges, sights, strict=True)
    }


def as_json(judged: Judged, settings: EvaluateSettings, seed: int) -> dict[str, dict[str, Any]]:
    """The `protocols` of `evaluation.json`: results, and what the model gains over the others."""
    options: dict[str, Any] = {"bootstrap": settings.bootstrap, "seed": seed}
    said: dict[str, dict[str, Any]] = {}
    for name, results in judged.items():
        said[name] = {of: result.to_dict() for of, result in results.items()}
        for other, key in (("raw", "comparison"), ("untrained", "comparison_untrained")):
            if other in results:
                said[name][key] = compare(results["model"], results[other], **options).to_dict()
    return said


def health_of(model: ModelLook, dataset: Dataset, views: Sight | None, seed: int) -> Result:
    """Is the space well used? Alignment is that of classes or, where there are none, that of views."""
    found = health(model.rows(dataset), dataset.classes, seed=seed)
    if views is None or views.given is None:
        return found
    twice = torch.arange(len(views.asked)).repeat(2)
    seen = health(torch.cat([views.asked, views.given]), twice, seed=seed)
    return replace(found, values={**found.values, "alignment": seen.values["alignment"]})


def thresholds(embeddings: torch.Tensor, geometry: GeometryName, dataset: Dataset, seed: int) -> dict[str, float]:
    """Scores from which on two examples count as the same, by what they were chosen for: `far=0.01`, `best`."""
    judged = verification(embeddings, classes_of(dataset), geometry=geometry, max_pairs=PAIRS, bootstrap=0, seed=seed)
    return {name: value for name, value in judged.thresholds.items() if value is not None}


def verified(model: ModelLook, dataset: Dataset, seed: int) -> dict[str, dict[str, Any]]:
    """The protocol that asks whether pairs are of one class; none without two classes."""
    if not has_company(dataset):
        return {}
    rows, geometry = model.rows(dataset), model.embedder.geometry
    try:
        judged = verification(
            rows, classes_of(dataset), geometry=geometry, max_pairs=PAIRS, bootstrap=PAIR_DRAWS, seed=seed
        )
    except (DataError, ShapeError):  # pairs of one kind, or a model whose embeddings are not finite
        return {}
    return {"verification": {"model": judged.to_dict()}}


def values_of(result: QueryResult) -> Values:
    """The numbers of an `evaluation` event: value, and the ends of its interval where there is one."""
    ends = {"value": result.values, "low": result.lower, "high": result.upper}
    return {
        name: {key: numbers[name] for key, numbers in ends.items() if name in numbers}
        for name, value in result.values.items()
        if math.isfinite(value)
    }


def has_company(dataset: Dataset) -> bool:
    """Whether there are two classes, and an example that is not alone in its class."""
    if dataset.classes is None:
        return False
    sizes = torch.unique(dataset.classes[dataset.classes >= 0], return_counts=True)[1]
    return len(sizes) > 1 and int(sizes.max()) > 1


def _grouped(settings: EvaluateSettings) -> str:
    """The protocol that minds groups."""
    return "other_groups" if settings.junk == "group" else "reid"


def _crosses_groups(dataset: Dataset) -> bool:
    """Whether some class has examples of two groups."""
    assert dataset.groups is not None  # noqa: S101  asked of data with groups only
    first: dict[int, str] = {}
    pairs = zip(classes_of(dataset).tolist(), dataset.groups, strict=True)
    return any(label >= 0 and first.setdefault(label, group) != group for label, group in pairs)


def _targets_differ(dataset: Dataset) -> bool:
    """Whether two examples have different targets."""
    return dataset.targets is not None and len(torch.unique(dataset.targets, dim=0)) > 1


def _shares_classes(job: Job, dataset: Dataset) -> bool:
    """Whether the training examples can tell the classes of others: the split was by row."""
    if dataset is job.train or dataset.classes is None or job.train.classes is None or job.facts.get("by") != "row":
        return False
    return len(torch.unique(job.train.classes[job.train.classes >= 0])) > 1 and bool((dataset.classes >= 0).any())
