"""Trains what docs/results.md reports and writes that page: `make results`, or `make results ROW=NAME` for one row.

`rows.toml` says what there is; every training is a recipe in `recipes`, run once per seed.
Runs stay in `.cache/results`: a whole run of the same recipe is not repeated, an interrupted one goes on.
`--missing` leaves out what the table has already, also where its run is gone: `make results ROW="--missing NAME"`.
Rows `compare-...` are those of `comparisons.toml`; they write docs/comparison.md and are run by name alone.
"""

import csv
import json
import platform
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import comparing
import numpy as np
import torch
from fetch import DATA, ROOT, fetch
from page import PAGE, page, tried

import tuplet.training
from tuplet.app.cli.follow import follow
from tuplet.app.evaluating import evaluate_on
from tuplet.data import read_corpus, read_manifest
from tuplet.evaluation import Result, knn
from tuplet.evaluation.words import word_similarity
from tuplet.recipes import build, load_recipe
from tuplet.recipes.dump import dump_recipe
from tuplet.results import Estimates, Evaluation

HERE = Path(__file__).parent
TABLE = HERE / "results.csv"
ROWS = HERE / "rows.toml"
RUNS = ROOT / ".cache" / "results"
SEEDS = (0, 1, 2)
COLUMNS = ("row", "training", "seed", "measure", "beside", "value", "low", "high", "minutes", "machine")
Line = dict[str, str]


def trainings(row: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Name, recipe and overrides of every training of a row but for its seed."""
    for recipe in row["recipes"]:
        for source in row.get("sources", [""]):
            path = DATA / source
            yield (f"{recipe} {source}", recipe, [f"data.source={path}"]) if source else (recipe, recipe, [])


def train(name: str, recipe: str, overrides: Sequence[str]) -> tuple[Path, bool]:
    """The folder of a whole run of a recipe, and whether it was trained just now."""
    requested, folder = load_recipe(HERE / "recipes" / f"{recipe}.toml", [*overrides, f"name={name}"]), RUNS / name
    if folder.exists() and not same(load_recipe(folder / "recipe.toml"), requested):
        raise SystemExit(f"{folder} holds a run of another recipe; remove it to train {recipe} again.")
    is_new = not (folder / "evaluation.json").exists()
    if is_new:
        job = build(requested, cache=RUNS / ".cache")
        follow(tuplet.training.run(job, folder, resume=folder.exists()), steps=job.settings.steps)
    return folder, is_new


def same(done: Any, requested: Any) -> bool:
    """Whether a run was made by a recipe; where that counts epochs, the run also knows the steps."""
    if requested.train.epochs:
        train = requested.train.model_copy(update={"steps": done.train.steps})
        requested = requested.model_copy(update={"train": train})
    return dump_recipe(done) == dump_recipe(requested)


def measured(folder: Path, row: Mapping[str, Any]) -> Iterator[Line]:
    """What a run is worth by each measure of its row, beside the raw input or what else the row names."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    seconds = sum(
        event["seconds"]
        for event, following in zip(events, [*events[1:], {"seconds": 0}], strict=True)
        if following["seconds"] < event["seconds"]
    )  # the clock starts again where a run was resumed
    evaluations = {"": Evaluation.read(folder, remedy="")}
    for label, place in row["measures"].items():
        protocol, _, measure = place.partition("/")
        source, _, protocol = protocol.rpartition(":")
        if source not in evaluations:
            evaluations[source] = evaluate_on(folder, DATA / source)
        found = evaluations[source].protocols[protocol]
        beside = row.get("beside", "raw")
        scores = None if beside == "Euclid" else getattr(found, beside)
        raw = euclid(folder) if beside == "Euclid" else scores and scores.values.get(measure)
        yield line_of(label, raw, found.model, measure, seconds)


def line_of(label: str, raw: float | None, found: Estimates | Result, measure: str, seconds: float) -> Line:
    """A measure as the table holds it."""
    value, low, high = (ends.get(measure) for ends in (found.values, found.lower, found.upper))
    numbers = ("" if number is None else f"{number:.4f}" for number in (raw, value, low, high))
    return dict(zip(COLUMNS[3:9], (label, *numbers, f"{seconds / 60:.1f}"), strict=True))


