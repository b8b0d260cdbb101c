"""Losses of other libraries in recipes, by dotted name: `pytorch_metric_learning.losses.MultiSimilarityLoss`.

A class derived from `nn.Module` that is called with embeddings and class ids, and returns a number, becomes a loss like
any other once `import_losses` has been called: `loss.name` is its dotted name, its options are the arguments of its
constructor that have plain defaults.
"""

import importlib
import inspect
import re
from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor, nn

from tuplet.bounds import Positive, bounded
from tuplet.engine import Outcome
from tuplet.errors import RecipeError, ShapeError
from tuplet.foreign import place_of
from tuplet.losses import MetricLoss, registry
from tuplet.losses.inputs import ROWS

_SIZES = {"num_classes": "num_classes", "embedding_size": "dim"}
"""What a constructor may ask for that the data or the encoder decides, and what a recipe calls it."""
_COUNTS = re.compile(r"(^|_)(num|n|k|p|per|power|bins|size|dim|degree)(_|$)")
"""Names of options that count something or are exponents, although their defaults are written like any number."""


class ImportedLoss(MetricLoss):
    """A loss of another library; see `import_losses`.

    Args:
        options: Keyword arguments of its constructor.
    """

    takes = ROWS
    target: ClassVar[type[nn.Module]]

    def __init__(self, **options: Any) -> None:
        super().__init__("cosine")
        given = {_named(self.target, name): value for name, value in options.items()}
        self.imported = self.target(**given)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        """Its value for the rows that have a label, each of which counts once."""
        if labels is None or sides.get("weights") is not None:
            raise ShapeError(
                f"{self.target.__name__} was called {'without labels' if labels is None else 'with weights'}; a loss "
                f"of another library takes embeddings and class ids.",
                hint="Use a loss of tuplet for pairs and weights.",
                reference="imported-loss",
            )
        known = labels >= 0
        value = self.imported(embeddings[known], labels[known])
        if not isinstance(value, Tensor) or value.numel() != 1:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ShapeError(
                f"{self.target.__name__} returned {found}; a single number is expected.",
                hint="Wrap it in a class whose forward returns the mean.",
                reference="imported-loss",
            )
        count = known.sum()
        return Outcome(value.reshape(()) * count, count)


def import_losses(names: Iterable[str], *, trust: bool) -> None:
    """Make losses of other libraries known to recipes, for this process.

    Args:
        names: Of losses; those without a dot, and those known already, are left alone.
        trust: Import what the others name. Importing a module runs it.

    Raises:
        RecipeError: If a name is not trusted, cannot be imported, or is no class derived from `nn.Module`.
    """
    for name in names:
        if "." not in name or name in registry:
            continue
        if not trust:
            raise RecipeError(
                f"The loss {name!r} names code{place_of(name)}. Importing it runs it.",
                hint="If you trust what is installed under that name, add --trust to the command.",
                reference="untrusted-code",
            )
        registry.register(name)(_adapted(_imported(name)))


def _imported(name: str) -> type[nn.Module]:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as problem:
        raise RecipeError(
            f"The loss {name!r} cannot be imported: {problem}.",
            hint="Write package.module.Class, and start Python where `import package.module` works.",
            reference="imported-loss",
        ) from problem
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise RecipeError(
            f"{name} is not a class derived from torch.nn.Module.",
            hint="Name a class that is called with embeddings and class ids and returns a number.",
            reference="imported-loss",
        )
    return found


def _adapted(target: type[nn.Module]) -> type[ImportedLoss]:
    """A class of its own, with the options of the target in its signature."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)]
    for size, ours in _SIZES.items():
        if _asks(target, size):
            parameters.append(inspect.Parameter(ours, keyword, annotation=int))
    for option, parameter in inspect.signature(target).parameters.items():
        default = parameter.default
        if option not in _SIZES and isinstance(default, bool | int | float | str):
            hint = Positive if _is_continuous(option, parameter) else type(default)
            parameters.append(inspect.Parameter(option, keyword, default=default, annotation=hint))
    signature = inspect.Signature(parameters, return_annotation=None)

    def construct(self: ImportedLoss, **options: Any) -> None:
        ImportedLoss.__init__(self, **options)

    construct.__annotations__ = {one.name: one.annotation for one in parameters[1:]} | {"return": None}
    vars(construct)["__signature__"] = signature
    facts = {"target": target, "__init__": bounded(construct), "__doc__": f"{target.__name__} of another library."}
    return type(target.__name__, (ImportedLoss,), facts)


def _asks(target: type[nn.Module], name: str) -> bool:
    """Whether its constructor, or one that gets the rest of its arguments, asks for something."""
    kinds = [kind for kind in target.__mro__ if "__init__" in vars(kind) and kind is not object]
    return any(name in inspect.signature(vars(kind)["__init__"]).parameters for kind in kinds)


def _is_continuous(option: str, parameter: inspect.Parameter) -> bool:
    """Whether an option is a number above 0 that may take values in between."""
    default = parameter.default
    is_number = isinstance(default, int | float) and not isinstance(default, bool)
    return is_number and default > 0 and parameter.annotation is not int and not _COUNTS.search(option)


def _named(target: type[nn.Module], option: str) -> str:
    return next((theirs for theirs, ours in _SIZES.items() if ours == option and _asks(target, theirs)), option)
