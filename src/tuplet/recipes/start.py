"""Weights of an earlier run, for a new one to start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tuplet.errors import CheckpointError, RecipeError
from tuplet.models import Embedder
from tuplet.training import checkpoint


def load_start(embedder: Embedder, run: Path) -> dict[str, Any]:
    """Give an embedder the best weights that a run has saved; its preprocessing stays that of the new data.

    Args:
        embedder: Of the new run; changed in place.
        run: Folder of the earlier one, which need not have come to its end.

    Returns:
        Name of the run, and the step of its weights.

    Raises:
        CheckpointError: If the run has saved nothing that can be read.
        RecipeError: If the weights are those of another network.
    """
    found = _best(run / "checkpoints")
    tensors: Mapping[str, Tensor] = found.tensors.get("averaged", found.tensors["model"])
    mine = embedder.state_dict()
    differ = [name for name in {**tensors, **mine} if _shape(tensors, name) != _shape(mine, name)]
    if differ:
        name = differ[0]
        raise RecipeError(
            f"The weights of {run} are those of another network: {name} is {_shape(tensors, name) or 'not there'}, and "
            f"{_shape(mine, name) or 'not there'} in this recipe.",
            hint=f"Take the recipe of that run, {run}/recipe.toml, and give it inputs of the same size.",
            reference="start-does-not-fit",
        )
    embedder.load_state_dict(dict(tensors))
    return {"run": run.resolve().name, "step": found.progress.step}


def _best(checkpoints: Path) -> checkpoint.Checkpoint:
    """That of the best step, or the latest one that is whole."""
    latest, _ = checkpoint.load_latest(checkpoints)
    if latest is None:
        raise CheckpointError(
            f"There is no checkpoint in {checkpoints}, so no weights to start from.",
            hint="Name a run that has saved one: tuplet runs",
            reference="no-checkpoints",
        )
    if latest.progress.best_step in (0, latest.progress.step):
        return latest
    try:
        return checkpoint.load(checkpoints / checkpoint.name_of(latest.progress.best_step))
    except CheckpointError:
        return latest


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else ""
