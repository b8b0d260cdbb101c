"""Compares settings on validation examples, and writes docs/defaults.md: `python results/defaults.py [KIND ...]`.

`defaults.toml` says which data sets and which settings. Every training starts from the recipe that `tuplet init`
proposes for the data, and is judged on validation examples alone: test examples take no part in any choice.
What `defaults.csv` holds already is not trained again.
"""

import csv
import platform
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fetch import DATA, ROOT, fetch

from tuplet.recipes import build, recipe_for
from tuplet.training import tried

HERE = Path(__file__).parent
TABLE = HERE / "defaults.csv"
PLAN = HERE / "defaults.toml"
CACHE = ROOT / ".cache" / "results" / ".cache"
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


def main(kinds: Sequence[str]) -> None:
    """Train what is missing."""
    for name in ("tables", "emoji", "fashion-mnist", "series"):
        fetch(name)
    for key, source, changes in wanted(kinds):
        if not any(all(line[name] == value for name, value in key.items()) for line in read()):
            line = key | measured(source, changes, int(key["seed"]))
            keep(line)
            print(" ".join(line[name] for name in COLUMNS[:-1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
