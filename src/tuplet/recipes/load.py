"""Recipe files: reading, inheriting, overriding."""

import errno
import logging
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from tuplet import losses, models
from tuplet.errors import DataError, RecipeError, ShapeError
from tuplet.foreign import in_file
from tuplet.interop import pml
from tuplet.recipes.check import at, check
from tuplet.recipes.options import SLOTS
from tuplet.recipes.schema import BUILT_IN, PATHS, Recipe
from tuplet.registry import did_you_mean

logger = logging.getLogger(__name__)

Document = dict[str, Any]
PRESETS = resources.files("tuplet.recipes") / "presets"
COMPONENTS = {slot.path for slot in SLOTS}
PLACES = {"model", "folder", "target"}
"""Options of a component that say which model or class it is."""


def load_recipe(source: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and check all of it.

    Paths of its data become absolute: in a file they start at its folder, in an override at the current one.

    Args:
        source: File, or the name of a preset.
        overrides: `section.key=value`, values as in TOML; plain text may stand without quotes.

    Returns:
        The recipe with every default filled in.

    Raises:
        RecipeError: With all mistakes at once: where, what was found, what was expected.
    """
    return complete(read_document(source), overrides, name=Path(source).stem, origin=str(source))


def complete(document: Document, overrides: Sequence[str], *, name: str, origin: str) -> Recipe:
    """The recipe of a document and its overrides.

    Args:
        document: From `read_document`.
        overrides: As for `load_recipe`.
        name: Of the run, if nobody names it.
        origin: Where the document comes from, for messages.
    """
    defaults = {"name": name, "model": {"preprocessing": {"name": "auto"}}}
    return check(_in_own_terms(merged(merged(defaults, document), parsed(overrides))), origin)


def _in_own_terms(document: Document) -> Document:
    """A loss that is named as in pytorch-metric-learning, as what it is here; said once."""
    loss = document.get("loss")
    name = loss.get("name") if isinstance(loss, dict) else None
    if not isinstance(loss, dict) or name not in {*pml.LOSSES, *pml.REFUSED} or name in losses.registry:
        return document
    try:
        became = pml.become(name, **{key: value for key, value in loss.items() if key != "name"})
    except ShapeError as error:
        raise RecipeError(f"loss = {error.message}", hint=error.hint, reference="no-equal") from error
    if became.only_called:
        raise RecipeError(
            f"loss = {name!r} has no equal in a recipe: {became.only_called}.",
            hint=f"Call tuplet.interop.pml.{name} in a loop of your own.",
            reference="no-equal",
        )
    note = f"; {became.note}" if became.note else ""
    logger.warning("loss = %s of pytorch-metric-learning became %s%s.", name, became, note)
    return {**document, "loss": {"name": became.name, **became.options}}


def preset_names() -> list[str]:
    """Names of the recipes that come with tuplet."""
    return sorted(entry.name.removesuffix(".toml") for entry in PRESETS.iterdir() if entry.name.endswith(".toml"))


def preset_text(name: str) -> str:
    """A recipe that comes with tuplet, as it was written, comments included."""
    return (PRESETS / f"{name}.toml").read_text(encoding="utf-8")


def read_document(source: Path | str, heirs: tuple[str, ...] = ()) -> Document:
    """A document with everything it extends; `heirs` are the documents that extend it."""
    is_preset = isinstance(source, str) and source in preset_names()
    path = Path(source)
    origin = str(source) if is_preset else str(path.resolve())
    if origin in heirs:
        raise RecipeError(
            f"{' extends '.join([*heirs, origin])}: that is a circle.",
            hint="Take one `extends` line out.",
            reference="recipe-circle",
        )
    try:
        document = tomllib.loads(preset_text(origin) if is_preset else _text(path))
    except OSError as error:
        raise RecipeError(
            f"There is no recipe, no preset and no data that could be read as {source}: {error.strerror}.",
            hint=did_you_mean(
                str(source),
                [*preset_names(), *beside(path)],
                otherwise="Name a recipe, a folder or a table that is there, or a preset: tuplet train --list",
            ),
            reference="recipe-missing",
        ) from error
    except (ValueError, RecursionError) as error:  # bad TOML, bad UTF-8, and brackets without end
        raise RecipeError(
            f"{origin} is not TOML: {error}.",
            hint='Write key = value, text in "quotes", and sections as [section].',
            reference="recipe-not-toml",
        ) from error
    document = _settled(document, path.parent)
    base = document.pop("extends", None)
    if base is None:
        return document
    if not isinstance(base, str):
        raise RecipeError(
            f"{origin}: extends = {base!r} should be the name of a preset, or the path of a recipe.",
            hint='Write extends = "glyphs", or extends = "other.toml".',
            reference="recipe-missing",
        )
    below = base if base in preset_names() else path.parent / base
    return merged(read_document(below, (*heirs, origin)), document)


def _text(path: Path) -> str:
    """The text of a recipe; anything but a regular file, a pipe say, could keep its reader waiting.

    Raises:
        OSError: If it is none, or cannot be read.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return path.read_text(encoding="utf-8")


def beside(path: Path) -> list[str]:
    """What the name of a file that is not there may have meant."""
    with suppress(OSError):
        return sorted(str(path.parent / entry.name) for entry in path.parent.iterdir() if entry.name[0] != ".")
    return []


def parsed(overrides: Sequence[str]) -> Document:
    """`["loss.margin=0.4"]` as a document."""
    document: Document = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        path = name.strip().split(".")
        if not equals or not all(path):
            raise RecipeError(
                f"The override {override!r} does not say section.key=value.",
                hint="For example: --set loss.margin=0.4 --set train.steps=500",
                reference="bad-override",
            )
        entry: Any = _value(text.strip())
        if tuple(path) in COMPONENTS and isinstance(entry, dict) and "name" in entry:
            _forget(document, path)  # a whole component says all there is to say of it
        for key in reversed(path):
            entry = {key: entry}
        document = merged(document, _settled(entry, Path.cwd()))
    return document


def _forget(document: Document, path: Sequence[str]) -> None:
    """Take out what a document says at a place."""
    table = at(document, tuple(path[:-1]))
    if isinstance(table, dict):
        table.pop(path[-1], None)


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return parsed["value"] if len(parsed) == 1 else text


def merged(base: Document, over: Document, path: tuple[str, ...] = ()) -> Document:
    """`over` on top of `base`; a component takes nothing from one of another name."""
    if path in COMPONENTS and "name" in base and over.get("name", base["name"]) != base["name"]:
        return over
    result = dict(base)
    if path in COMPONENTS and over.keys() & PLACES:  # another model or class: nothing stays of where this one was
        result = {key: value for key, value in base.items() if key not in PLACES}
    if path == ("model",) and _is_pretrained(over.get("encoder")) and "preprocessing" in base:
        result["preprocessing"] = {"name": "auto"}  # its own: what another encoder was given does not suit it
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = merged(below, value, (*path, key))
        else:
            result[key] = value
    return result


def _spelled_out(name: str, key: str, folder: Path) -> Document:
    """What a component of another name than a registered one says: a class in a file, or a pretrained model."""
    if (key.endswith("encoder") or key == "augment") and (known := in_file(name, folder)):
        return {"name": "callable", **known}
    if key.endswith("encoder") and name not in models.registry and (known := models.named_model(name, folder)):
        return {"name": "pretrained", **known}
    return {}


def _is_pretrained(encoder: Any) -> bool:
    return isinstance(encoder, dict) and encoder.get("name") == "pretrained"


def _settled(document: Document, folder: Path) -> Document:
    """The same with paths made absolute, and components that are only named spelled out as tables."""
    for *parents, key in COMPONENTS:
        table = at(document, tuple(parents))
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = None if table[key] == "none" else {"name": table[key]}
        component = at(document, (*parents, key))
        if not isinstance(component, dict):
            continue
        component |= _spelled_out(str(component.get("name")), key, folder)
        if (
            isinstance(component.get("folder"), str) and component["folder"] != "none"
        ):  # of a pretrained encoder, or a class
            component["folder"] = _absolute(component["folder"], folder)
    _settle_data(document.get("data"), folder)
    objective = document.get("objective")
    if isinstance(objective, dict) and objective.get("teacher") is not None:
        objective["teacher"] = None if objective["teacher"] == "none" else _absolute(objective["teacher"], folder)
    evaluate = document.get("evaluate")
    if isinstance(evaluate, dict) and isinstance(evaluate.get("words"), list):
        evaluate["words"] = [_absolute(file, folder) for file in evaluate["words"]]
    return document


def _settle_data(data: Any, folder: Path) -> None:
    """Make the paths of the data absolute, those of further sources too."""
    if not isinstance(data, dict):
        return
    for key in PATHS:
        if isinstance(data.get(key), str) and data[key] not in BUILT_IN:
            data[key] = _absolute(data[key], folder)
    if isinstance(data.get("arrays"), dict):
        data["arrays"] = {name: _absolute(file, folder) for name, file in data["arrays"].items()}
    for one in data["more"] if isinstance(data.get("more"), list) else ():
        if isinstance(one, dict) and one.get("source") not in BUILT_IN:
            one["source"] = _absolute(one.get("source"), folder)


def _absolute(path: Any, folder: Path) -> Any:
    if isinstance(path, str) and "\0" in path:
        raise DataError(
            f"{path!r}: no such file or folder: a path holds no zero character.",
            hint="Correct the path in the recipe.",
            reference="missing-file",
        )
    return str((folder / Path(path).expanduser()).resolve()) if isinstance(path, str) else path
