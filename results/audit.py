"""How many wrong labels `tuplet audit` puts first: 5 % of the labels of the glyphs are flipped before it looks.

Run `python results/audit.py [FOLDS]`; two trainings of the recipe `glyphs` take about three minutes on two cores.
It prints precision and recall of the strongest 5 % of all findings, and of as many chosen at random.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from tuplet.app.auditing import label_issues_by_folds
from tuplet.recipes import Reader, load_recipe

SHARE = 0.05


def main(folds: int) -> None:
    """Flip, look, compare."""
    recipe = load_recipe("glyphs")
    with tempfile.TemporaryDirectory() as cache:
        reader = Reader(Path(cache))
        manifest = reader.manifest(recipe.data)
        assert manifest.labels is not None  # noqa: S101  glyphs have classes
        random, labels = np.random.default_rng(0), manifest.labels.copy()
        flipped = random.choice(len(labels), round(SHARE * len(labels)), replace=False)
        classes = len(manifest.class_names)
        labels[flipped] = (labels[flipped] + random.integers(1, classes, len(flipped))) % classes
        spoilt = replace(manifest, labels=labels)
        issues = label_issues_by_folds(recipe, spoilt, reader, folds, "cpu", trust=False, progress=print)
    first = issues.evidence.argsort(descending=True)[: len(flipped)].numpy()
    found = np.isin(first, flipped)
    right = issues.suggested.numpy()[first[found]] == manifest.labels[first[found]]
    print(f"{len(labels):,} glyphs of {classes:,} classes, {len(flipped):,} labels flipped, {folds} folds")
    print(f"first {len(first):,}: precision = recall = {found.mean():.3f}; at random {SHARE:.3f}")
    print(f"of those found, the true class is suggested for {right.mean():.3f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
