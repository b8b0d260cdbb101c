"""What mirroring pictures does to validation, reported beside the proposal that leaves it out."""

from pathlib import Path

from tuplet.errors import DataError, RecipeError
from tuplet.evaluation import Comparison, compare
from tuplet.recipes.build import build
from tuplet.recipes.propose import Proposal
from tuplet.recipes.schema import Recipe
from tuplet.training import Trial, tried

STEPS = 100
"""Steps of each of the two trainings that are compared."""
MOST = 5000
"""Images beyond which decoding them takes too long to be done on the side."""
HEADING = ("train", "augment")


def tell_mirroring(made: Proposal, cache: Path) -> Comparison | None:
    """Train for some steps without and with mirroring, and add to the reasons what validation says of it.

    The proposal itself stays as it is: whether a mirrored picture is of the same class is for its owner to say.

    Args:
        made: Of images; the effect is added to its reasons.
        cache: As for `build`.

    Returns:
        With mirroring minus without; None where it is not measured: no images with classes, mirroring asked for, no
        augmentation, too many images, or no validation examples that could tell.
    """
    recipe = made.recipe
    augment = recipe.train.augment
    is_asked = augment is None or getattr(augment, "flip", True)
    if made.kind != "image" or not made.classes or made.examples > MOST or is_asked:
        return None
    try:
        plain, mirrored = (tried(build(_short(recipe, flip=flip), cache=cache)) for flip in (False, True))
    except (DataError, RecipeError):  # what is wrong with the proposal, training says in its own words
        return None
    found = compare(mirrored.result, plain.result, seed=recipe.seed)
    made.reasons[HEADING] = f"{made.reasons[HEADING]} {_summary(plain, mirrored, found)}"
    return found


def _short(recipe: Recipe, *, flip: bool) -> Recipe:
    """The same training for a few steps, evaluated once."""
    assert recipe.train.augment is not None  # noqa: S101  asked before
    steps = min(STEPS, recipe.train.steps)
    augment = recipe.train.augment.model_copy(update={"flip": flip})
    changes = {"steps": steps, "validate_every": steps, "patience": 0, "tensorboard": False, "augment": augment}
    return recipe.model_copy(update={"train": recipe.train.model_copy(update=changes)})


def _summary(plain: Trial, mirrored: Trial, found: Comparison) -> str:
    name = plain.measure
    without, with_it = plain.result.values[name], mirrored.result.values[name]
    low, high = found.lower[name], found.upper[name]
    if high < 0:
        finding = "it harms"
    elif low > 0:
        finding = "it helps"
    else:
        finding = "it makes no clear difference"
    return (
        f"Measured on {len(plain.result.queries)} validation examples after {plain.steps} steps: {name} {without:.3f} "
        f"without mirroring, {with_it:.3f} with it (difference {found.values[name]:+.3f}, 95 % interval {low:+.3f} to "
        f"{high:+.3f}): {finding}."
    )
