"""Bounds of arguments, written once, in the signature: calls check them, and the schema of recipes knows them.

def cosface(..., margin: Annotated[float, Bounds(least=0)] = 0.35, scale: Positive = 64.0): ...
"""

import difflib
import functools
import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, Unpack, get_args, get_origin, get_type_hints

from jaxtyping import AbstractArray
from torch import Tensor

from tuplet.errors import ShapeError
from tuplet.tensors import as_tensor

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Bounds:
    """Where a number has to lie. It is finite, unless it may be infinite; NaN lies nowhere.

    Args:
        least: It may be this, and nothing below.
        above: It is larger than this.
        most: It may be this, and nothing beyond.
        below: It is smaller than this.
        hint: What to type next.
        is_finite: False if infinity is a value like any other.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    hint: str = ""
    is_finite: bool = True

    def __contains__(self, value: float) -> bool:
        """Whether the number lies there."""
        if math.isnan(value) or (self.is_finite and math.isinf(value)):
            return False
        return (
            (self.least is None or value >= self.least)
            and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """In words: "at least 0", "above 0 and at most 1"; nothing without limits."""
        words = (("at least", self.least), ("above", self.above), ("at most", self.most), ("below", self.below))
        said = [f"{word} {limit:.6g}" for word, limit in words if limit is not None]
        return " and ".join(said)

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        """How pydantic checks it: as a call does."""
        from pydantic_core import core_schema  # noqa: PLC0415  # whoever asks has it; the losses need none of it

        def checked(value: float) -> float:
            if value not in self:
                expected = f"should be a number {self}" if str(self) else "should be a finite number"
                raise ValueError(f"{expected}. {self.hint}" if self.hint else expected)
            return value

        return core_schema.no_info_after_validator_function(checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """How the page of settings shows it."""
        known = {
            "minimum": self.least,
            "exclusiveMinimum": self.above,
            "maximum": self.most,
            "exclusiveMaximum": self.below,
        }
        return handler(schema) | {key: limit for key, limit in known.items() if limit is not None}


Finite = Annotated[float, Bounds()]
Positive = Annotated[float, Bounds(above=0)]
NotNegative = Annotated[float, Bounds(least=0)]
Share = Annotated[float, Bounds(least=0, below=1)]
"""Part of a whole that is never all of it."""
Part = Annotated[float, Bounds(above=0, most=1)]
"""Part of a whole that is never nothing."""
Chance = Annotated[float, Bounds(least=0, most=1)]
Count = Annotated[int, Bounds(least=1)]
Number = Annotated[int, Bounds(least=0)]
"""How many, where none is an answer."""
Tau = Annotated[float, Bounds(above=0, hint="Usual values lie between 0.01 and 1.")]
Scale = Annotated[float, Bounds(above=0, hint="Usual values lie between 10 and 64.")]
Radians = Annotated[
    float,
    Bounds(least=0, most=math.pi, hint="The margin is in radians: degrees · 3.14159 / 180, so 28.6 degrees are 0.5."),
]


def bounded(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with its numbers and choices checked against the annotations of its signature on every call.

    Checked are numbers (whole, finite, within `Bounds`), choices (`Literal`), alternatives and sequences of these.
    Arrays and lists in the place of a tensor are converted. Anything else is left to the function.

    Raises:
        ShapeError: Of the returned function; names the argument, what was found and what is expected.
    """
    known: dict[str, Any] = {}
    names = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not known:
            known.update(_checked_values(function))
        for name, value in (*zip(names, args, strict=False), *kwargs.items()):
            if known.get(name) is not None:
                check(name, value, known[name])
        given = [converted(name, value) for name, value in zip(names, args, strict=False)]
        named = {name: converted(name, value) for name, value in kwargs.items()}
        return function(*given, *args[len(names) :], **named)  # type: ignore[arg-type]  # what was an array is a tensor

    def converted(name: str, value: Any) -> Any:
        is_array = name in known and known[name] is None and value is not None
        return as_tensor(value, name) if is_array else value

    return checked


