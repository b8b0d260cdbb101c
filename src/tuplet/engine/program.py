r"""A loss as a program over the rows of the score matrix: pointwise terms of a pair, reduced along rows, then finished.

The author writes two functions. `terms` sees a score and what is known about its pair, and says which numbers are
reduced and how; it is pointwise, so that any tile of the matrix will do. `finish` turns the reduced numbers of a row
into its loss. The gradient of a score is derived:

$$\frac{\partial L}{\partial s_{ij}} = \sum_k \frac{\partial L}{\partial S_{k,i}}\,
\frac{\partial S_{k,i}}{\partial t_{k,ij}}\,\frac{\partial t_{k,ij}}{\partial s_{ij}}$$

with $t_k$ the terms and $S_k$ what they are reduced to. The same program runs as plain tensor code and compiled into
one kernel for each pass, see `tuplet.engine.passes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from tuplet.engine.plain import LogSumExp

Monoid = Literal["total", "lse", "largest", "smallest"]
NEUTRAL: dict[Monoid, float] = {"total": 0.0, "lse": -torch.inf, "largest": -torch.inf, "smallest": torch.inf}
Over = Literal["row", "column", "all"]
AXES: dict[Over, tuple[int, ...]] = {"row": (1,), "column": (0,), "all": (0, 1)}


@dataclass(frozen=True)
class Pair:
    """What is known about the pairs of a tile; every member broadcasts to (rows, cols).

    Args:
        positive: True where the reference is a positive of the anchor.
        negative: True where it is a negative. A pair that is neither is ignored.
        row: Position of the anchor.
        col: Position of the reference.
        distance: Distance between the two labels, for graded labels.
        offset: What was added to the score of the reference.
        of_row: Further values of anchors by name; a vector per anchor has a third axis.
        of_col: The same of references.
    """

    positive: Tensor
    negative: Tensor
    row: Tensor
    col: Tensor
    distance: Tensor | None = None
    offset: Tensor | None = None
    of_row: Mapping[str, Tensor] = field(default_factory=dict)
    of_col: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Term:
    """One number per pair, and how the numbers of a row (a column, the whole matrix) become one.

    Args:
        value: (rows, cols), or (rows, cols, k) for k numbers of each row.
        monoid: How they are reduced.
        over: Along what.
        counts: True for a number that has no derivative by the score.
        where: Of which pairs; all if None. Ignored pairs are left out in any case, see `of_counted`.
    """

    value: Tensor
    monoid: Monoid
    over: Over = "row"
    counts: bool = False
    where: Tensor | None = None

    def masked(self) -> Tensor:
        """The value, and elsewhere what changes nothing."""
        if self.where is None:
            return self.value
        where = like(self.where, self.value)
        if self.value.dtype == torch.bool:
            return self.value & where
        return torch.where(where, self.value, NEUTRAL[self.monoid])


Found = Mapping[str, Tensor]
"""What the terms were reduced to, by name: (rows,), (rows, k), (cols,) or ()."""


def total(value: Tensor, over: Over = "row", *, where: Tensor | None = None) -> Term:
    """Sum, over the pairs where a mask is true, if there is one."""
    return Term(value, "total", over, where=where)


def lse(value: Tensor, over: Over = "row", *, where: Tensor | None = None) -> Term:
    """Logarithm of the sum of exponentials, over the pairs where a mask is true. Of nothing it is -inf."""
    return Term(value, "lse", over, where=where)


def largest(value: Tensor, *, where: Tensor | None = None) -> Term:
    """Largest of the row where a mask is true, the first among equals. Of nothing it is -inf."""
    return Term(value, "largest", where=where)


def smallest(value: Tensor, *, where: Tensor | None = None) -> Term:
    """Smallest of the row where a mask is true, the first among equals. Of nothing it is inf."""
    return Term(value, "smallest", where=where)


def count(chosen: Tensor, over: Over = "row") -> Term:
    """Number of pairs, or sum of numbers that have no derivative."""
    return Term(chosen, "total", over, counts=True)


def of_counted(terms: Mapping[str, Term], pair: Pair) -> dict[str, Term]:
    """The terms over pairs that count: ignored ones, and rows and columns that fill up a tile, are left out."""
    there = pair.positive | pair.negative
    return {
        name: replace(term, where=there if term.where is None else term.where & like(there, term.where))
        for name, term in terms.items()
    }


def like(mask: Tensor, x: Tensor) -> Tensor:
    """A mask of pairs for so many numbers of each."""
    return mask if mask.ndim == x.ndim else mask[..., None]


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), to the last digit of float64."""
    return functional.softplus(x, threshold=40.0)


