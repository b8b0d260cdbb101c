"""Recipe files: reading, inheriting, overriding, writing."""

from collections.abc import Sequence
from pathlib import Path

from tuplet.recipes.schema import Recipe


def load_recipe(source: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check all of it.

    Args:
        source: File, or the name of a preset.
        overrides: `section.key=value`, values as in TOML; text may stand without quotes.

    Returns:
        The recipe with every default filled in; relative paths of its data start at the recipe's folder.

    Raises:
        RecipeError: With all mistakes at once: where, what was found, what was expected.
    """
    raise NotImplementedError


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as TOML, every default filled in, in a fixed order."""
    raise NotImplementedError


def preset_names() -> list[str]:
    """Names of the recipes that come with tuplet."""
    raise NotImplementedError
