"""How many wrong labels `tuplet audit` puts first: 5 % of the labels of the glyphs are flipped before it looks.

Run `python results/audit.py [FOLDS]`; it trains the recipe `glyphs` twice, which takes 20 minutes of one core.
The glyphs are drawn from the fonts of matplotlib, nothing is fetched. `results/audit.csv` holds what was found, a line
for each number of folds, and docs/guides/use.md quotes it.
"""

import csv
import platform
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tuplet.app.auditing import label_issues_by_folds
from tuplet.recipes import Reader, load_recipe

TABLE = Path(__file__).parent / "audit.csv"
COLUMNS = ("folds", "seed", "glyphs", "classes", "flipped", "found", "suggested", "minutes", "machine")
SEED, SHARE = 0, 0.05


def main(folds: int, recipe_name: str = "glyphs", overrides: tuple[str, ...] = ()) -> dict[str, str]:
    """Flip, look, count; a line of the table."""
    recipe, begin = load_recipe(recipe_name, list(overrides)), time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        reader = Reader(Path(cache))
        manifest = reader.manifest(recipe.data)
        assert manifest.labels is not None  # noqa: S101  glyphs have classes
        random, labels = np.random.default_rng(SEED), manifest.labels.copy()
        flipped = random.choice(len(labels), round(SHARE * len(labels)), replace=False)
        classes = len(manifest.class_names)
        labels[flipped] = (labels[flipped] + random.integers(1, classes, len(flipped))) % classes
        spoilt = replace(manifest, labels=labels)
        issues = label_issues_by_folds(recipe, spoilt, reader, folds, "cpu", trust=False, progress=print)
    first = issues.evidence.argsort(descending=True)[: len(flipped)].numpy()
    found = np.isin(first, flipped)
    right = issues.suggested.numpy()[first[found]] == manifest.labels[first[found]]
    counts = (folds, SEED, len(labels), classes, len(flipped), found.sum(), right.sum())
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    values = (*map(str, counts), f"{(time.monotonic() - begin) / 60:.1f}", machine)
    return dict(zip(COLUMNS, values, strict=True))


def said(line: dict[str, str]) -> str:
    """What the guide says of a line."""
    glyphs, classes, flipped, found, suggested = (int(line[name]) for name in COLUMNS[2:7])
    return (
        f"With {SHARE:.0%} of the labels of the {glyphs:,} glyphs flipped ({classes:,} classes, one seed), {found:,} "
        f"of the first {flipped:,} findings are flipped ones, where chance finds {flipped * SHARE:.0f}; "
        f"for {suggested / found:.0%} of them the true class is suggested."
    ).replace("%", " %")


def read() -> list[dict[str, str]]:
    """The lines of the table."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write(line: dict[str, str]) -> None:
    """The table with this line in the place of the one of as many folds."""
    others = [other for other in read() if other["folds"] != line["folds"]]
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(sorted([*others, line], key=lambda one: int(one["folds"])))


if __name__ == "__main__":
    found_now = main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    write(found_now)
    print(said(found_now))
