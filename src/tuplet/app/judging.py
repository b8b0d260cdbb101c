"""A trained model on data that it was not made for."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from tuplet.data import load_dataset, read_manifest
from tuplet.errors import DataError
from tuplet.models import Embedder
from tuplet.recipes import load_recipe
from tuplet.storage import read_json
from tuplet.training.baseline import Baseline
from tuplet.training.judge import as_json, judged_by, judges_for
from tuplet.training.looks import ModelLook

logger = logging.getLogger(__name__)


def judge_on(run: Path, source: Path, *, skip_broken: bool = False, trust: bool = False) -> dict[str, Any]:
    """Judge the model of a run on other data.

    Args:
        run: Folder of the run; its recipe says how to judge.
        source: Folder, table or array.
        skip_broken: Leave out the images of a folder that cannot be decoded.
        trust: Import what an encoder `callable` names.

    Returns:
        What `evaluation.json` would say.

    Raises:
        DataError: If the data cannot be read, or has no classes, targets or pairs.
    """
    embedder = Embedder.load(run / "model", trust=trust)
    recipe = load_recipe(run / "recipe.toml")
    manifest = read_manifest(
        source,
        kind=embedder.preprocessing.kind,
        columns=embedder.columns,
        as_trained=True,
        skip_broken=skip_broken,
    )
    for note in manifest.notes:
        logger.warning("%s", note)
    partner = embedder.side("partner").preprocessing
    dataset = load_dataset(manifest, embedder.preprocessing, partner_preprocessing=partner)
    judges = judges_for(dataset, recipe.evaluate)
    if not judges:
        raise DataError(
            f"{source} has no classes, so there is nothing to judge by.",
            hint="Use one folder per class, a column `label`, or a file NAME.labels.npy beside NAME.npy. Targets and "
            "pairs will do as well.",
            reference="no-labels",
        )
    verdict = run / "evaluation.json"
    known = read_json(verdict, version=1, error=DataError, remedy="") if verdict.is_file() else {}
    raw = Baseline.look_of(known.get("raw"))
    model = ModelLook(embedder, recipe.evaluate.batch_size)
    sights = [{"raw": judge.see(raw), "model": judge.see(model)} for judge in judges]
    judged = judged_by(judges, sights, recipe.evaluate, recipe.seed)
    labels = () if manifest.labels is None else np.unique(manifest.labels[manifest.labels >= 0])
    counts = {"examples": len(manifest), "classes": len(labels)}
    return {
        "format": 1,
        "name": recipe.name,
        "seed": recipe.seed,
        "split": "given",
        "geometry": embedder.geometry,
        "data": {"source": manifest.source, "kind": manifest.kind, "by": "given", "splits": {"given": counts}}
        | ({"columns": manifest.roles()} if manifest.columns else {}),
        "main": {"protocol": judges[0].name, "measure": judges[0].headline},
        "protocols": as_json(judged, recipe.evaluate, recipe.seed),
    }
