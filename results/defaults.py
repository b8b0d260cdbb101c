"""Compares settings on validation examples, and writes docs/defaults.md: `python results/defaults.py [KIND ...]`.

`defaults.toml` says which data sets and which settings. Every training starts from the recipe that `tuplet init`
proposes for the data, and is evaluated on validation examples alone: test examples take no part in any choice.
What `defaults.csv` holds already is not trained again.
"""

import csv
import platform
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from fetch import DATA, ROOT, fetch
from scipy.stats import t

from tuplet.recipes import build, recipe_for
from tuplet.training import tried

HERE = Path(__file__).parent
TABLE = HERE / "defaults.csv"
PLAN = HERE / "defaults.toml"
CACHE = ROOT / ".cache" / "results" / ".cache"
PAGE = ROOT / "docs" / "defaults.md"
TOP = """<!-- Written by `python results/defaults.py`. -->

# How defaults were chosen

`tuplet init` and `tuplet train DATA` propose settings; this page has the experiments behind them.
Every training starts from the proposed recipe and changes the settings named in its column.
Early stopping is on: training ends after five validations without improvement.
All scores are on validation examples; test examples were not used.
Scores are means over seeds of weights, batches and augmentation; the split is fixed.
Brackets hold the lowest and the highest seed; the best mean is bold.
The last line is the mean gain over the first column, with a 95 % confidence interval over data sets (Student's t).
*Raw* is the raw-input baseline, centred and compared by cosine.
"""
KEYS = ("kind", "set", "choice", "seed")
COLUMNS = (*KEYS, "measure", "raw", "value", "best_step", "steps", "seconds", "machine")
Line = dict[str, str]


def measured(source: Path, changes: Sequence[str], seed: int) -> Line:
    """What one training is worth; its seconds are those of the processor."""
    recipe = recipe_for(source, [*changes, f"seed={seed}"])
    job = build(recipe, cache=CACHE)
    begin = time.process_time()
    found = tried(job)
    seconds = time.process_time() - begin
    raw = "" if found.raw is None else f"{found.raw.values[found.measure]:.4f}"
    return {
        "measure": found.measure,
        "raw": raw,
        "value": f"{found.result.values[found.measure]:.4f}",
        "best_step": str(found.best_step),
        "steps": str(found.steps),
        "seconds": f"{seconds:.1f}",
        "machine": f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}",
    }


def wanted(kinds: Sequence[str]) -> Iterator[tuple[Line, Path, list[str]]]:
    """Every training of some kinds of data; the first seed of everything comes first."""
    plan = planned()
    for kind in kinds or plan:
        for seed in plan[kind]["seeds"]:
            for name in plan[kind]["sets"]:
                for choice in plan[kind]["choices"]:
                    key = {"kind": kind, "set": name, "choice": choice["name"], "seed": str(seed)}
                    changes = [*plan[kind].get("set", []), *choice["set"]]
                    yield key, source_of(name), changes


def source_of(name: str) -> Path:
    """The file that holds a data set, or the series of a folder that train."""
    found = [DATA / f"{name}.csv", DATA / f"{name}.npy", DATA / name]
    return next((path for path in found if path.exists()), found[-1])


def planned() -> dict[str, dict[str, Any]]:
    """What there is to compare."""
    return tomllib.loads(PLAN.read_text(encoding="utf-8"))


def read() -> list[Line]:
    """What was measured before."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def keep(line: Mapping[str, str]) -> None:
    """Add a line to the table."""
    is_new = not TABLE.exists()
    with TABLE.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(line)


def page(plan: Mapping[str, Mapping[str, Any]], lines: Sequence[Line]) -> str:
    """The page: a table for each kind of data that something was measured on."""
    parts = [TOP]
    for kind, described in plan.items():
        found = {
            (line["set"], line["choice"], line["seed"]): line
            for line in lines
            if line["kind"] == kind and line["choice"] in [choice["name"] for choice in described["choices"]]
        }
        if found:
            parts += section(kind, described, found)
    return "\n".join(parts)


def section(kind: str, described: Mapping[str, Any], found: Mapping[tuple[str, str, str], Line]) -> list[str]:
    """Heading, words, a line for each set on which all choices were tried, and what each gains over the first."""
    names = [choice["name"] for choice in described["choices"]]
    head = " | ".join(names)
    parts = [f"## {described['title']}\n", f"{described['text'].strip()}\n"]
    parts += [f"| validation | raw | {head} |", "| --- | --- |" + " --- |" * len(names)]
    gains: dict[str, list[float]] = {name: [] for name in names}
    for one in described["sets"]:
        seeds = [str(seed) for seed in described["seeds"] if all((one, name, str(seed)) in found for name in names)]
        if not seeds:
            continue
        values = {name: [float(found[one, name, seed]["value"]) for seed in seeds] for name in names}
        best = max(names, key=lambda name: fmean(values[name]))
        for name in names:
            gains[name].append(fmean(values[name]) - fmean(values[names[0]]))
        any_line = found[one, names[0], seeds[0]]
        raw = f"{float(any_line['raw']):.3f}" if any_line["raw"] else "–"
        cells = " | ".join(shown(values[name], is_best=name == best) for name in names)
        parts.append(f"| `{one}`, {any_line['measure']}, {counted(len(seeds))} | {raw} | {cells} |")
    if not gains[names[0]]:
        return []
    parts.append(f"| mean gain over the first | | {' | '.join(gain(gains[name]) for name in names)} |\n")
    machines = dict.fromkeys(line["machine"] for line in found.values())
    parts.append(f"`python results/defaults.py {kind}`; {'; '.join(machines)}.\n")
    return parts


def shown(values: Sequence[float], *, is_best: bool) -> str:
    """The mean over seeds, and the least and the greatest in brackets."""
    mean = f"**{fmean(values):.3f}**" if is_best else f"{fmean(values):.3f}"
    return mean if len(values) == 1 else f"{mean}\u00a0[{min(values):.3f},\u00a0{max(values):.3f}]"


def gain(values: Sequence[float]) -> str:
    """The mean over data sets, with its 95 % interval by Student's t."""
    if not any(values):
        return "–"
    mean = fmean(values)
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return f"{mean:+.3f}\u00a0[{mean - half:+.3f},\u00a0{mean + half:+.3f}]"


def counted(seeds: int) -> str:
    """So many seeds, in words."""
    return f"{seeds} seed" + "s" * (seeds > 1)


def main(kinds: Sequence[str]) -> None:
    """Train what is missing."""
    for name in {part for kind in kinds or planned() for part in planned()[kind]["data"]}:
        fetch(name)
    for key, source, changes in wanted(kinds):
        if not any(all(line[name] == value for name, value in key.items()) for line in read()):
            line = key | measured(source, changes, int(key["seed"]))
            keep(line)
            print(" ".join(line[name] for name in COLUMNS[:-1]), flush=True)
    PAGE.write_text(page(planned(), read()))


if __name__ == "__main__":
    main(sys.argv[1:])
