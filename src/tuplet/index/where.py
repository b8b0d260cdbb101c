"""Filters: `brand = 'x' AND price < 5`, the same for every back end.

    expression = term {OR term};  term = factor {AND factor};  factor = [NOT] factor | "(" expression ")" | comparison
    comparison = column ("=" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value | column [NOT] IN "(" value {"," value} ")"
               | column [NOT] LIKE text | column IS [NOT] NULL

A column that is no plain word stands in double quotes, a text in single ones (a quote in it is doubled). As in SQL,
what an item does not have is unknown: no comparison with it holds, nor does its contrary.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tuplet.errors import DataError
from tuplet.registry import did_you_mean

Value = str | float
Kinds = Mapping[str, Literal["text", "number"]]
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+")|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<sign><=|>=|<>|!=|[=<>(),])|(?P<word>[^\W\d][\w.-]*))""",
    re.VERBOSE,
)
_HINT = "Write such as: --where \"brand = 'x' AND price < 5\"; also IN, LIKE, IS NULL, OR, NOT and brackets."
_DEEPEST = 100


@dataclass(frozen=True)
class Compare:
    """A column beside a value; `op` is one of = != < <= > >= like."""

    column: str
    op: str
    value: Value


@dataclass(frozen=True)
class Among:
    """A column is one of some values."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Missing:
    """An item does not have a column."""

    column: str


@dataclass(frozen=True)
class Joined:
    """All parts hold (`and`), one of them does (`or`), or the only one does not (`not`)."""

    op: Literal["and", "or", "not"]
    parts: "tuple[Node, ...]"


Node = Compare | Among | Missing | Joined


def parse(text: str, columns: Kinds) -> Node:
    """A filter, read and compared with the columns of an index.

    Raises:
        DataError: If it cannot be read, or names a column that is not there or holds values of another kind.
    """
    reader = _Reader(text, _tokens(text), columns)
    node = reader.any_of(0)
    reader.end()
    return node


def holds(node: Node, fact: Mapping[str, Any]) -> bool | None:
    """Whether a filter holds for an item; None where that is unknown."""
    if isinstance(node, Missing):
        return fact.get(node.column) is None
    if isinstance(node, Joined):
        return _joined(node.op, [holds(part, fact) for part in node.parts])
    found = fact.get(node.column)
    if found is None:
        return None
    if isinstance(node, Among):
        return found in node.values
    return _compared(found, node)


def to_sql(node: Node, column: Callable[[str], str], value: Callable[[Value], str]) -> str:
    """The filter as SQL.

    Args:
        node: From `parse`.
        column: How a column is written.
        value: How a value is written: as a literal, or as the place of a parameter.
    """
    if isinstance(node, Missing):
        return f"({column(node.column)} IS NULL)"
    if isinstance(node, Among):
        return f"({column(node.column)} IN ({', '.join(map(value, node.values))}))"
    if isinstance(node, Compare):
        op = {"!=": "<>", "like": "LIKE"}.get(node.op, node.op)
        compared = node.value
        if isinstance(compared, str) and node.op == "like":
            compared = compared.replace("\\", "\\\\")  # SQL reads it as a sign of its own
        return f"({column(node.column)} {op} {value(compared)})"
    parts = [to_sql(part, column, value) for part in node.parts]
    return f"(NOT {parts[0]})" if node.op == "not" else f"({f' {node.op.upper()} '.join(parts)})"


def _joined(op: str, parts: list[bool | None]) -> bool | None:
    """Three-valued logic."""
    if op == "not":
        return None if parts[0] is None else not parts[0]
    decisive = op == "or"
    if decisive in parts:
        return decisive
    return None if None in parts else not decisive


def _compared(found: Any, node: Compare) -> bool:
    value: Any = node.value
    if node.op == "like":
        pattern = "".join({"%": ".*", "_": "."}.get(sign, re.escape(sign)) for sign in value)
        return re.fullmatch(pattern, found, re.DOTALL) is not None
    outcomes = {"=": found == value, "!=": found != value}
    if node.op in outcomes:
        return outcomes[node.op]
    if node.op in ("<", "<="):
        return found < value or (node.op == "<=" and found == value)
    return found > value or (node.op == ">=" and found == value)


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable(text, f"{text[at:].strip()[:20]!r} is not part of a filter")
        found.append((str(match.lastgroup), match[str(match.lastgroup)]))
        at = match.end()
    return found


@dataclass
class _Reader:
    text: str
    tokens: list[tuple[str, str]]
    columns: Kinds
    at: int = 0

    def any_of(self, depth: int) -> Node:
        return self._list("or", lambda: self._list("and", lambda: self._factor(depth)))

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise _unreadable(self.text, f"after {self._before()} comes {self.tokens[self.at][1]!r}")

    def _list(self, op: Literal["and", "or"], read: Callable[[], Node]) -> Node:
        parts = [read()]
        while self._take(op):
            parts.append(read())
        return parts[0] if len(parts) == 1 else Joined(op, tuple(parts))

    def _factor(self, depth: int) -> Node:
        if depth > _DEEPEST:
            raise _unreadable(self.text, f"more than {_DEEPEST} nested brackets")
        if self._take("not"):
            return Joined("not", (self._factor(depth + 1),))
        if self._take("("):
            node = self.any_of(depth + 1)
            self._need(")")
            return node
        return self._comparison()

    def _comparison(self) -> Node:
        column = self._column()
        if self._take("is"):
            is_not = self._take("not")
            self._need("null")
            return Joined("not", (Missing(column),)) if is_not else Missing(column)
        is_not = self._take("not")
        if self._take("in"):
            self._need("(")
            values = [self._value(column)]
            while self._take(","):
                values.append(self._value(column))
            self._need(")")
            node: Node = Among(column, tuple(values))
        elif self._take("like"):
            node = Compare(column, "like", self._value(column, only="text"))
        else:
            op = next((op for op in ("=", "!=", "<>", "<=", ">=", "<", ">") if not is_not and self._take(op)), None)
            if op is None:
                raise _unreadable(self.text, f"after {self._before()} a comparison is missing")
            node = Compare(column, "!=" if op == "<>" else op, self._value(column))
        return Joined("not", (node,)) if is_not else node

    def _column(self) -> str:
        kind, word = self._next("a column")
        if kind not in ("word", "quoted"):
            raise _unreadable(self.text, f"{word!r} found where a column is expected")
        name = word if kind == "word" else word[1:-1].replace('""', '"')
        if name not in self.columns:
            close = did_you_mean(name, list(self.columns))
            known = ", ".join(self.columns) or "no columns"
            message = f"The index has no column {name!r} to filter by; it has {known}."
            raise DataError(message, hint=close or _HINT, reference="unknown-column")
        return name

    def _value(self, column: str, only: str | None = None) -> Value:
        kind, word = self._next("a value")
        if kind not in ("text", "number"):
            raise _unreadable(self.text, f"{word!r} found where a value is expected; strings are in single quotes")
        wanted = self.columns[column]
        if kind != wanted or only not in (None, wanted):
            what = "text, in single quotes" if wanted == "text" else "numbers, without quotes and without LIKE"
            raise _unreadable(self.text, f"{column} holds {what}, and stands beside {word}")
        return word[1:-1].replace("''", "'") if kind == "text" else float(word)

    def _next(self, what: str) -> tuple[str, str]:
        if self.at == len(self.tokens):
            raise _unreadable(self.text, f"it ends where {what} should stand")
        self.at += 1
        return self.tokens[self.at - 1]

    def _take(self, word: str) -> bool:
        if self.at < len(self.tokens):
            kind, found = self.tokens[self.at]
            if kind in ("word", "sign") and found.lower() == word:
                self.at += 1
                return True
        return False

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise _unreadable(self.text, f"after {self._before()} stands no {word!r}")

    def _before(self) -> str:
        return repr(self.tokens[self.at - 1][1]) if self.at else "the start"


def _unreadable(text: str, what: str) -> DataError:
    return DataError(f"The filter {text!r} cannot be read: {what}.", hint=_HINT, reference="unreadable-filter")
