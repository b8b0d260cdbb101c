"""What every measure returns: values by name, 95 % intervals, counts, and the settings that produced them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from jaxtyping import Float, Int64
from torch import Tensor

Resample = Literal["classes", "examples"]
"""What an interval draws again: classes, if others could have been met; examples, if the classes are fixed."""
_ENDS = ("values", "lower", "upper")


@dataclass(frozen=True, eq=False)
class Estimates:
    """Values by name, with the ends of their 95 % intervals where there are any.

    Attributes:
        values: The measures; NaN where one is not defined.
        lower: Lower ends.
        upper: Upper ends.
    """

    values: Mapping[str, float]
    lower: Mapping[str, float]
    upper: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values; NaN becomes None."""
        return {"values": _plain(self.values), "lower": _plain(self.lower), "upper": _plain(self.upper)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Result(Estimates):
    """Estimates and how they came about.

    Attributes:
        counts: How many examples, classes, pairs took part or were left out (`n_...`).
        settings: The arguments that decide the values.
        few_classes: The intervals rest on fewer than 20 classes, or other units of resampling, and are rough.
    """

    counts: Mapping[str, int]
    settings: Mapping[str, Any]
    few_classes: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values, without what grows with the data; NaN becomes None."""
        return {
            **super().to_dict(),
            "counts": dict(self.counts),
            "settings": _plain(self.settings),
            "few_classes": self.few_classes,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class QueryResult(Result):
    """A result that is a mean over queries. The plain values are micro averages: every query counts once.

    Attributes:
        macro: Macro averages: every class counts once, as the mean of its queries.
        per_query: The value of each scored query by name, float64.
        queries: Positions of the scored queries among all queries.
        classes: Their labels.
        units: What is resampled together: the class of each scored query, or the query itself.
        draws: Resampled values of measures that are no mean over queries; two results on the same queries and seed
            have the same resamples.
    """

    macro: Estimates
    per_query: Mapping[str, Float[Tensor, " scored"]] = field(repr=False)
    queries: Int64[Tensor, " scored"] = field(repr=False)
    classes: Int64[Tensor, " scored"] = field(repr=False)
    units: Int64[Tensor, " scored"] = field(repr=False)
    draws: Mapping[str, Float[Tensor, " draws"]] = field(default_factory=dict, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values, without the values per query; NaN becomes None."""
        return {**super().to_dict(), "macro": self.macro.to_dict()}


def joined(first: QueryResult, *others: QueryResult) -> QueryResult:
    """One result with the measures of several on the same queries; counts and settings of the first win."""
    results = (first, *others)
    fields: dict[str, Any] = {of: _union(results, of) for of in (*_ENDS, "per_query", "draws", "counts", "settings")}
    macros = [result.macro for result in results]
    return replace(first, **fields, macro=Estimates(*(_union(macros, of) for of in _ENDS)))


def _union(results: Sequence[Estimates], of: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for result in results:
        found |= {name: value for name, value in getattr(result, of).items() if name not in found}
    return found


def _plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None
        if isinstance(value, float) and not math.isfinite(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in mapping.items()
    }
