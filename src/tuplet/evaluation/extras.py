"""The scientific libraries of `tuplet[app]`, imported when a measure needs them."""

from importlib import import_module
from typing import Any

from tuplet.errors import MissingExtraError


def scientific(module: str) -> Any:
    """Import a module of scipy or scikit-learn.

    Raises:
        MissingExtraError: If it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        raise MissingExtraError(
            f"This measure needs {module.partition('.')[0]}, which is not installed.",
            hint='Type: pip install "tuplet[app]"',
            reference="missing-extra",
        ) from missing
