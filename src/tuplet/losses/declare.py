"""A loss declared once: from one class come the module, the function, the recipe's options and the pages of the docs.

@register("nca")
class NCALoss(PairLoss):
    '''Summary, equation, `Args:` with the options, `References:`.'''
    scale: Positive = 1.0
    geometry: GeometryName = "squared_euclidean"

    def terms(self, score, pair): ...
    def finish(self, found): ...

nca = NCALoss.function()
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, make_dataclass, replace
from typing import Any, ClassVar, Literal, Unpack, dataclass_transform, get_args, get_origin

from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import bounded
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, Reduction, stream
from tuplet.engine.execution import DEFAULT
from tuplet.engine.program import Program
from tuplet.geometry import normalise
from tuplet.losses.base import MetricLoss, register, registry
from tuplet.losses.inputs import PairBatch, PairOptions, check_shape, prepare_inputs
from tuplet.losses.wording import Described, described, of_function, of_module
from tuplet.memory import FeatureQueue
from tuplet.registry import did_you_mean
from tuplet.types import GeometryName

__all__ = ["DeclaredLoss", "Option", "PairLoss", "register"]

EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """One annotated attribute of a declaration.

    Args:
        hint: Its type, with bounds.
        default: What it is when nothing is said.
        by_keyword: True if only a keyword sets it.
    """

    hint: Any
    default: Any
    by_keyword: bool


@dataclass_transform()
class DeclaredLoss(MetricLoss):
    """What a declaration becomes; `PairLoss` is the base to start from.

    Annotated attributes are options, in the order of the constructor's arguments; `bounds` has their types. The methods
    `terms` and `finish` (and `then`) are those of a `Program`, whose `self` has the options; a loss whose program
    stands elsewhere overrides `program`. The docstring describes options under `Args:`, and tensors of the function
    that are not the usual ones under `Inputs:`.
    """

    fixed_geometry: ClassVar[GeometryName | None] = None
    """How the loss compares, where no option says so."""
    scored_as: ClassVar[GeometryName | None] = None
    """How its program's scores are computed, where it is not how the loss compares."""
    of_units: ClassVar[bool] = False
    """Whether rows are divided by their lengths first; elsewhere an option `normalise` says so."""
    meets_all: ClassVar[bool] = False
    """Whether each process meets the references of all at once, since the loss looks some of them up."""
    divides_by: ClassVar[str] = "the anchors that have a positive"
    """What its mean is over, in words."""
    learnable: ClassVar[Mapping[str, float]] = {}
    """Options that may be "learned", and where they start; the function takes a tensor then."""
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "labels": Shaped[Tensor, "anchors *classes"] | None,
    }
    """What the function takes by position, with shapes: what the module owns is among it; `| None` may be left out."""
    keyword_inputs: ClassVar[Mapping[str, Any]] = {}
    """Tensors that a call takes by keyword besides, with shapes."""
    of_module: ClassVar[frozenset[str]] = frozenset()
    """Options that the function lacks: they make what the module owns, keeps and shares."""
    of_function: ClassVar[Mapping[str, tuple[Any, Any]]] = {}
    """Type and default of options that are others in the function."""
    sides: ClassVar[Any] = PairOptions
    """What the function takes by keyword besides."""
    options: ClassVar[dict[str, Option]] = {}
    described: ClassVar[Described | None] = None
    _rows: ClassVar[type[Program]]

    def __init_subclass__(cls, **given: Any) -> None:
        """Read the declaration."""
        super().__init_subclass__(**given)
        declared_names = {**cls.options, **_declared(cls)}
        cls.options = dict(sorted(declared_names.items(), key=lambda item: item[1].by_keyword))
        cls.takes = cls.takes | cls.keyword_inputs.keys()
        if cls.program is DeclaredLoss.program:
            fields = [(name, option.hint) for name, option in cls._plain().items()]
            own = _program_parts(cls)
            cls._rows = make_dataclass(f"{cls.__name__}Program", fields, bases=(Program,), namespace=own, frozen=True)
        if "__init__" not in vars(cls):
            setattr(cls, "__init__", _constructor(cls))  # noqa: B010  # mypy holds methods for constants
        cls.described = described(cls, cls.__doc__)
        cls.__doc__ = of_module(cls)

    def setup(self) -> None:
        """Make parameters and memory; the options are attributes already."""

    def compares(self) -> GeometryName:
        """How two embeddings are compared."""
        return self.fixed_geometry or self.geometry

    def program(self, problem: PairBatch | None = None) -> Program | Reduction[Any]:
        """The loss as a row program, or as a reduction that is written out for panels too."""
        del problem
        return self._rows(**{name: getattr(self, name) for name in self._plain()})

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Who meets whom."""
        if self.of_units or vars(self).get("normalise"):
            embeddings, sides = on_sphere(embeddings, sides)
        if self.meets_all:
            sides = {**sides, "execution": replace(sides.get("execution") or DEFAULT, exchange="gather")}
        return prepare_inputs(embeddings, labels, sides)

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """What `stream` takes besides: scale, offset, values of anchors and references."""
        del problem, processes
        return {}

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """The function's call; what the module owns is among the inputs."""
        embeddings, labels = inputs.pop("embeddings"), inputs.pop("labels")
        vars(self).update(inputs)
        return self._of_levels(embeddings, labels, sides)

    @classmethod
    def function(cls) -> Callable[..., Tensor]:
        """The loss as a function of tensors, with the options as keywords."""
        return _function(cls)

    @classmethod
    def _plain(cls) -> dict[str, Option]:
        """Options that the program sees."""
        left_out = {*cls.learnable, *cls.of_module}
        return {name: option for name, option in cls.options.items() if name not in left_out}

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        return self._streamed(self.problem(embeddings, labels, sides), sides.get("processes", SINGLE_PROCESS))

    def _streamed(self, problem: PairBatch, processes: Processes) -> Outcome:
        values = self.values(problem, processes) | problem.stream_options
        sets = problem.anchors, problem.references, problem.relation
        return stream(self.program(problem), *sets, self.scored_as or self.compares(), **values)


