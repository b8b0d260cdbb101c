"""Classes that a recipe names and tuplet does not know: imported by name or from a file, if that is trusted."""

import importlib
import importlib.util
import inspect
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuplet.errors import RecipeError

_IN_FILE = re.compile(r"(.+\.py):([^\W\d]\w*)")


def in_file(name: str, folder: Path) -> dict[str, str] | None:
    """The options `target` and `folder` for a name such as `my_net.py:Net`; None for another name.

    Args:
        name: What stands where a component is named.
        folder: Where relative paths start.
    """
    found = _IN_FILE.fullmatch(name)
    if found is None or "\0" in name:
        return None
    path = (folder / Path(found[1]).expanduser()).resolve()
    return {"target": f"{path.name}:{found[2]}", "folder": str(path.parent)}


def refuse_untrusted(kind: str, target: str, folder: str | None) -> RecipeError:
    """Says what would be imported, and from where, without importing anything.

    Args:
        kind: What it is to be: "encoder", "augmentation".
        target: `package.module:Class`, or `file.py:Class`.
        folder: Of the file.
    """
    return RecipeError(
        f"The {kind} 'callable' names code: {target}{place_of(target, folder)}. Importing it runs it.",
        hint="If you trust what lies under that name, add --trust to the command, or trust=True in Python.",
        reference="untrusted-code",
    )


def import_named(kind: str, target: str, folder: str | None) -> Any:
    """What a name stands for; its module is run.

    Args:
        kind: As for `refuse_untrusted`.
        target: The same.
        folder: The same.

    Raises:
        RecipeError: If it cannot be imported.
    """
    module, _, name = target.partition(":")
    try:
        return getattr(_run(Path(folder or ".") / module) if is_file(target) else importlib.import_module(module), name)
    except Exception as problem:  # what their program raises is theirs to choose
        where = "" if not is_file(target) else f" in {Path(folder or '.').resolve()}"
        raise RecipeError(
            f"The {kind} {target!r}{where} cannot be imported: {problem}.",
            hint="Write `file.py:Class`, or `package.module:Class` and start Python where it can be imported.",
            reference="encoder-import",
        ) from problem


def made(kind: str, target: str, constructor: type[Any], options: Mapping[str, Any] | None) -> Any:
    """An object of a class that was imported.

    Raises:
        RecipeError: If it refuses its options.
    """
    try:
        return constructor(**(options or {}))
    except (TypeError, ValueError) as problem:
        raise RecipeError(
            f"The {kind} {target} refuses its options: {problem}.",
            hint=f"Signature: {constructor.__name__}{inspect.signature(constructor)}.",
            reference="refused-option",
        ) from problem


def is_file(target: str) -> bool:
    """Whether a class is named by its file."""
    return _IN_FILE.fullmatch(target) is not None


def copy_file(target: str, folder: str | None, to: Path) -> None:
    """Copy the file that names a class into another folder, made if missing."""
    name = target.partition(":")[0]
    to.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(folder or ".") / name, to / name)


def _run(path: Path) -> Any:
    """The module of a file, run under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"tuplet_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def place_of(target: str, folder: str | None = None) -> str:
    """Where a class would be imported from, as words; nothing is imported.

    Args:
        target: As for `refuse_untrusted`.
        folder: The same.
    """
    if is_file(target):
        return f", in {Path(folder or '.').resolve()}"
    package = target.partition(":")[0].partition(".")[0]
    try:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        return ""
    return f", of {found.origin}" if found and found.origin else ""
