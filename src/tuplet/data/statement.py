"""What a recipe says of pairs: `same_class(person).ignoring(same_class(camera))`, read as an expression and never run.

It is written as `tuplet.relations` is called, with names of columns in the place of values.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tuplet.errors import RecipeError
from tuplet.registry import did_you_mean

_LEVELS = ("hierarchy",)
_EXAMPLES = "Write it as same_class(COLUMN) & ~within(COLUMN, 30), or same_class(COLUMN).ignoring(...)."
_DISTANCES = ("tree_distance", "distances")
"""They say how far apart two labels are, for graded losses."""


class _Form(NamedTuple):
    takes_many: bool = False
    """Several columns."""
    number: str = ""
    """What the number behind the columns says."""
    keywords: tuple[str, ...] = ()


_FORMS = {
    "same_class": _Form(),
    "shared_label": _Form(keywords=("between",)),
    "paired": _Form(),
    "within": _Form(takes_many=True, number="how far apart"),
    "similar": _Form(number="the least cosine"),
    "matrix": _Form(),
    "hierarchy": _Form(takes_many=True, keywords=("weights",)),
    "tree_distance": _Form(takes_many=True, keywords=("weights",)),
    "distances": _Form(),
}


@dataclass(frozen=True)
class Asked:
    """One question.

    Args:
        kind: Such as `same_class`.
        names: Of columns, or of arrays.
        number: Behind them: how far apart, or how alike.
        weights: Of levels; None for 1.
        between: What stands between the labels of a cell; None for what the table says.
    """

    kind: str
    names: tuple[str, ...]
    number: float | None = None
    weights: tuple[float, ...] | None = None
    between: str | None = None


@dataclass(frozen=True)
class Joined:
    """Two expressions as one."""

    kind: Literal["and", "or", "ignoring"]
    first: "Expression"
    second: "Expression"


@dataclass(frozen=True)
class Opposite:
    """Yes and no turned round."""

    inner: "Expression"


Expression = Asked | Joined | Opposite


@dataclass(frozen=True)
class Statement:
    """A relation as it was written.

    Args:
        text: All of it.
        said: What it says.
    """

    text: str
    said: Expression

    @property
    def asked(self) -> tuple[Asked, ...]:
        """All questions, from left to right."""
        return tuple(_asked(self.said))

    @property
    def names(self) -> tuple[str, ...]:
        """Columns and arrays, each once."""
        return tuple(dict.fromkeys(name for asked in self.asked for name in asked.names))

    @property
    def is_distance(self) -> bool:
        """Whether it says how far apart two labels are, and not which pairs are positive."""
        return isinstance(self.said, Asked) and self.said.kind in _DISTANCES

    @property
    def levels(self) -> tuple[str, ...]:
        """Columns of the levels of a hierarchy, from the coarsest to the finest; none of any other rule."""
        return self.said.names if isinstance(self.said, Asked) and self.said.kind in _LEVELS else ()


def parse(text: str) -> Statement:
    """Read a relation.

    Args:
        text: Such as `same_class(person).ignoring(same_class(camera))`.

    Raises:
        RecipeError: If it says something else; the message says what.
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
        said = _read(node, text, is_whole=True)
    except (SyntaxError, ValueError, MemoryError) as problem:
        quotes = """ A name that is no plain word stands in quotes: same_class("person id")."""
        raise _wrong(text, f"it is no expression ({getattr(problem, 'msg', problem)})", _EXAMPLES + quotes) from problem
    except RecursionError as problem:
        raise _wrong(text, "it is nested too deeply") from problem
    return Statement(text, said)


def _asked(said: Expression) -> Iterator[Asked]:
    match said:
        case Joined():
            yield from _asked(said.first)
            yield from _asked(said.second)
        case Opposite():
            yield from _asked(said.inner)
        case Asked():
            yield said


def _read(node: ast.expr, text: str, *, is_whole: bool = False) -> Expression:
    match node:
        case ast.BinOp(left, ast.BitAnd() | ast.BitOr() as operator, right):
            joins: Literal["and", "or"] = "and" if isinstance(operator, ast.BitAnd) else "or"
            return Joined(joins, _read(left, text), _read(right, text))
        case ast.UnaryOp(ast.Invert(), inner):
            return Opposite(_read(inner, text))
        case ast.Call(ast.Attribute(first, "ignoring"), [second], []):
            return Joined("ignoring", _read(first, text), _read(second, text))
        case ast.Call(ast.Name(kind), _, _) if kind in _FORMS:
            if not is_whole and kind in (*_LEVELS, *_DISTANCES):
                raise _wrong(text, f"{kind}(...) stands alone and is not joined with anything")
            return _question(kind, node, text)
        case ast.Call(ast.Name(kind), _, _):
            raise _wrong(text, f"there is no {kind!r}", did_you_mean(kind, [*_FORMS]))
        case ast.BoolOp() | ast.UnaryOp(ast.Not(), _):
            raise _wrong(text, "`and`, `or` and `not` are written &, | and ~")
        case _:
            raise _wrong(text, f"{ast.unparse(node)!r} asks nothing")


def _question(kind: str, node: ast.Call, text: str) -> Asked:
    form, given = _FORMS[kind], list(node.args)
    number = None
    if form.number:
        number = _number(given.pop(), text) if given else None
        if number is None:
            raise _wrong(text, f"{kind}(...) ends with a number: {form.number}")
    names = tuple(_name(one, kind, text) for one in given)
    if not names or (len(names) > 1 and not form.takes_many):
        raise _wrong(text, f"{kind}(...) takes {'one column or more' if form.takes_many else 'one column'}")
    options = {word.arg: word.value for word in node.keywords if word.arg in form.keywords}
    if len(options) < len(node.keywords):
        known = " and ".join(f"{word}=" for word in form.keywords) or "no keyword"
        raise _wrong(text, f"{kind}(...) takes {known}")
    weights = _weights(options["weights"], len(names), kind, text) if "weights" in options else None
    between = _text(options["between"], text) if "between" in options else None
    return Asked(kind, names, number, weights, between)


def _name(node: ast.expr, kind: str, text: str) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise _wrong(text, f"{kind}(...) takes names of columns, and {ast.unparse(node)!r} is none")


def _number(node: ast.expr, text: str) -> float:
    try:
        found = ast.literal_eval(node)
    except (ValueError, TypeError):
        found = None
    if isinstance(found, bool) or not isinstance(found, int | float) or found != found:  # noqa: PLR0124  # NaN
        raise _wrong(text, f"{ast.unparse(node)!r} is no number")
    return found


def _weights(node: ast.expr, count: int, kind: str, text: str) -> tuple[float, ...]:
    if not isinstance(node, ast.Tuple | ast.List):
        raise _wrong(text, f"weights of {kind}(...) are written weights=(1, 2)")
    found = tuple(float(_number(one, text)) for one in node.elts)
    if len(found) != count or min(found) < 0 or not sum(found) > 0:
        raise _wrong(text, f"{kind}(...) has {count} levels, and takes as many weights of at least 0, not all 0")
    return found


def _text(node: ast.expr, text: str) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        return node.value
    raise _wrong(text, "between= is a text in quotes")


def _wrong(text: str, why: str, hint: str = "") -> RecipeError:
    return RecipeError(
        f"data.relation = {text!r} cannot be read: {why}.",
        hint=hint or _EXAMPLES,
        reference="relation-language",
    )
