"""From a recipe to the objects it describes."""

from pathlib import Path

from tuplet.recipes.schema import Recipe
from tuplet.training import Job


def build(recipe: Recipe, *, cache: Path) -> Job:
    """Read the data, split it, and make everything the recipe names.

    Args:
        recipe: From `load_recipe`.
        cache: Folder for data sets that are drawn once (the built-in `glyphs`).

    Raises:
        DataError: If the data cannot be read or split as asked.
        RecipeError: If a component refuses its options.
    """
    raise NotImplementedError