def _declared(cls: type[DeclaredLoss]) -> dict[str, Option]:
    """The options that a class adds; their defaults leave the class, where they would hide modules of these names."""
    found: dict[str, Option] = {}
    by_keyword = False
    hints: dict[str, Any] = inspect.get_annotations(cls, eval_str=True)
    for name, hint in hints.items():
        if hint is KW_ONLY:
            by_keyword = True
        elif ClassVar not in (hint, get_origin(hint)):
            found[name] = Option(hint, vars(cls).get(name, EMPTY), by_keyword)
            if name in vars(cls):
                delattr(cls, name)
    return found


def _program_parts(cls: type[DeclaredLoss]) -> dict[str, Any]:
    """What a declaration adds to its base: the members of its program."""
    declared_names = [name for kind in cls.__mro__ if issubclass(kind, DeclaredLoss) for name in vars(kind)]
    own = [name for name in declared_names if not name.startswith("__") and not hasattr(DeclaredLoss, name)]
    return {name: inspect.getattr_static(cls, name) for name in own}


def _constructor(cls: type[DeclaredLoss]) -> Callable[..., None]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [
        inspect.Parameter(name, kinds[option.by_keyword], default=option.default, annotation=option.hint)
        for name, option in cls.options.items()
    ]
    myself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    signature = inspect.Signature([myself, *parameters], return_annotation=None)

    def construct(*given: Any, **named: Any) -> None:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        myself, *values = bound.arguments.values()
        options = dict(zip(list(bound.arguments)[1:], values, strict=True))
        rest = {name: options.pop(name) for name in ("queue", "processes") if name in options}
        vars(myself).update(options)
        MetricLoss.__init__(myself, myself.compares(), **rest)
        myself.setup()

    return bounded(_signed(construct, "__init__", cls.__qualname__, cls.__module__, signature))


def _function(cls: type[DeclaredLoss]) -> Callable[..., Tensor]:
    signature = _function_signature(cls)
    allowed = {*cls.takes, *cls.sides.__annotations__}

    def compute(*given: Any, **named: Any) -> Tensor:
        bound = signature.bind(*given, **named)
        bound.apply_defaults()
        options = dict(bound.arguments)
        sides = options.pop("sides", {})
        if unknown := sorted(sides.keys() - allowed):
            raise TypeError(f"unknown argument {unknown[0]!r}. {did_you_mean(unknown[0], sorted(allowed))}")
        inputs = {name: options.pop(name) for name in cls.inputs}
        sides = sides | {name: options.pop(name) for name in cls.keyword_inputs}
        loss = cls.__new__(cls)  # the options alone: nothing is owned, nothing remembered
        vars(loss).update(options)
        return loss.of_tensors(inputs, sides).value

    name = registry.name_of(cls) or cls.__name__
    function = _signed(compute, name, "", cls.__module__, signature)
    function.__doc__ = of_function(cls)
    vars(function)["declaration"] = cls
    return bounded(function)


def _function_signature(cls: type[DeclaredLoss]) -> inspect.Signature:
    """Tensors, options, and what a call takes."""
    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    first = [
        inspect.Parameter(name, positional, annotation=hint, default=None if _may_be_none(hint) else EMPTY)
        for name, hint in cls.inputs.items()
    ]
    for name, option in cls.options.items():
        if name not in cls.of_module:
            hint, default = cls.of_function.get(name, (option.hint, option.default))
            if name in cls.learnable:
                arms = [arm for arm in get_args(hint) if arm != Literal["learned"]]
                hint, default = arms[0] | Tensor, cls.learnable[name] if default == "learned" else default
            first.append(inspect.Parameter(name, keyword, annotation=hint, default=default))
    for name, hint in cls.keyword_inputs.items():
        first.append(inspect.Parameter(name, keyword, annotation=hint, default=None))
    sides = inspect.Parameter("sides", inspect.Parameter.VAR_KEYWORD, annotation=Unpack[cls.sides])
    return inspect.Signature([*first, sides], return_annotation=Float[Tensor, ""])


def _may_be_none(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _signed(
    function: Callable[..., Any], name: str, owner: str, module: str, signature: inspect.Signature
) -> Callable[..., Any]:
    """The function under another name, with a signature that checks, editors and schemas read."""
    vars(function).pop("__wrapped__", None)  # a checker of shapes may stand around it
    function.__name__, function.__module__ = name, module
    function.__qualname__ = f"{owner}.{name}" if owner else name
    function.__annotations__ = {
        **{p.name: p.annotation for p in signature.parameters.values() if p.annotation is not EMPTY},
        "return": signature.return_annotation,
    }
    vars(function)["__signature__"] = signature
    return function


class PairLoss(DeclaredLoss):
    """A declaration over pairs of examples: one set, two sets, a queue; class ids, several labels, or pairs.

    Args:
        queue: Latest batches as further references.
        processes: Who computes the loss together.
    """

    _: KW_ONLY
    queue: FeatureQueue | None = None
    processes: Processes = SINGLE_PROCESS

    of_module: ClassVar[frozenset[str]] = frozenset({"queue", "processes"})


def on_sphere(embeddings: Tensor, sides: Mapping[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Embeddings, and whatever they are compared with, divided by their lengths."""
    check_shape(embeddings, "embeddings")
    names = [name for name in ("references", "queue", "positives", "negatives") if sides.get(name) is not None]
    return normalise(embeddings), {**sides, **{name: normalise(sides[name]) for name in names}}
