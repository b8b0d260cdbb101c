"""What a recipe may say: sections, components, and their options as derived from constructors."""

from pydantic import BaseModel


class Recipe(BaseModel):
    """One training, described: `name seed data model loss batch train evaluate`."""
