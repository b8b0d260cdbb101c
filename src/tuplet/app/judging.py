"""A trained model on data that it was not made for."""

from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import load_dataset, read_manifest
from tuplet.errors import DataError
from tuplet.models import Embedder
from tuplet.recipes import load_recipe
from tuplet.training.judge import protocols


def judge_on(run: Path, source: Path) -> dict[str, Any]:
    """Judge the model of a run on other labelled data.

    Args:
        run: Folder of the run; its recipe says how to judge.
        source: Folder, table or array.

    Returns:
        What `evaluation.json` would say.

    Raises:
        DataError: If the data cannot be read, or has no classes.
    """
    embedder = Embedder.load(run / "model")
    recipe = load_recipe(run / "recipe.toml")
    manifest = read_manifest(source, kind=embedder.preprocessing.kind)
    if manifest.labels is None or not (manifest.labels >= 0).any():
        raise DataError(
            f"{source} has no classes, so there is nothing to judge by.",
            hint="Use one folder per class, a column `label`, or a file NAME.labels.npy beside NAME.npy.",
            reference="no-labels",
        )
    dataset = load_dataset(manifest, embedder.preprocessing, "class")
    embeddings = embedder.embed(dataset, batch_size=recipe.evaluate.batch_size)
    judged = protocols(embeddings, embedder.geometry, dataset, recipe.evaluate, recipe.seed)
    known = manifest.labels[manifest.labels >= 0]
    counts = {"examples": len(manifest), "classes": len(np.unique(known))}
    return {
        "format": 1,
        "name": recipe.name,
        "seed": recipe.seed,
        "split": "given",
        "geometry": embedder.geometry,
        "data": {"source": manifest.source, "kind": manifest.kind, "by": "given", "splits": {"given": counts}},
        "protocols": {name: {of: result.to_dict() for of, result in pair.items()} for name, pair in judged.items()},
    }
