"""Trains what docs/results.md reports and writes that page: `make results`, or `make results ROW=NAME` for one row.

`rows.toml` says what there is; every training is a recipe in `recipes`, run once per seed through the command line.
Runs stay in `.cache/results`: a whole run of the same recipe is not repeated, an interrupted one goes on.
"""

import csv
import json
import platform
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fetch import DATA, ROOT, fetch
from page import PAGE, page

HERE = Path(__file__).parent
TABLE = HERE / "results.csv"
ROWS = HERE / "rows.toml"
RUNS = ROOT / ".cache" / "results"
SEEDS = (0, 1, 2)
COLUMNS = ("row", "training", "seed", "measure", "raw", "value", "low", "high", "minutes", "machine")
Line = dict[str, str]


def trainings(row: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Name, recipe and overrides of every training of a row but for its seed."""
    for recipe in row["recipes"]:
        for source in row.get("sources", [""]):
            path = DATA / source
            yield (f"{recipe} {source}", recipe, [f"data.source={path}"]) if source else (recipe, recipe, [])


def train(name: str, recipe: str, overrides: Sequence[str]) -> Path:
    """The folder of a whole run of a recipe."""
    from tuplet.recipes import load_recipe  # noqa: PLC0415  # the page alone is written without it

    file, folder = HERE / "recipes" / f"{recipe}.toml", RUNS / name
    if folder.exists():
        wanted = load_recipe(file, [*overrides, f"name={name}"])
        if not (folder / "recipe.toml").exists() or not same(load_recipe(folder / "recipe.toml"), wanted):
            raise SystemExit(f"{folder} holds a run of another recipe; remove it to train {recipe} again.")
    program = Path(sys.executable).with_name("tuplet")
    command: list[str | Path] = [program, "train", file, "--out", RUNS, "--name", name]
    command += [word for change in overrides for word in ("--set", change)]
    if folder.exists():
        command = [program, "train", "--resume", folder]
    if not (folder / "evaluation.json").exists():
        subprocess.run(command, check=True)  # noqa: S603  # our own command
    return folder


def same(done: Any, wanted: Any) -> bool:
    """Whether a run was made by a recipe; where that counts epochs, the run also knows the steps."""
    if wanted.train.epochs:
        train = wanted.train.model_copy(update={"steps": done.train.steps})
        wanted = wanted.model_copy(update={"train": train})
    return done == wanted


def measured(folder: Path, measures: Mapping[str, str]) -> Iterator[Line]:
    """What a run is worth by each wanted measure, beside the raw input where there is one."""
    verdict = json.loads((folder / "evaluation.json").read_text())
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    seconds = sum(
        after["seconds"]
        for after, then in zip(events, [*events[1:], {"seconds": 0}], strict=True)
        if then["seconds"] < after["seconds"]
    )  # the clock starts again where a run was resumed
    for label, place in measures.items():
        protocol, _, measure = place.partition("/")
        judged = verdict["protocols"][protocol]
        model, raw = judged["model"], judged.get("raw", {"values": {}})
        yield {
            "measure": label,
            "raw": number(raw["values"].get(measure)),
            "value": number(model["values"][measure]),
            "low": number(model["lower"].get(measure)),
            "high": number(model["upper"].get(measure)),
            "minutes": f"{seconds / 60:.1f}",
        }


def gensim(seed: int) -> Iterator[Line]:
    """Word vectors by gensim on the same texts with the same settings."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import bench_words  # noqa: PLC0415  # the peer is optional

    from tuplet.data import read_corpus  # noqa: PLC0415
    from tuplet.evaluation.words import word_similarity  # noqa: PLC0415

    corpus = read_corpus(sorted((DATA / "words").glob("*.txt")), cache=RUNS / ".cache")
    begin = time.monotonic()
    words, vectors = bench_words.peer(corpus, 4, seed + 1)()
    minutes = (time.monotonic() - begin) / 60
    for label, file in (("WordSim-353", "wordsim353.tsv"), ("SimLex-999", "simlex999.txt")):
        found = word_similarity(words, vectors, DATA / file)
        yield {
            "measure": label,
            "raw": "",
            "value": number(found.values["spearman"]),
            "low": number(found.lower["spearman"]),
            "high": number(found.upper["spearman"]),
            "minutes": f"{minutes:.1f}",
        }


def number(value: float | None) -> str:
    """As the table holds it."""
    return "" if value is None else f"{value:.4f}"


def run(name: str, row: Mapping[str, Any]) -> None:
    """Train a row, seed by seed; each training is in the table as soon as it is done."""
    for part in row.get("data", ()):
        fetch(part)
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    for seed in SEEDS:
        for training, recipe, overrides in trainings(row):
            varied = [f"{key}={seed}" for key in row.get("seeded", ["seed"])]
            folder = train(f"{training}-{seed}".replace(" ", "-"), recipe, [*overrides, *varied])
            keep(name, training, seed, machine, measured(folder, row["measures"]))
        for peer in row.get("peers", ()):
            if not any(line["training"] == peer and line["seed"] == str(seed) for line in read()):
                keep(name, peer, seed, machine, {"gensim": gensim}[peer](seed))


def keep(row: str, training: str, seed: int, machine: str, found: Iterator[Line]) -> None:
    """Put a training into the table, in the place of an earlier one, and write the page."""
    mine = {"row": row, "training": training, "seed": str(seed)}
    fresh = [{**mine, **line, "machine": machine} for line in found]
    known = read()
    old = [line for line in known if all(line[key] == value for key, value in mine.items())]
    if [{**line, "machine": machine} for line in old] == fresh:
        return  # nothing new, such as another machine that reads the runs of this one
    lines = [line for line in known if line not in old] + fresh
    order = [(name, training) for name, row in rows().items() for training in named(row)]
    lines.sort(key=lambda line: (order.index((line["row"], line["training"])), int(line["seed"])))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    PAGE.write_text(page(rows(), lines))


def named(row: Mapping[str, Any]) -> list[str]:
    """Trainings and peers of a row in the order of its table."""
    return [*(training for training, _, _ in trainings(row)), *row.get("peers", ())]


def rows() -> dict[str, dict[str, Any]]:
    """What there is to train."""
    return tomllib.loads(ROWS.read_text(encoding="utf-8"))


def read() -> list[Line]:
    """What was measured before."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def main(wanted: Sequence[str]) -> None:
    """Train the wanted rows and write the page."""
    known = rows()
    unknown = set(wanted) - set(known)
    if unknown:
        raise SystemExit(f"There is no row {', '.join(sorted(unknown))}. Known: {', '.join(known)}.")
    for name in wanted or known:
        run(name, known[name])
    PAGE.write_text(page(known, read()))


if __name__ == "__main__":
    main(sys.argv[1:])
