"""What is compared: recipes that differ in their loss, and in nothing that would favour one of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuplet.errors import RecipeError
from tuplet.recipes import Recipe

SHARED = ("data", "model", "evaluate")
"""Sections that all entries have in common."""


@dataclass(frozen=True)
class Entry:
    """One of the things compared.

    Args:
        name: Of its files and in tables: that of the loss, or of the recipe.
        recipe: What is trained, before settings are searched for.
    """

    name: str
    recipe: Recipe


def entries_of(recipes: Sequence[Recipe], *, by_loss: bool, steps: int | None) -> list[Entry]:
    """Recipes as entries with one budget.

    Args:
        recipes: Two or more.
        by_loss: Name them by their loss rather than by their own name.
        steps: Of every training; None takes those of the recipes, which have to agree.

    Raises:
        RecipeError: If there are fewer than two, two have one name, or they differ in data, split, encoder, evaluation
            or steps.
    """
    names = [recipe.loss.name if by_loss else recipe.name for recipe in recipes]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise RecipeError(
            f"There is nothing to compare in {', '.join(names) or 'nothing'}: two or more of different names are "
            f"expected.",
            hint="For example: tuplet compare --losses supcon,triplet,proxy_anchor table.csv",
            reference="nothing-to-compare",
        )
    fixed = {"patience": 0, "epochs": 0} | ({} if steps is None else {"steps": steps})
    recipes = [one.model_copy(update={"train": one.train.model_copy(update=fixed)}) for one in recipes]
    first = recipes[0]
    for name, recipe in zip(names[1:], recipes[1:], strict=True):
        if differ := _differences(first, recipe):
            raise RecipeError(
                f"{names[0]} and {name} differ in {', '.join(differ)}; only their losses, batches and rates may.",
                hint="Give all recipes the same data, split, encoder and evaluation, and --steps N.",
                reference="unequal-recipes",
            )
    return [Entry(name, recipe) for name, recipe in zip(names, recipes, strict=True)]


def _differences(one: Recipe, other: Recipe) -> list[str]:
    found = [
        f"{section}.{key}"
        for section in SHARED
        for key, (mine, theirs) in _both(getattr(one, section), getattr(other, section)).items()
        if mine != theirs
    ]
    return found + ["train.steps"] * (one.train.steps != other.train.steps)


def _both(one: Any, other: Any) -> dict[str, tuple[Any, Any]]:
    """Values of two sections by key; components compare by what they say, for each recipe has classes of its own."""
    mine, theirs = one.model_dump(), other.model_dump()
    return {key: (mine.get(key), theirs.get(key)) for key in {**mine, **theirs}}