def euclid(folder: Path) -> float:
    """1-NN by Euclidean distance between the series of a run, each of mean 0 and deviation 1, filled up with zeros."""
    manifest = read_manifest(load_recipe(folder / "recipe.toml").data.source)
    rows = []
    for series in manifest.items:
        centred = np.asarray(series, np.float64) - np.mean(series, axis=1, keepdims=True)
        rows.append(centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-9))
    length = max(row.shape[1] for row in rows)
    filled = np.stack([np.pad(row, ((0, 0), (0, length - row.shape[1]))).ravel() for row in rows])
    is_train = np.array([split == "train" for split in manifest.splits or ()])
    parts = (
        (torch.from_numpy(filled[side]), torch.from_numpy(manifest.labels[side])) for side in (~is_train, is_train)
    )
    (asked, mine), (given, theirs) = parts
    found = knn(asked, mine, given, theirs, neighbours=1, geometry="euclidean", bootstrap=0)
    return found.values["accuracy"]


def gensim(seed: int) -> Iterator[Line]:
    """Word vectors by gensim on the same texts with the same settings."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import bench_words  # noqa: PLC0415  # the baseline is optional

    corpus = read_corpus(sorted((DATA / "words").glob("*.txt")), cache=RUNS / ".cache")
    begin = time.monotonic()
    words, vectors = bench_words.baseline(corpus, 4, seed + 1)()
    seconds = time.monotonic() - begin
    for label, file in (("WordSim-353", "wordsim353.tsv"), ("SimLex-999", "simlex999.txt")):
        found = word_similarity(words, vectors, DATA / file)
        yield line_of(label, None, found, "spearman", seconds)


def run(name: str, row: Mapping[str, Any], *, missing: bool) -> None:
    """Train a row, seed by seed; each training is in the table as soon as it is done."""
    for part in row.get("data", ()):
        fetch(part)
    for seed in SEEDS:
        for training, recipe, overrides in trainings(row):
            if missing and is_known(name, training, seed):
                continue
            varied = [f"{key}={seed}" for key in row.get("seeded", ["seed"])]
            folder, is_new = train(f"{training}-{seed}".replace(" ", "-"), recipe, [*overrides, *varied])
            if is_new or not is_known(name, training, seed):
                keep(name, training, seed, measured(folder, row))
        for baseline in row.get("baselines", ()):
            if not is_known(name, baseline, seed):
                keep(name, baseline, seed, {"gensim": gensim}[baseline](seed))


def is_known(row: str, training: str, seed: int) -> bool:
    """Whether the table has lines of a training."""
    return any((line["row"], line["training"], line["seed"]) == (row, training, str(seed)) for line in read())


def keep(row: str, training: str, seed: int, found: Iterator[Line]) -> None:
    """Put a training into the table, in the place of an earlier one, and write the page."""
    mine = {"row": row, "training": training, "seed": str(seed)}
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    fresh = [{**mine, **line, "machine": machine} for line in found]
    lines = [line for line in read() if any(line[key] != value for key, value in mine.items())] + fresh
    order = [(name, one) for name, described in rows().items() for one in named(described)]
    lines.sort(key=lambda line: (order.index((line["row"], line["training"])), int(line["seed"])))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    PAGE.write_text(page(rows(), lines, tried()))


def named(row: Mapping[str, Any]) -> list[str]:
    """Trainings and baselines of a row in the order of its table."""
    return [*(training for training, _, _ in trainings(row)), *row.get("baselines", ())]


def rows() -> dict[str, dict[str, Any]]:
    """What there is to train."""
    return tomllib.loads(ROWS.read_text(encoding="utf-8"))


def read() -> list[Line]:
    """What was measured before."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def main(arguments: Sequence[str]) -> None:
    """Train the wanted rows and write the page."""
    known, missing = rows(), "--missing" in arguments
    requested = [argument for argument in arguments if argument != "--missing"]
    comparisons = comparing.planned()
    unknown = set(requested) - set(known) - set(comparisons)
    if unknown:
        raise SystemExit(f"There is no row {', '.join(sorted(unknown))}. Known: {', '.join([*known, *comparisons])}.")
    for name in requested or known:
        if name in comparisons:
            comparing.run(name)
        else:
            run(name, known[name], missing=missing)
    PAGE.write_text(page(known, read(), tried()))


if __name__ == "__main__":
    main(sys.argv[1:])
