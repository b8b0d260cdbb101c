"""Recipes: what to train on, with and for, as TOML; and the objects they describe."""

from tuplet.recipes.build import build
from tuplet.recipes.data import Reader
from tuplet.recipes.dump import dump_recipe
from tuplet.recipes.load import load_recipe, preset_names, preset_text
from tuplet.recipes.mirroring import tell_mirroring
from tuplet.recipes.model import fetch_models
from tuplet.recipes.plan import Plan, plan
from tuplet.recipes.propose import Proposal, propose, recipe_for
from tuplet.recipes.schema import Recipe

__all__ = [
    "Plan",
    "Proposal",
    "Reader",
    "Recipe",
    "build",
    "dump_recipe",
    "fetch_models",
    "load_recipe",
    "plan",
    "preset_names",
    "preset_text",
    "propose",
    "recipe_for",
    "tell_mirroring",
]
