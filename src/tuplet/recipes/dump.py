"""A recipe as TOML: every default filled in, in a fixed order."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tuplet.recipes.schema import BUILT_IN, PATHS, Recipe


def dump_recipe(recipe: Recipe, folder: Path | None = None) -> str:
    """The recipe as TOML, every default filled in, in a fixed order.

    Args:
        recipe: From `load_recipe`.
        folder: Where the text will lie: paths of the data start there, so that both can be moved together.
            By default paths are absolute.
    """
    tables = list(_tables((), recipe))
    data = dict(tables)["data",]
    data["more"] = [{"source": one.source, "weight": one.weight} for one in recipe.data.more]
    if folder is not None:
        for one in data["more"]:
            one["source"] = one["source"] if one["source"] in BUILT_IN else _relative(one["source"], folder)
        data["arrays"] = {name: _relative(file, folder) for name, file in data["arrays"].items()}
        for key in PATHS:
            if data.get(key) is not None and data[key] not in BUILT_IN:
                data[key] = _relative(data[key], folder)
        for place in (("model", "encoder"), ("model", "partner_encoder"), ("train", "augment")):
            component = dict(tables).get(place, {})
            if component.get("folder") not in (None, "none"):
                component["folder"] = _relative(component["folder"], folder)
        objective = dict(tables).get(("objective",), {})
        if objective.get("teacher") not in (None, "none"):
            objective["teacher"] = _relative(objective["teacher"], folder)
        evaluate = dict(tables)["evaluate",]
        evaluate["words"] = [_relative(file, folder) for file in evaluate["words"]]
    return "\n".join(written(path, values) for path, values in tables)


def _relative(path: str, folder: Path) -> str:
    return Path(os.path.relpath(path, folder.resolve())).as_posix()


def _tables(path: tuple[str, ...], section: BaseModel) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """A section, then the sections within it; plain values come first, as TOML wants it."""
    values = {key: getattr(section, key) for key in type(section).model_fields}
    nested = {key: value for key, value in values.items() if isinstance(value, BaseModel)}
    yield path, {key: _plain(section, key, value) for key, value in values.items() if key not in nested}
    for key, value in nested.items():
        yield from _tables((*path, key), value)


def _plain(section: BaseModel, key: str, value: Any) -> Any:
    """None where nothing needs to be said: TOML has no word for it."""
    return "none" if value is None and type(section).model_fields[key].default is not None else value


def written(path: tuple[str, ...], values: Mapping[str, Any]) -> str:
    """One table as TOML, with its heading; what is None is left out."""
    heading = f"[{'.'.join(path)}]\n" if path else ""
    return heading + "".join(f"{key} = {_value(value)}\n" for key, value in values.items() if value is not None)


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case int() | float():
            return repr(value)
        case Mapping():
            return f"{{ {', '.join(f'{_key(key)} = {_value(entry)}' for key, entry in value.items())} }}"
        case _:
            return f"[{', '.join(map(_value, value))}]"


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)
