"""Whether encoder and augmentation suit what the loss learns from."""

from torch import nn

from tuplet.data import Dataset, augment
from tuplet.errors import RecipeError
from tuplet.models import Embedder
from tuplet.recipes.schema import Recipe
from tuplet.training import Task


def check_views(recipe: Recipe, train: Dataset, embedder: Embedder, task: Task) -> None:
    """Refuse what would learn nothing, or fail at the first step.

    Raises:
        RecipeError: If the augmentation is for another kind of data, two views of an example would be one and the same,
            or the loss predicts along series and the encoder has no contexts.
    """
    if recipe.train.augment is not None:
        _require_kind(recipe.train.augment.name, embedder)
    elif task.supervision == "pair" and train.partners is None and not _is_random(embedder.encoder):
        raise RecipeError(
            f"loss = {recipe.loss.name!r} learns from two views of each example, and without an augmentation they are "
            "the same.",
            hint=f"Use --set train.augment={_augmentations(embedder)[0]}, or give the data a column `pair`; if it "
            "has classes, --set batch.name=per-class makes pairs of the examples of each.",
            reference="two-equal-views",
        )
    if task.supervision == "none" and not hasattr(embedder.encoder, "unroll"):
        raise RecipeError(
            f"loss = {recipe.loss.name!r} predicts along series; the encoder {recipe.model.encoder.name!r} gives no "
            "contexts.",
            hint="Type --set model.encoder=series-context, with data of the kind series.",
            reference="encoder-without-contexts",
        )


def _require_kind(name: str, embedder: Embedder) -> None:
    known = _augmentations(embedder)
    if name not in known:
        raise RecipeError(
            f"train.augment = {name!r} does not change data of the kind {embedder.preprocessing.kind}.",
            hint=f"Type --set train.augment={' or '.join([*known, 'none'])}.",
            reference="wrong-augmentation",
        )


def _augmentations(embedder: Embedder) -> list[str]:
    """Names of the augmentations for the kind of the data, the most usual one first."""
    kind = embedder.preprocessing.kind
    known = [name for name in augment.registry if kind in getattr(augment.registry[name], "kinds", ())]
    return sorted(known, key=lambda name: name == "noise" and kind != "vector")


def _is_random(encoder: nn.Module) -> bool:
    """Whether an encoder in training gives the same input different embeddings."""
    return any(isinstance(part, nn.Dropout) and part.p > 0 for part in encoder.modules())