def _checked_values(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotations that are checked, by argument; None for a tensor, in whose place an array may be given."""
    hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    for hint in [hint for hint in hints.values() if get_origin(hint) is Unpack]:
        hints |= get_type_hints(get_args(hint)[0], include_extras=True)
    found: dict[str, Any] = {"": None}
    for name, hint in hints.items():
        if _is_tensor(hint):
            found[name] = None
        elif name != "return" and _is_checked(hint):
            found[name] = hint
    return found


def _is_tensor(hint: Any) -> bool:
    """A tensor, or a tensor or nothing."""
    arms = [arm for arm in get_args(hint) if arm is not type(None)] if _is_union(hint) else [hint]
    return all(inspect.isclass(arm) and issubclass(arm, Tensor | AbstractArray) for arm in arms)


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in {Union, types.UnionType}


def check(name: str, value: Any, annotation: Any) -> None:
    """Refuse an argument that is not what its annotation asks for.

    Raises:
        ShapeError: See above.
    """
    wrong = _wrong(value, annotation)
    if not wrong:
        return
    expected = " or ".join(dict.fromkeys(each.expected for each in wrong))
    choices = [choice for each in wrong for choice in each.choices]
    is_choice = all(each.choices or each.expected == "None" for each in wrong)
    hint = next((each.hint for each in wrong if each.hint), "")
    if not hint and isinstance(value, str) and choices:
        close = difflib.get_close_matches(value, map(str, choices), n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ShapeError(
        f"{name} is {_shown(value)}; {expected} is expected.",
        hint=hint or f"Pass another {name}.",
        reference="unknown-choice" if is_choice else "option-range",
    )


@dataclass(frozen=True)
class _Expectation:
    expected: str
    choices: Sequence[Any] = ()
    hint: str = ""


def _is_checked(hint: Any) -> bool:
    """Whether an annotation says anything that can be checked here."""
    origin, args = get_origin(hint), get_args(hint)
    if _is_union(hint):
        return any(_is_checked(arm) for arm in args) and not any(arm is Any for arm in args)
    if origin in {tuple, list, Sequence, Iterable}:
        return any(_is_checked(arm) for arm in args)
    return origin in {Annotated, Literal} or hint in {int, float}


def _wrong(value: Any, hint: Any) -> list[_Expectation]:
    """What is expected in place of the value; nothing if it is right, or not to be checked here."""
    origin, args = get_origin(hint), get_args(hint)
    if _is_union(hint):
        found = [_wrong(value, arm) for arm in args]
        return [] if any(not each for each in found) else [wrong for each in found for wrong in each]
    if origin in {tuple, list, Sequence, Iterable}:
        return _wrong_entries(value, args, origin)
    if origin is Literal:
        is_one = any(type(value) is type(choice) and value == choice for choice in args)
        return [] if is_one else [_Expectation(f"one of {', '.join(map(repr, args))}", args)]
    bounds = [each for each in args[1:] if isinstance(each, Bounds)] if origin is Annotated else []
    kind = args[0] if origin is Annotated else hint
    if kind in {int, float}:
        return _wrong_number(value, kind, bounds or [Bounds()])
    is_right = kind is Any or not inspect.isclass(kind) or isinstance(value, kind)
    return [] if is_right else [_Expectation("None" if kind is type(None) else f"a {kind.__name__}")]


def _wrong_number(value: Any, kind: Any, bounds: Sequence[Bounds]) -> list[_Expectation]:
    value = value.detach() if isinstance(value, Tensor) else value  # as a number it has no gradient
    is_number = value.ndim == 0 and not value.is_complex() if isinstance(value, Tensor) else isinstance(value, Real)
    is_whole = not value.is_floating_point() if isinstance(value, Tensor) else isinstance(value, Integral)
    fits = is_number and (is_whole or kind is float)
    word = "a whole number" if kind is int else "a number"
    plain = word if kind is int else "a finite number"
    outside = [each for each in bounds if not fits or float(value) not in each]
    return [_Expectation(f"{word} {each}" if str(each) else plain, (), each.hint) for each in outside]


def _wrong_entries(value: Any, args: tuple[Any, ...], origin: Any) -> list[_Expectation]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return [_Expectation("a sequence")]
    if isinstance(value, Tensor):
        return []
    is_fixed = origin is tuple and args[-1:] != (Ellipsis,)
    entries = list(value)
    if is_fixed and len(entries) != len(args):
        return [_Expectation(f"{len(args)} numbers")]
    arms = args if is_fixed else args[:1] * len(entries)
    for entry, arm in zip(entries, arms, strict=True):
        if wrong := _wrong(entry, arm):
            return [_Expectation(f"a sequence in which each is {wrong[0].expected}", (), wrong[0].hint)]
    return []


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
