"""Deep metric learning, exact and streamed.

Every name here is loaded when it is first used, so `import tuplet` costs nothing and never imports torch by itself.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuplet import data, engine, evaluation, index, interop, losses, models, recipes, relations, sampling, training
    from tuplet.engine import Processes
    from tuplet.errors import (
        CheckpointError,
        DataError,
        DivergedError,
        IndexFormatError,
        LabelError,
        MissingExtraError,
        RecipeError,
        ShapeError,
        TupletError,
    )
    from tuplet.models import Embedder

__all__ = [
    "CheckpointError",
    "DataError",
    "DivergedError",
    "Embedder",
    "IndexFormatError",
    "LabelError",
    "MissingExtraError",
    "Processes",
    "RecipeError",
    "ShapeError",
    "TupletError",
    "__version__",
    "data",
    "engine",
    "evaluation",
    "index",
    "interop",
    "losses",
    "models",
    "recipes",
    "relations",
    "sampling",
    "training",
]

__version__ = "0.1.0"

_HOMES = {"Embedder": "tuplet.models", "Processes": "tuplet.engine"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.endswith("Error"):
        return getattr(import_module("tuplet.errors"), name)
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
