"""One training of a comparison, as any process can carry it out."""

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from tuplet.comparison.folder import RunRecord, TrialRecord
from tuplet.errors import DivergedError
from tuplet.evaluation import QueryResult
from tuplet.recipes import build, load_recipe
from tuplet.recipes.imported import import_losses
from tuplet.training import Assessment, Job, Trial, assessed, tried

SEARCH_SEED = 1000
"""Seed of the trainings of the search: one for all of them, and none that the results are about."""

Key = tuple[str, int | None, int]


@dataclass(frozen=True)
class Work:
    """What to train.

    Args:
        entry: Name.
        losses: Of other libraries that recipes may name.
        recipe: File.
        settings: What the search chose.
        steps: To take.
        trial: Number of a trial; None for a run.
        seed: Of a run.
        cache: Folder for data that is generated or decoded once.
        device: Where.
        trust: Import losses of other libraries.
    """

    entry: str
    losses: tuple[str, ...]
    recipe: Path
    settings: dict[str, float]
    steps: int
    trial: int | None
    seed: int
    cache: Path
    device: str
    trust: bool

    @property
    def key(self) -> Key:
        """Which training of a comparison it is."""
        return self.entry, self.trial, self.seed

    def job(self) -> Job:
        """Built and ready."""
        import_losses(self.losses, trust=self.trust)
        seed = SEARCH_SEED if self.trial is not None else self.seed
        chosen = [f"{key}={value!r}" for key, value in self.settings.items()]
        recipe = load_recipe(self.recipe, [*chosen, f"seed={seed}", f"train.steps={self.steps}"])
        return build(recipe, cache=self.cache, trust=self.trust)


def carry_out(work: Work) -> TrialRecord | RunRecord:
    """Train, and say what came of it; a loss that is not finite is an outcome like any other."""
    job = work.job()
    began, cpu = time.perf_counter(), time.process_time()
    try:
        found = tried(job, work.device) if work.trial is not None else assessed(job, work.device)
    except DivergedError:
        found = None
    cost = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
    rounded = {name: round(seconds, 3) for name, seconds in cost.items()}
    if work.trial is not None:
        trial = found.trial if isinstance(found, Assessment) else found
        return _trial_record(work, trial, rounded)
    return _run_record(work, job, found if isinstance(found, Assessment) else None, rounded)


def _trial_record(work: Work, found: Trial | None, cost: dict[str, float]) -> TrialRecord:
    assert work.trial is not None  # noqa: S101  asked above
    common = {"entry": work.entry, "number": work.trial, "settings": work.settings, **cost}
    if found is None:
        return TrialRecord.model_validate({**common, "value": None, "steps": work.steps})
    facts = {"measure": found.measure, "value": _score(found), "best_step": found.best_step, "steps": found.steps}
    return TrialRecord.model_validate({**common, **facts})


def _run_record(work: Work, job: Job, found: Assessment | None, cost: dict[str, float]) -> RunRecord:
    common = {
        "entry": work.entry,
        "seed": work.seed,
        "settings": work.settings,
        "batch": job.sampler.batch_size,
        **cost,
    }
    if found is None:
        return RunRecord.model_validate({**common, "value": None, "steps": work.steps})
    trial, result = found.trial, found.result
    measure = measure_of(result, trial.measure)
    sums, sizes = _by_unit(result, measure)
    is_open = result.settings.get("resample") == "classes" and found.protocol not in ("pairs", "views")
    evaluations = [event for event in trial.events if event["kind"] == "evaluation"]
    facts = {
        "measure": trial.measure,
        "tested_by": measure,
        "value": _score(trial),
        "best_step": trial.best_step,
        "steps": trial.steps,
        "curve": [
            (event["step"], event["values"][trial.measure]["value"])
            for event in evaluations
            if trial.measure in event["values"]
        ],
        "protocol": found.protocol,
        "unit": "classes" if is_open else "examples",
        "sums": sums,
        "sizes": sizes,
        "units": hashlib.sha256(repr((result.queries.tolist(), result.units.tolist())).encode()).hexdigest()[:16],
        "raw_sums": [] if found.raw is None or measure not in found.raw.per_query else _by_unit(found.raw, measure)[0],
        "values": {name: value if math.isfinite(value) else None for name, value in result.values.items()},
    }
    return RunRecord.model_validate({**common, **facts})


def measure_of(result: QueryResult, selected_by: str) -> str:
    """What the test examples are compared by: what selected the best step, or else a measure that is a mean over them.

    A correlation over pairs of examples is none; the mean quality of each example's neighbours takes its place.
    """
    if selected_by in result.per_query:
        return selected_by
    return next(name for name in reversed([*result.per_query]) if name.startswith("ndcg@"))


def _score(found: Trial) -> float | None:
    value = found.result.values[found.measure]
    return value if math.isfinite(value) else None


def _by_unit(result: QueryResult, measure: str) -> tuple[list[float], list[int]]:
    """Sum of a measure over the queries of each unit, and how many they are."""
    values = result.per_query[measure].double()
    _, codes = torch.unique(result.units, return_inverse=True)
    sums = torch.zeros(int(codes.max()) + 1, dtype=torch.float64).index_add_(0, codes, values)
    return [round(one, 12) for one in sums.tolist()], codes.bincount().tolist()
