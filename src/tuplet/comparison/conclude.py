"""From finished trainings to what they say: values with intervals, and a sentence for each pair."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import torch

from tuplet.comparison.folder import Folder, Request, RunRecord
from tuplet.comparison.results import ComparisonResult, EntryResult, PairResult, Searched, Seeded, short
from tuplet.errors import DataError, counted
from tuplet.evaluation.pairwise import LEVEL, POWER, Pair, compare_methods, intervals
from tuplet.recipes import load_recipe

Runs = Mapping[str, Sequence[RunRecord]]


def concluded(folder: Folder, request: Request) -> ComparisonResult:
    """What a comparison found, all of whose trainings are finished.

    Args:
        folder: The comparison.
        request: What was asked for.

    Raises:
        DataError: If a training is missing, or fewer than two entries have a result.
    """
    runs = {entry: list(folder.runs(entry, request.seeds).values()) for entry in request.entries}
    whole = [entry for entry, found in runs.items() if all(one.sums for one in found)]
    if any(len(found) < request.seeds for found in runs.values()) or len(whole) < 2:
        raise DataError(
            f"{folder.path}: {len(whole)} of {len(runs)} entries have a result of every seed; two are needed.",
            hint="Trainings that are missing: tuplet compare --resume FOLDER. Losses that were not finite: another "
            "--set train.learning_rate",
            reference="too-few-to-compare",
        )
    sums = torch.tensor([[one.sums for one in runs[entry]] for entry in whole], dtype=torch.float64)
    sizes = torch.tensor(_same(folder, runs, whole).sizes, dtype=torch.float64)
    values = dict(zip(whole, intervals(sums, sizes, seed=request.seed).T.tolist(), strict=True))
    example = runs[whole[0]][0]
    order = sorted(request.entries, key=lambda entry: -values[entry][0] if entry in values else 1.0)
    raw = sum(example.raw_sums) / sum(example.sizes) if example.raw_sums else None
    pairs = compare_methods(sums, sizes, seed=request.seed)
    recipe = load_recipe(folder.recipe(whole[0]))
    return ComparisonResult(
        name=folder.path.name,
        source=Path(recipe.data.source).stem,
        measure=example.tested_by,
        protocol=example.protocol,
        unit=example.unit,
        units=len(example.sizes),
        queries=sum(example.sizes),
        trials=request.trials,
        level=LEVEL,
        raw=raw,
        entries=[_entry(folder, request, entry, runs[entry], values.get(entry)) for entry in order],
        pairs=_pairs(pairs, whole, order, values, example, request.seeds),
        machine=f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}",
    )


def _same(folder: Folder, runs: Runs, whole: Sequence[str]) -> RunRecord:
    """Any run, if all were evaluated on the same test queries by the same measure."""
    found = [one for entry in whole for one in runs[entry]]
    if len({(one.units, one.tested_by, one.protocol, tuple(one.sizes)) for one in found}) > 1:
        raise DataError(
            f"The runs of {folder.path} were not evaluated on the same test examples.",
            hint="Start the comparison anew; data and recipes are not to change while it runs.",
            reference="unpaired-results",
        )
    return found[0]


def _entry(
    folder: Folder, request: Request, name: str, runs: Sequence[RunRecord], value: Sequence[float] | None
) -> EntryResult:
    trials = folder.trials(name)[: request.trials]
    mean, low, high = value if value is not None else (None, None, None)
    return EntryResult(
        name=name,
        loss=request.losses[request.entries.index(name)],
        settings=dict(runs[0].settings),
        value=mean,
        low=low,
        high=high,
        steps=request.steps[name],
        batch=runs[0].batch,
        seconds=round(median(one.cpu_seconds for one in runs), 3),
        trials=[Searched(settings=one.settings, value=one.value) for one in trials],
        seeds=[
            Seeded(
                seed=one.seed,
                value=sum(one.sums) / sum(one.sizes) if one.sums else None,
                validation=one.value,
                values=one.values,
                best_step=one.best_step,
                curve=one.curve,
            )
            for one in runs
        ],
    )


def _pairs(
    pairs: Sequence[Pair],
    whole: Sequence[str],
    order: Sequence[str],
    values: Mapping[str, Sequence[float]],
    example: RunRecord,
    seeds: int,
) -> list[PairResult]:
    """The better one first, in the order of the table."""
    found = []
    for pair in pairs:
        names, is_turned = (whole[pair.first], whole[pair.second]), pair.difference < 0
        first, second = reversed(names) if is_turned else names
        ends = (-pair.high, -pair.low) if is_turned else (pair.low, pair.high)
        conclusion = "better" if pair.conclusion == "worse" else pair.conclusion
        result = PairResult(
            first=first,
            second=second,
            difference=abs(pair.difference),
            low=ends[0],
            high=ends[1],
            p=pair.p,
            corrected=pair.corrected,
            conclusion=conclusion if is_turned else pair.conclusion,
            needs_units=None if pair.needs is None else pair.needs.units,
            needs_seeds=None if pair.needs is None else pair.needs.seeds,
            sentence="",
        )
        text = sentence(result, values[first][0], values[second][0], example, seeds)
        found.append(result.model_copy(update={"sentence": text}))
    return sorted(found, key=lambda one: (order.index(one.first), order.index(one.second)))


def sentence(pair: PairResult, first: float, second: float, example: RunRecord, seeds: int) -> str:
    """What a pair says, in words.

    Args:
        pair: The better one first.
        first: Value of the first.
        second: Value of the second.
        example: Any run.
        seeds: Trainings of each entry.
    """
    names = short(pair.first), short(pair.second)
    numbers = (
        f"{first:.3f} against {second:.3f}, a difference of {pair.difference:.3f} [{pair.low:.3f}, {pair.high:.3f}]"
    )
    if pair.conclusion == "better":
        return f"{names[0]} is better than {names[1]}: {numbers}, p = {pair.corrected:.2g} after correction."
    text = f"{names[0]} and {names[1]} are undecided: {numbers}."
    there = len(example.sizes)
    if pair.needs_units is None or pair.needs_seeds is None:
        return f"{text} They do the same as far as can be seen."
    noun = "test classes" if example.unit == "classes" else "test examples"
    more = f" and {counted(pair.needs_seeds, 'seed', 'seeds')} (here {seeds})" if pair.needs_seeds > seeds else ""
    return (
        f"{text} If it is real, about {pair.needs_units:,} {noun} (here {there:,}){more} would show it in {POWER:.0%} "
        f"of experiments."
    )