@dataclass(frozen=True)
class Mean:
    """One mean of a loss.

    Args:
        loss: (rows,), sum of each anchor's terms; (cols,) if `over` is "column".
        count: The same shape: each anchor's share of what the mean divides by.
        over: Whose losses they are.
        share: Multiplies the mean; the loss is the sum of its means.
        stats: Numbers to be summed and reported by name, the same shape.
    """

    loss: Tensor
    count: Tensor
    over: Literal["row", "column"] = "row"
    share: float = 1.0
    stats: Mapping[str, Tensor] = field(default_factory=dict)


class Program:
    """What a loss author writes; a frozen dataclass whose fields are the options that `terms` and `finish` read.

    Neither function may ask for the value of a tensor (`.item()`, `bool(...)`, boolean indexing): they are compiled,
    and run on tiles of any size.
    """

    reads: ClassVar[Literal["similarity", "distance"]] = "similarity"
    """Whether larger scores mean nearer."""
    local: ClassVar[bool] = False
    """True if the loss of a row is the sum of its terms as they are: one pass does."""
    means: ClassVar[int] = 1
    """How many means `finish` returns. More than one, or terms over columns, take a pass for the counts first."""
    extremes: ClassVar[bool] = False
    """True if all terms with a derivative are the `largest` or `smallest` scores of some references: then only O(rows)
    pairs have a gradient."""

    numbers: int = 1
    """How many numbers a term holds for each pair, bins for instance: tiles get smaller by it."""
    near: ClassVar[bool] = False
    """True if `pair.of_row["near"]` is to hold the scores of the anchor's positives, padded with -inf; needs whole rows
    of scores."""

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Pointwise in the pairs of a tile; ignored pairs do not count, whatever is said of them."""
        raise NotImplementedError

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """Terms that need what the first ones were reduced to, each (rows, 1) here; needs whole rows of scores."""
        del score, pair, found
        return {}

    def finish(self, found: Found) -> Mean | tuple[Mean, ...]:
        """Loss and count of each anchor; differentiable, O(rows)."""
        raise NotImplementedError

    def measured(self) -> "Program":
        """The same with whatever statistics cost time; asked for by `measure`."""
        return self

    @property
    def whole_rows(self) -> bool:
        """True if a row has to be seen at once."""
        return self.near or type(self).then is not Program.then


def reduce_term(term: Term, *, as_written: bool = False) -> tuple[Tensor, Tensor | None]:
    """Reduce one tile; extremes come with their position, (rows,) or (rows, k).

    Args:
        term: What is reduced.
        as_written: True where no compiler and no other tracer sees it.
    """
    if as_written and term.monoid == "lse" and term.where is not None and term.value.numel():
        return LogSumExp.apply(term.value, like(term.where, term.value), AXES[term.over]), None  # type: ignore[no-untyped-call]
    value = term.masked()
    if term.monoid in ("largest", "smallest"):
        best = value.max(1) if term.monoid == "largest" else value.min(1)
        return best.values, best.indices
    axes = AXES[term.over]
    if term.monoid == "total":  # of a mask an exact whole number
        narrow = value.dtype == torch.bool and term.over != "all"
        return value.sum(axes, dtype=torch.int32 if narrow else None), None
    peak = value.detach().amax(axes, keepdim=True)
    peak = torch.where(peak == -torch.inf, 0.0, peak)  # of nothing; inf - inf is no number
    mass = (value - peak).exp().sum(axes)
    nothing = mass == 0
    return torch.where(nothing, -torch.inf, torch.where(nothing, 1.0, mass).log() + peak.squeeze(axes)), None


def merge(monoid: Monoid, before: Tensor, tile: Tensor) -> Tensor:
    """What two tiles are reduced to together (for extremes without the positions)."""
    match monoid:
        case "total":
            return before + tile
        case "lse":
            return torch.logaddexp(before, tile)
        case "largest":
            return torch.maximum(before, tile)
        case "smallest":
            return torch.minimum(before, tile)


def reduced_rows(program: Program, score: Tensor, pair: Pair, *, as_written: bool = False) -> dict[str, Tensor]:
    """What whole rows are reduced to, first by the terms and then by those that need these."""
    terms = of_counted(program.terms(score, pair), pair)
    found = {name: reduce_term(term, as_written=as_written)[0] for name, term in terms.items()}
    if program.whole_rows:
        seen = {name: x[:, None] for name, x in found.items() if x.ndim}
        later = of_counted(program.then(score, pair, seen), pair)
        found |= {name: reduce_term(term, as_written=as_written)[0] for name, term in later.items()}
    return found
