"""One call of a pass: tensors by name, what has been summed so far, and what every plan does with a tile."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.compiling import compiled
from tuplet.engine.gather import Processes, all_reduce_max, all_reduce_sum
from tuplet.engine.problem import Problem
from tuplet.engine.products import add_product, equal_spans, multiply
from tuplet.engine.program import Mean
from tuplet.engine.tilecode import Values, stat_names, sum_type, weighted
from tuplet.engine.tiles import spans
from tuplet.margin import Combined, Margin, Targets, target_scores
from tuplet.tensors import wide_dtype

SHORTEST = 1e-12
"""References no longer than this have no direction: they are divided by it, and get no gradient."""

FOLDED = 2**18
"""Score gradients of one set up to which those of mirror images are added up before the product; of more of them that
takes longer than a second product."""

PROJECTED = 2**22
"""Numbers of a gradient that are projected at once: 16 MB."""

Sums = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Total, count and statistics of this process."""


class Work:
    """Tensors by name, gradients so far, and the parts of which plans are made.

    Args:
        problem: What the pass is about.
        a: Anchors, (rows, dim).
        r: References that are here, (cols, dim) or (cols, centers, dim).
        values: Further differentiable tensors, named by `problem.names`.
        asked: For which of anchors, references and values gradients are asked for.
    """

    def __init__(self, problem: Problem, a: Tensor, r: Tensor, values: Sequence[Tensor], asked: Sequence[bool]) -> None:
        self.alone = not len(r) and problem.shards.size > 1  # no reference here, but all shards reduce together
        r = r.new_zeros(1, *r.shape[1:]) if self.alone else r
        self.problem, self.a, self.r = problem, a, r
        self.wide = wide_dtype(a)
        self.rows, self.cols, self.scalars = dict(problem.rows), dict(problem.cols), dict[str, Tensor]()
        homes = {"row": self.rows, "col": self.cols, "scalar": self.scalars}
        needs_grad = {"product"} if asked[0] or asked[1] else set()
        self.sums: dict[str, Tensor] = {}
        for name, x, need in zip(problem.names, values, asked[2:], strict=True):
            kind, _, own = name.partition(":")
            homes[kind][own] = x
            if need:
                needs_grad.add(name)
                self.sums[name] = torch.zeros_like(x) if kind != "col" or not self.alone else x.new_zeros(1)
        if self.alone:  # one that takes no part
            self.cols = {name: x.new_zeros(1, *x.shape[1:]) for name, x in self.cols.items()}
            self.cols["live"] = torch.zeros(1, dtype=torch.bool, device=a.device)
        one_set = problem.spec.one_set
        self.grad_a = torch.zeros_like(a, dtype=self.wide) if asked[0] else None
        self.grad_r = torch.zeros_like(r, dtype=self.wide) if asked[1] and not one_set else None
        if problem.unit_cols:  # divided score by score, in the tile: no copy of unit length is made
            length = torch.linalg.vector_norm(r, dim=-1)
            self.cols["rate"], self.cols["there"] = length.clamp_min(SHORTEST).reciprocal(), length > SHORTEST
        self.targets: Targets | None = None
        if problem.margin is not None:
            needs_grad |= self._add_targets(*problem.margin, need=asked[0] or asked[1])
        self.spec = replace(problem.spec, needs_grad=frozenset(needs_grad), low=problem.low)
        self.held, self.begin, self.goal = r, 0, self.grad_r  # references that are here, from which one on
        low = problem.low
        self.mine = a if low is None else a.to(low)
        self.theirs = self.mine if one_set else self.lowered(r)
        self.scored: tuple[Tensor, Any] | None = None  # the latest tile that a geometry has scored
        self.masks: Values | None = None

    def _add_targets(self, margin: Margin, partner: Tensor, *, need: bool) -> set[str]:
        """Scores of the positives, one per row, and how they pull."""
        if self.alone:  # no anchor has its own reference here
            self.rows["target"] = self.a.new_zeros(len(self.a))
            return set()
        given = self.a, self.r, partner
        if self.problem.budget.compiled and isinstance(margin, Combined):  # others may change from step to step
            self.targets = Targets(*compiled(_targets, (margin, self.problem.unit_cols))(*given))
        else:
            self.targets = target_scores(margin, *given, unit=self.problem.unit_cols)
        self.rows["target"] = self.targets.score
        if need:
            self.sums["row:target"] = torch.zeros_like(self.targets.score)
        return {"row:target"} if need else set()

    def lowered(self, references: Tensor) -> Tensor:
        """References as operands of products; class weights, of which there is no copy, are converted tile by tile."""
        low = self.problem.low
        return references if low is None or self.problem.unit_cols else references.to(low)

    def finish(self) -> None:
        """Gradients by way of lengths and targets, which are values of the call's own."""
        if self.problem.unit_cols and self.grad_r is not None:
            project = compiled(_projected, ()) if self.problem.budget.compiled else partial(_projected, ())
            every, rate = self.grad_r.flatten(0, -2), self.cols["rate"].flatten()
            for some in spans(len(every), max(1, PROJECTED // every.shape[1])):
                every[some] = project(every[some], self.r.flatten(0, -2)[some], rate[some])
        by_target = self.sums.pop("row:target", None)
        if by_target is None or self.targets is None:
            return
        if self.grad_a is not None:
            self.grad_a.addcmul_(self.targets.mine, by_target[:, None])
        goal = self.grad_a if self.problem.spec.one_set else self.grad_r
        if goal is not None:
            goal.flatten(0, -2).index_put_(
                (self.targets.at,), self.targets.theirs * by_target[:, None], accumulate=True
            )

    def gradients(self, asked: Sequence[bool]) -> list[Tensor | None]:
        """By anchors, references and values, in this order; None for what is not asked for."""
        by_references = self.grad_r[:0] if self.alone and self.grad_r is not None else self.grad_r
        cut = {name: x[:0] if self.alone and name.startswith("col:") else x for name, x in self.sums.items()}
        names = self.problem.names
        return [self.grad_a if asked[0] else None, by_references, *(cut.get(name) for name in names)]

    # -- a tile

    def spans(self, total: int, size: int) -> list[tuple[slice, int]]:
        """Tiles of rows or columns, and how many of each an earlier one had; of one size where code is compiled."""
        if self.problem.scored_by is None:
            return equal_spans(total, size)
        return [(span, 0) for span in spans(total, size)]

    def product(self, rows: slice, cols: slice) -> Tensor:
        """Inner products of a tile, (rows, cols x centers), or its scores where the geometry makes them."""
        if self.problem.scored_by is None:
            theirs = self.theirs[cols.start - self.begin : cols.stop - self.begin].flatten(0, -2)
            return multiply(self.mine[rows], theirs.to(self.mine.dtype).T)
        if self.scored is None or not self._is_all(rows, cols):
            out = self.a.new_empty(rows.stop - rows.start, cols.stop - cols.start)
            self.scored = out, self.problem.scored_by[0].scores(self.a[rows], self.r[cols], out)
        return self.scored[0]

    def scalars_of(self, rows: slice, cols: slice) -> Values:
        """What tile code reads beside values of rows and columns."""
        if self.problem.scored_by is None:
            return self.scalars
        if self.masks is None or not self._is_all(rows, cols):
            relation = self.problem.scored_by[1]
            positive, negative = relation.masks(rows, cols)
            apart = relation.label_distances(rows, cols)
            self.masks = {"positive": positive, "negative": negative} | ({} if apart is None else {"apart": apart})
        return {**self.scalars, **self.masks}

    def _is_all(self, rows: slice, cols: slice) -> bool:
        """Whether a tile is the whole matrix."""
        return rows.stop - rows.start == len(self.a) and cols.stop - cols.start == len(self.r)

    def backward(self, rows: slice, cols: slice, grad_scores: Tensor | None, grads: Values, *, mirrored: bool) -> None:
        """Turn the score gradients of a tile into gradients of its anchors and references."""
        for name, x in grads.items():
            kind = name.partition(":")[0]
            span: Any = {"row": rows, "col": cols, "scalar": ...}[kind]
            self.sums[name][span] += x
        if grad_scores is None:
            return
        if self.problem.scored_by is not None:
            self._backward_scored(rows, cols, grad_scores, mirrored=mirrored)
            return
        here = slice(cols.start - self.begin, cols.stop - self.begin)
        if self.grad_a is not None:
            add_product(self.grad_a[rows], grad_scores, self.theirs[here].flatten(0, -2).to(self.mine.dtype))
        goal = self.grad_a if self.spec.one_set else self.goal
        if mirrored:
            return
        if "col:square" in self.sums:
            self.sums["col:square"][cols].add_(grad_scores.sum(0, dtype=sum_type(grad_scores)), alpha=-0.5)
        if goal is not None:
            add_product(goal[here].flatten(0, -2), grad_scores.T, self.mine[rows])

    def _backward_scored(self, rows: slice, cols: slice, grad_scores: Tensor, *, mirrored: bool) -> None:
        """The same by the geometry, which has just scored the tile."""
        if self.problem.scored_by is None or self.scored is None:
            raise AssertionError("the geometry has scored the tile")
        goal = self.grad_a if self.spec.one_set else self.grad_r
        if self.spec.one_set and not mirrored and grad_scores.numel() <= FOLDED and self._is_all(rows, cols):
            grad_scores, mirrored = grad_scores + grad_scores.T, True  # one product less
        mine = None if self.grad_a is None else self.grad_a[rows]
        theirs = None if goal is None or mirrored else goal[cols]
        self.problem.scored_by[0].backward(grad_scores, self.scored[1], self.a[rows], self.r[cols], mine, theirs)

    def row_values(self, rows: slice, fresh: int) -> Values:
        """Values of a tile's rows; those that an earlier tile had take no part."""
        cut = _cut(self.rows, rows)
        if fresh:
            cut["live"] = cut["live"] & (torch.arange(len(cut["live"]), device=cut["live"].device) >= fresh)
        return cut

    def col_values(self, cols: slice, new: int) -> Values:
        """The same of its columns; of their places only the first, and how many of them an earlier tile had."""
        if self.problem.scored_by is not None:
            return _cut(self.cols, cols)
        place = self.cols["place"]
        cut = _cut({name: x for name, x in self.cols.items() if name != "place"}, cols)
        return {**cut, "begin": place[cols.start], "new": place[new]}

    def code(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Tile code of this program, compiled if that is asked for."""
        return compiled(function, self.spec) if self.problem.budget.compiled else partial(function, self.spec)

    # -- sums

    def weighted(self, mean: Mean) -> Mean:
        """A mean with the weights of anchors, and without rows that take no part."""
        weight = self.rows.get("weight") if mean.over == "row" else None
        live = (self.rows if mean.over == "row" else self.cols).get("live")
        loss, number, stats = weighted(mean, live, weight)
        return Mean(loss, number, mean.over, mean.share, stats)

    def count(self, mean: Mean) -> Tensor:
        """What a mean divides by, over all processes; at least 1 where there is nothing."""
        number = self.sum(mean.count.detach())
        number = number if mean.over == "column" else all_reduce_sum(number, self.problem.processes)
        return torch.where(number > 0, number, 1.0)

    def summed(self, means: Sequence[Mean]) -> Sums:
        """Total, count and statistics of this process."""
        stats: dict[str, Tensor] = {}
        size = self.problem.processes.size
        for mean in means:
            for name, x in mean.stats.items():
                stats[name] = stats.get(name, 0) + self.sum(x) / (size if mean.over == "column" else 1)
        if len(means) == 1:
            return self.sum(means[0].loss).to(self.wide), self.sum(means[0].count), stats
        total = self.zero()
        for mean in means:
            part = mean.share * self.sum(mean.loss) / self.count(mean)
            total = total + (part / size if mean.over == "column" else part)
        return total.to(self.wide), self.zero() + 1.0 / size, stats

    def across(self, x: Tensor, monoid: Any, group: Processes) -> Tensor:
        """The same over several processes."""
        if group.size == 1:
            return x
        match monoid:
            case "total":
                return all_reduce_sum(x, group)
            case "lse":
                peak = all_reduce_max(x, group)
                safe = torch.where(peak > -torch.inf, peak, 0.0)
                return all_reduce_sum((x - safe).exp(), group).log() + safe
            case "largest":
                return all_reduce_max(x, group)
            case _:
                return -all_reduce_max(-x, group)

    def sum(self, x: Tensor) -> Tensor:
        """Sum in float64 where the device has it."""
        return x.sum() if x.device.type == "mps" else x.sum(dtype=torch.float64)

    def zero(self) -> Tensor:
        """Nothing, of the type of sums."""
        return self.sum(self.a.new_zeros(1, dtype=self.wide))

    def nothing(self) -> Sums:
        """What there is where no anchor meets a reference."""
        names = stat_names(self.spec.program, self.spec.of_row, self.spec.of_col)
        stats = {name: self.zero() for name in names}
        means, processes = self.spec.program.means, self.problem.processes
        if means == 1:
            return self.zero().to(self.wide), self.zero(), stats
        for _ in range(2 * means):  # the others count, for the gradient and for the sum
            all_reduce_sum(self.zero(), processes)
        return self.zero().to(self.wide), self.zero() + 1.0 / processes.size, stats


def _targets(fixed: tuple[Margin, bool], a: Tensor, r: Tensor, partner: Tensor) -> tuple[Tensor, ...]:
    found = target_scores(fixed[0], a, r, partner, unit=fixed[1])
    return found.score, found.mine, found.theirs, found.at


def _projected(_: tuple[()], grad: Tensor, r: Tensor, rate: Tensor) -> Tensor:
    """Gradients of references by way of their direction: what is along one of them changes its length only."""
    unit = r * rate[:, None]
    return grad - (grad * unit).sum(1, keepdim=True) * unit


def _cut(values: Values, span: slice) -> Values:
    return {name: x if span.start == 0 and span.stop == len(x) else x[span] for name, x in values.items()}
