"""What a run was given, kept in its folder: whoever goes on with it must give it the same."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuplet.data.fingerprint import Fingerprint, differences
from tuplet.errors import DataError, RecipeError
from tuplet.storage import dotted, read_json, write_file
from tuplet.training.checkpoint import check_of, is_of_first_format
from tuplet.training.job import Job
from tuplet.training.optim import count_parameters

RECORD, EXAMPLES = "resume.json", "examples.jsonl"
FORMAT = 1
STEPS, EPOCHS = "train.steps", "train.epochs"
_FIELDS = ("settings", "examples", "corpus", "origin")
_PLACES = ("name", "data.source", "data.labels", "data.targets", "evaluate.words")
"""Settings that say where something lies, which may change; what lies there is compared by itself."""
_REMEDY = "Copy the folder of the run again from where it came."


@dataclass(frozen=True)
class Record:
    """What stands in `resume.json`.

    Args:
        settings: Those of the recipe, by their dotted names; without those that say where something lies.
        examples: Digest of `examples.jsonl`; None for running text, or a job that was made by hand.
        corpus: Digest of the words of a running text; None for examples.
        origin: The run that the weights came from, and its step; None without one.
    """

    settings: Mapping[str, Any]
    examples: str | None
    corpus: str | None
    origin: Mapping[str, Any] | None


def keep(folder: Path, job: Job) -> None:
    """Write what a run is given."""
    examples = corpus = None
    if job.corpus is not None:
        corpus = job.corpus.digest()
    elif job.fingerprint is not None:
        examples = job.fingerprint.write(folder / EXAMPLES)
    _write(folder, Record(_settings(job, folder), examples, corpus, job.origin))


def has_no_record(folder: Path) -> bool:
    """Whether tuplet 0.1 began a run, which kept no record, and nobody has gone on with it since."""
    return not (folder / RECORD).exists() and is_of_first_format(folder / "checkpoints")


def refuse_other_start(folder: Path, job: Job, start: Mapping[str, Any]) -> None:
    """Refuse to go on with a run of tuplet 0.1 on other data, as far as its first event can tell.

    Args:
        folder: The run.
        job: What shall go on.
        start: That event; it counts examples, classes, batches and parameters.

    Raises:
        DataError: If there are others now.
    """
    now = start_facts(job)
    known = (start.keys() & now.keys()) - {"name", "steps"}
    if found := [f"{now[key]} {key}, was {start[key]}" for key in now if key in known and now[key] != start[key]]:
        raise other_data(folder, found)


def adopt(folder: Path, job: Job) -> None:
    """Begin the record of a run of tuplet 0.1; its recipe is written as it is understood today."""
    keep(folder, job)
    write_file(folder / "recipe.toml", job.recipe(folder))


def start_facts(job: Job) -> dict[str, Any]:
    """What the first event of a run says of it."""
    facts: dict[str, Any] = {"name": job.name, "seed": job.seed, "steps": job.settings.steps}
    if job.corpus is not None:
        facts |= {"examples": len(job.corpus), "words": len(job.train)}
    else:
        classes = job.train.classes
        count = 0 if classes is None else len(torch.unique(classes[classes >= 0]))
        facts |= {"examples": len(job.train), "classes": count, "batch": job.sampler.batch_size}
    facts["batches_per_epoch"] = job.sampler.batches_per_epoch
    return {**facts, "parameters": count_parameters([job.embedder, job.loss])}


def read_record(folder: Path) -> Record:
    """What `keep` wrote.

    Raises:
        DataError: If it is missing or damaged.
    """
    found = read_json(folder / RECORD, version=FORMAT, error=DataError, remedy=_REMEDY)
    facts: dict[str, Any] = {key: found.get(key) for key in _FIELDS}
    if found.get("check") != check_of(facts) or not isinstance(facts["settings"], dict):
        message = f"{folder / RECORD} is damaged: its digest differs."
        raise DataError(message, hint=_REMEDY, reference="damaged-file")
    return Record(**facts)


def read_fingerprint(folder: Path) -> Fingerprint | None:
    """The data that a run was given, example by example; None for running text.

    Args:
        folder: The run.

    Raises:
        DataError: If it is missing or damaged, or tuplet 0.1 made the run, which kept none.
    """
    if has_no_record(folder):
        raise DataError(
            f"{folder} is a run of tuplet 0.1, which kept no record of its examples: nobody can tell which ones it has "
            "seen.",
            hint=f"If its data is as it was, go on with it: tuplet train --resume {folder} --steps N. Or train anew.",
            reference="no-record",
        )
    digest = read_record(folder).examples
    return None if digest is None else Fingerprint.read(folder / EXAMPLES, digest)


def compare(folder: Path, job: Job, *, extend: bool) -> int | None:
    """Go on with the same, or not at all.

    Args:
        folder: The run.
        job: What shall go on.
        extend: Whether it may take more steps than the run was to take.

    Returns:
        How many steps the run was to take, if it shall now take another number.

    Raises:
        RecipeError: If settings differ; all are named.
        DataError: If the data differs; the message says in what.
    """
    kept = read_record(folder)
    now = _settings(job, folder)
    changed = sorted(key for key in {*now, *kept.settings} if now.get(key) != kept.settings.get(key))
    if extend and set(changed) <= {STEPS, EPOCHS}:
        changed = []
    if changed:
        lines = [f"{key} = {now.get(key)!r}, was {kept.settings.get(key)!r}" for key in changed]
        raise RecipeError(
            f"{folder} was begun with other settings:\n  " + "\n  ".join(lines),
            hint=f"Put them back to go on. {_only_steps(folder, changed)}A new run from the weights of this one: "
            f"tuplet train {folder}/recipe.toml --from {folder}",
            reference="run-changed",
        )
    if job.corpus is not None:
        found = [] if kept.corpus == job.corpus.digest() else ["its words are others, or are in another order"]
    elif kept.examples is not None and job.fingerprint is not None:
        known = Fingerprint.read(folder / EXAMPLES, kept.examples)
        found = differences(known.present(), job.fingerprint.present())
    else:
        found = []
    if found:
        raise other_data(folder, found)
    steps = kept.settings.get(STEPS)
    return None if steps == now.get(STEPS) else steps


def other_data(folder: Path, found: list[str]) -> DataError:
    """Why a run cannot go on: an evaluation of unseen examples would be of seen ones."""
    return DataError(
        f"The data is not what {folder} was given:\n  " + "\n  ".join(found),
        hint="Put it back to go on, or say where it is now with --data. "
        f"A new run from the weights of this one, on the data as it is: tuplet train --from {folder}",
        reference="data-changed",
    )


def extend_to(folder: Path, job: Job) -> None:
    """Note that a run shall take as many steps as the job says."""
    kept = read_record(folder)
    _write(folder, Record(_settings(job, folder), kept.examples, kept.corpus, kept.origin))
    write_file(folder / "recipe.toml", job.recipe(folder))


def _write(folder: Path, record: Record) -> None:
    facts = {key: getattr(record, key) for key in _FIELDS}
    content = {"format": FORMAT, **facts, "check": check_of(json.loads(json.dumps(facts)))}
    write_file(folder / RECORD, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _only_steps(folder: Path, changed: list[str]) -> str:
    return f"For more steps: tuplet train --resume {folder} --steps N. " if changed == [STEPS] else ""


def _settings(job: Job, folder: Path) -> dict[str, Any]:
    """Settings of a recipe by their dotted names; infinity, which JSON has no word for, by its name in TOML."""
    flat = {key: value for key, value in dotted(tomllib.loads(job.recipe(folder))) if not _is_place(key)}
    flat |= job.contents
    flat["data.more"] = [one["weight"] for one in flat.get("data.more", ())]  # where they are may change
    return {key: str(value) if value in (float("inf"), float("-inf")) else value for key, value in flat.items()}


def _is_place(key: str) -> bool:
    return key in _PLACES or (key.startswith(("model.", "train.augment.")) and key.endswith(".folder"))
