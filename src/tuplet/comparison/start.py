"""Before the first training: whether all entries can be trained and evaluated at all, and on how many steps."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from tuplet.comparison.entries import Entry
from tuplet.comparison.folder import Folder, Request
from tuplet.engine import SINGLE_PROCESS
from tuplet.errors import DataError, RecipeError
from tuplet.recipes import Reader, Recipe, build, load_recipe
from tuplet.recipes.imported import import_losses
from tuplet.training import Job
from tuplet.training.profile import profile_steps
from tuplet.training.run import refuse_unfit
from tuplet.training.trial import protocol_of_test, selection_by_validation


def requested(
    entries: Sequence[Entry],
    *,
    trials: int,
    seeds: int,
    minutes: float,
    reader: Reader,
    device: str,
    trust: bool,
) -> Request:
    """Build every entry once, so that what cannot be trained is said before hours are spent on the others.

    Args:
        entries: What is compared.
        trials: Settings tried for each.
        seeds: Trainings of each with the best of them.
        minutes: Of each training, from which its steps follow; 0 takes those of the recipes.
        reader: Knows the data.
        device: Where to train.
        trust: Import losses and encoders that recipes name.

    Raises:
        DataError: If the data cannot be read or divided as asked.
        RecipeError: If an entry cannot be trained on it, or evaluated.
    """
    steps: dict[str, int] = {}
    measures: dict[str, tuple[str, str]] = {}
    digest = ""
    for entry in entries:
        job = build(entry.recipe, cache=reader.cache, reader=reader, trust=trust)
        refuse_unfit(job, SINGLE_PROCESS)
        measures[entry.name] = protocol_of_test(job).name, selection_by_validation(job).metric or ""
        _refuse_two_measures(measures)
        digest = digest_of(job)
        steps[entry.name] = job.settings.steps if not minutes else _fitting(job, minutes, device)
    return Request(
        entries=[entry.name for entry in entries],
        losses=[entry.recipe.loss.name for entry in entries],
        trials=trials,
        seeds=seeds,
        seed=entries[0].recipe.seed,
        minutes=minutes,
        data=digest,
        steps=steps,
    )


def _refuse_two_measures(measures: Mapping[str, tuple[str, str]]) -> None:
    """Losses of classes and of numbers, on data that has both, would each be evaluated by what they learn from.

    Args:
        measures: Protocol and metric of each entry so far.

    Raises:
        RecipeError: If two entries differ in them.
    """
    (name, (protocol, metric)), *others = measures.items()
    for other, (its_protocol, its_metric) in others:
        if (its_protocol, its_metric) != (protocol, metric):
            raise RecipeError(
                f"{name} would be evaluated by {metric} (protocol {protocol}) and {other} by {its_metric} (protocol "
                f"{its_protocol}): two measures cannot be compared.",
                hint=f"Name one for all: --set evaluate.best_by={metric} or --set evaluate.best_by={its_metric}",
                reference="unequal-measures",
            )


def check_data(folder: Folder, request: Request, cache: Path, *, trust: bool) -> None:
    """Refuse to go on with other data than a comparison was begun with.

    Raises:
        DataError: If it has changed.
    """
    import_losses(request.losses, trust=trust)
    recipe: Recipe = load_recipe(folder.recipe(request.entries[0]))
    if digest_of(build(recipe, cache=cache, trust=trust)) != request.data:
        raise DataError(
            f"{recipe.data.source} is not what the comparison in {folder.path} was begun with.",
            hint="Put it back to go on, or start a new comparison.",
            reference="data-changed",
        )


def digest_of(job: Job) -> str:
    """Of all examples and their splits."""
    known = job.fingerprint
    facts = None if known is None else [known.ids, known.splits, known.contents]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _fitting(job: Job, minutes: float, device: str) -> int:
    """Steps that fit into so many minutes, with their validations."""
    found = profile_steps(job, device)
    validations = (found.validation or 0.0) * -(-job.settings.steps // job.settings.interval)
    return max(1, int((60 * minutes - validations) / median(found.seconds)))
