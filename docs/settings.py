"""The page of all settings of a recipe, read from the models that check recipes."""

import ast
import inspect
import itertools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel

from tuplet.recipes.options import SLOTS, Slot, constructor, schema_of
from tuplet.recipes.schema import Component, Recipe

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
INTRODUCTION = """# Settings

What a recipe may say. A recipe is a TOML file; `--set section.key=value` overrides one setting,
`extends = "glyphs"` starts from a preset or from another recipe.
A component (loss, encoder, …) is a table with a `name` and the options of that name.
"""


def page() -> str:
    """Sections first, then the components that can stand in them."""
    parts = [INTRODUCTION, *_section("", Recipe)]
    entry: dict[str, str] = {}
    for slot in SLOTS:
        place = ".".join(slot.path)
        if slot.kind in entry:
            parts.append(f"## {place}\n\nThe same as of `{entry[slot.kind]}`.\n")
            continue
        entry[slot.kind] = place
        parts.append(f"## {place}\n\nOne of:\n")
        parts += [_component(slot, name) for name in slot.names]
    return "\n".join(parts)


def _section(path: str, model: type[BaseModel]) -> Iterator[str]:
    nested = {key: kind for key, kind in _kinds(model).items() if not issubclass(kind, Component)}
    if path:
        yield f"## {path}\n"
    yield _table(model, _notes(model), leave_out=nested)
    for key, kind in nested.items():
        yield from _section(f"{path}.{key}".lstrip("."), kind)


def _kinds(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The sections within a section, those that may be absent among them."""
    kinds = {key: _class(field.annotation) for key, field in model.model_fields.items()}
    return {key: kind for key, kind in kinds.items() if inspect.isclass(kind) and issubclass(kind, BaseModel)}


def _class(annotation: Any) -> Any:
    """The class of an annotation that may be None besides."""
    return next((one for one in get_args(annotation) if one is not type(None)), annotation)


def _component(slot: Slot, name: str) -> str:
    built, model = constructor(slot, name), schema_of(slot, name)
    summary, notes = _arguments(built)
    table = _table(model, notes, leave_out={"name": None})
    return f'### {slot.kind} "{name}"\n\n{summary}\n\n{table}'


def _table(model: type[BaseModel], notes: Mapping[str, str], leave_out: Mapping[str, Any]) -> str:
    schema = model.model_json_schema(by_alias=False)
    rows = [
        f"| `{key}` | {_kind(entry, schema.get('$defs', {}))} | {_default(entry)} | {notes.get(key, '')} |"
        for key, entry in schema["properties"].items()
        if key not in leave_out
    ]
    return "\n".join(["| setting | type | default | meaning |", "| --- | --- | --- | --- |", *rows, ""]) if rows else ""


def _kind(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in entry:
        referred = entry["$ref"].rpartition("/")[2]
        return "component" if referred == "Component" else _kind(definitions[referred], definitions)
    if "anyOf" in entry:
        return " or ".join(dict.fromkeys(_kind(part, definitions) for part in entry["anyOf"]))
    if "enum" in entry or "const" in entry:
        return ", ".join(f"`{json.dumps(choice)}`" for choice in entry.get("enum", [entry.get("const")]))
    if entry.get("type") == "array":
        inner = entry.get("items") or next(iter(entry.get("prefixItems", [])), {})
        return f"list of {_kind(inner, definitions)}"
    words = {"null": '`"none"`', "integer": "whole number", "boolean": "true or false", "string": "text"}
    bounds = [f"{sign} {entry[key]:g}" for key, sign in BOUNDS.items() if key in entry]
    return " ".join([words.get(entry.get("type", ""), entry.get("type", "any")), ", ".join(bounds)]).strip()


def _default(entry: Mapping[str, Any]) -> str:
    if "default" not in entry:
        return "–"
    return '`"none"`' if entry["default"] is None else f"`{json.dumps(entry['default'])}`"


def _notes(model: type[BaseModel]) -> dict[str, str]:
    """The strings that stand below the settings of a section, its parents' included."""
    notes: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0].body
            for line, below in itertools.pairwise(body):
                if (
                    isinstance(line, ast.AnnAssign)
                    and isinstance(below, ast.Expr)
                    and isinstance(below.value, ast.Constant)
                ):
                    notes[line.target.id] = " ".join(below.value.value.split())
    return notes


def _arguments(built: Any) -> tuple[str, dict[str, str]]:
    """Summary and arguments of a docstring in Google form."""
    text = inspect.getdoc(built) or ""
    arguments = re.search(r"^(?:Args|Attributes):\n((?: +.*\n|\n)*)", text + "\n", re.MULTILINE)
    return text.partition("\n")[0], entries(arguments[1] if arguments else "")


def entries(listed: str) -> dict[str, str]:
    """What stands under `Args:`, by name."""
    parts = re.split(r"^ {4}(?=\w)", listed, flags=re.MULTILINE)[1:]
    notes = {key.strip(): " ".join(note.split()) for key, _, note in (part.partition(":") for part in parts)}
    return {name: note for key, note in notes.items() for name in re.split(r",\s*", key)}
