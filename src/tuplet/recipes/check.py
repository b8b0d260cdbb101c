"""From a document to a recipe: all mistakes of a file at once."""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError, create_model

from tuplet.errors import RecipeError
from tuplet.recipes.options import SLOT, SLOTS, schema_of
from tuplet.recipes.schema import Component, Model, Recipe, Train
from tuplet.registry import did_you_mean

Path = tuple[str | int, ...]
Narrowed = TypeVar("Narrowed", bound=BaseModel)


def check(document: Mapping[str, Any], origin: str) -> Recipe:
    """The recipe that a document describes.

    Args:
        document: As read from TOML.
        origin: Where it comes from, for messages.

    Raises:
        RecipeError: With all mistakes: where, what was found, what was expected.
    """
    schema, mistakes = _schema_for(document)
    try:
        recipe = schema.model_validate(_frozen(document))
    except ValidationError as error:
        mistakes |= _mistakes(error, document, schema)
    if not mistakes:
        return recipe
    lines = [".".join(map(str, path)) + text for path, text in sorted(mistakes.items(), key=lambda item: str(item[0]))]
    count = "a mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    raise RecipeError(
        f"{origin} has {count}:\n  " + "\n  ".join(lines),
        hint="Correct the recipe, or override a value with `--set section.key=value`.",
        reference="bad-recipe",
    )


def at(document: Any, path: Path) -> Any:
    """What stands at a path of a document; None if nothing does."""
    for key in path:
        if isinstance(document, Mapping):
            document = document.get(key)
        elif isinstance(document, Sequence) and isinstance(key, int) and key < len(document):
            document = document[key]
        else:
            return None
    return document


def _schema_for(document: Mapping[str, Any]) -> tuple[type[Recipe], dict[Path, str]]:
    """The schema of a recipe with the components that this one names, and the names that nobody knows."""
    schemas: dict[Path, Any] = {}
    mistakes: dict[Path, str] = {}
    for slot in SLOTS:
        name = at(document, (*slot.path, "name"))
        schemas[slot.path] = Component
        if isinstance(name, str):
            try:
                schemas[slot.path] = schema_of(slot, name)
            except RecipeError as error:
                schemas[slot.path] = Any
                mistakes[*slot.path, "name"] = f": {error.message} {error.hint}"
    parts = {str(path[1]): schema for path, schema in schemas.items() if path[0] == "model"}
    model = _narrowed(
        Model, **{key: schema | None if key.startswith("partner") else schema for key, schema in parts.items()}
    )
    train = _narrowed(Train, augment=schemas["train", "augment"] | None)
    return _narrowed(Recipe, model=model, loss=schemas["loss",], batch=schemas["batch",], train=train), mistakes


def _narrowed(section: type[Narrowed], **types: Any) -> type[Narrowed]:
    """A section whose components have the options of the constructors that were named; defaults stay."""
    fields: Any = {name: (kind, copy(section.model_fields[name])) for name, kind in types.items()}
    return create_model(section.__name__, __base__=section, **fields)


def _mistakes(error: ValidationError, document: Mapping[str, Any], schema: type[BaseModel]) -> dict[Path, str]:
    """One line per place; the branches of a union that all failed are one mistake."""
    found: dict[Path, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _place(detail["loc"], document, is_missing=detail["type"] == "missing")
        found.setdefault(path, []).append(_expectation(detail, path, schema))
    lines = {}
    for path, expectations in found.items():
        value = at(document, path)
        lines[path] = ("" if value is None else f" = {_shown(value)}") + ": " + " or ".join(dict.fromkeys(expectations))
    return lines


def _place(location: Path, document: Mapping[str, Any], *, is_missing: bool) -> Path:
    """The part of pydantic's location that the document knows; the rest names branches of a union."""
    known = location[:-1] if is_missing else location
    while known and at(document, known) is None:
        known = known[:-1]
    return (*known, location[-1]) if is_missing else known


def _expectation(detail: Any, path: Path, schema: type[BaseModel]) -> str:
    if detail["type"] == "missing":
        return "missing"
    if detail["type"] != "extra_forbidden":
        return detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
    *parents, key = path
    slot = SLOT.get(tuple(map(str, parents)))
    if slot and key in slot.given:
        return "is taken from the data or from another section; delete it"
    return f"unknown. {did_you_mean(str(key), _keys_at(schema, tuple(parents)))}"


def _keys_at(schema: Any, path: Path) -> list[str]:
    for key in path:
        annotation = schema.model_fields[str(key)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        schema = next(option for option in options if isinstance(option, type) and issubclass(option, BaseModel))
    return list(schema.model_fields)


def _frozen(value: Any) -> Any:
    """Lists as tuples, which is what frozen objects hold."""
    if isinstance(value, Mapping):
        return {key: _frozen(entry) for key, entry in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = "a table" if isinstance(value, Mapping) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
