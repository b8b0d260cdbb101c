"""Passes of a program over anchors × references: matrix products, and tile code between them.

Four plans, the same numbers:

- *extremes*: only the farthest and nearest references of a row have a gradient. One product; O(rows) pairs are compared
  again, coordinate by coordinate.
- *local*: a pair's slope is known at once. Two products for one set, three for two.
- *strips*: whole rows of scores stay until their slopes are known. Three products.
- *tiles*: rows are too long to stay, or the loss has terms over columns or several means. Scores are computed twice:
  three products for one set (a tile serves both mirror images), four for two.

Nothing of the size anchors × references is made, no value is read by the host, and all tiles of a pass have one shape:
the last one begins earlier and leaves out what was there before.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.gather import Processes, largest_of, sum_of
from tuplet.engine.once import multiplied
from tuplet.engine.problem import HEAD_ENTRIES, Problem
from tuplet.engine.products import equal_spans, multiply, unit_rows
from tuplet.engine.program import Found, Mean, merge
from tuplet.engine.tilecode import (
    Values,
    compiled,
    finished,
    fold,
    local_pass,
    slopes,
    stat_names,
    weighted,
    whole_rows,
)

LEAST_ROWS = 64
"""Strips with fewer rows than this wait for memory; tiles that are scored twice take less time then."""


class Pass(torch.autograd.Function):
    """Forward reduces, finishes and accumulates gradients; backward multiplies them by the incoming number."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, a: Tensor, r: Tensor, *values: Tensor) -> Any:
        """Total, count and statistics of this process."""
        asked = ctx.needs_input_grad[1:]
        work = _Work(problem, a, r, values, asked)
        total, count, stats = work.run()
        problem.stat_names[:] = list(stats)
        ctx.save_for_backward(a, r, *values, *work.gradients(asked))
        outputs = (total, count, *stats.values())
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        """The gradients that forward accumulated."""
        return (None, *multiplied(ctx.saved_tensors, grad))


class _Work:
    """One call: tensors by name, sums so far, and the plan."""

    def __init__(self, problem: Problem, a: Tensor, r: Tensor, values: Sequence[Tensor], asked: Sequence[bool]) -> None:
        self.alone = not len(r) and problem.shards.size > 1  # no reference here, but all shards reduce together
        r = r.new_zeros(1, *r.shape[1:]) if self.alone else r
        self.problem, self.a, self.r = problem, a, r
        self.rows, self.cols, self.scalars = dict(problem.rows), dict(problem.cols), dict[str, Tensor]()
        homes = {"row": self.rows, "col": self.cols, "scalar": self.scalars}
        wanted = {"product"} if asked[0] or asked[1] else set()
        self.sums: dict[str, Tensor] = {}
        for name, x, need in zip(problem.names, values, asked[2:], strict=True):
            kind, _, own = name.partition(":")
            homes[kind][own] = x
            if need:
                wanted.add(name)
                self.sums[name] = torch.zeros_like(x) if kind != "col" or not self.alone else x.new_zeros(1)
        if self.alone:  # one that takes no part
            self.cols = {name: x.new_zeros(1, *x.shape[1:]) for name, x in self.cols.items()}
        self.names = problem.names
        self.grad_a = torch.zeros_like(a, dtype=self.wide) if asked[0] else None
        one_set = problem.spec.one_set
        self.grad_r = torch.zeros_like(r, dtype=self.wide) if asked[1] and not one_set else None
        self.spec = replace(problem.spec, wanted=frozenset(wanted))
        self.held, self.begin, self.goal = r, 0, self.grad_r  # references that are here, from which one on
        self.mine, self.theirs = self._operands()

    @property
    def wide(self) -> torch.dtype:
        return torch.promote_types(self.a.dtype, torch.float32)

    def run(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        program, (n, m) = self.spec.program, (len(self.a), len(self.cols["place"]))
        if self.problem.ring is not None and m and not n:  # nothing to do but to pass the others' rows on
            for pulling in (False, True) if self.spec.wanted else (False,):
                for _ in self._blocks(pulling=pulling):
                    pass
        if not n or not m:
            return self._nothing()
        if self.problem.ring is not None:
            height = min(n, self.problem.budget.tile_rows, self.problem.budget.entries)
            return self._tiles(height, max(1, self.problem.budget.entries // height))
        if self.problem.unit_cols:
            return self._tiles(*self._beside_references(n, m))
        entries = self.problem.budget.entries
        if program.local and not program.whole_rows and not self._crosses_rows():
            return self._local(min(n, max(1, entries // m)))
        rows = entries // m
        columnwise = program.means > 1 or self.problem.shards.size > 1 or self._crosses_rows()
        if program.whole_rows or (rows >= min(n, LEAST_ROWS) and not columnwise):
            return self._strips(min(n, max(1, rows)))
        height = min(n, self.problem.budget.tile_rows, entries)
        return self._tiles(height, min(m, max(1, entries // height)))

    def _crosses_rows(self) -> bool:
        """Whether a term is reduced over columns or the whole matrix, of which a strip of rows knows its part only."""
        crossing = {over for _, _, over, _ in self.spec.layout} - {"row"}
        if crossing and self.spec.program.whole_rows:
            raise TypeError("a program that needs whole rows has terms over rows only")
        if "all" in crossing and self.problem.processes.size > 1:
            raise TypeError("terms over the whole matrix are not summed over several processes")
        return bool(crossing)

    def _beside_references(self, n: int, m: int) -> tuple[int, int]:
        """Rows and columns of a tile that is held beside its references of length one and their gradient."""
        entries = min(self.problem.budget.entries, HEAD_ENTRIES)
        numbers = self.r[:1].numel()
        height = min(n, self.problem.budget.tile_rows, max(1, entries // (2 * self.spec.centers)))
        return height, min(m, max(1, entries // (height * self.spec.centers + 2 * numbers)))

    def gradients(self, asked: Sequence[bool]) -> list[Tensor | None]:
        """By anchors, references and values, in this order; None for what is not asked for."""
        by_references = self.grad_r[:0] if self.alone and self.grad_r is not None else self.grad_r
        cut = {name: x[:0] if self.alone and name.startswith("col:") else x for name, x in self.sums.items()}
        return [self.grad_a if asked[0] else None, by_references, *(cut.get(name) for name in self.names)]

    # -- plans

    def _local(self, height: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Every pair on its own: fold and slopes in one go, whole rows or pieces of them."""
        n, m = len(self.a), len(self.r)
        width = m if height > 1 else min(m, self.problem.budget.entries)
        code = self._code(local_pass)
        parts: dict[str, list[Tensor]] = {}
        for rows, fresh in equal_spans(n, height):
            found: dict[str, Tensor] = {}
            for cols, new in equal_spans(m, width):
                r, c = self._tile_values(rows, fresh, cols, new)
                tile, slope, grads = code(self._product(rows, cols), r, c, self.scalars)
                for name, (value, _) in tile.items():
                    found[name] = value if name not in found else found[name] + value
                self._pull(rows, cols, slope, grads, mirrored=self.spec.one_set)
            for name, value in found.items():
                parts.setdefault(name, []).append(value[fresh:])
        shards = self.problem.shards
        whole = {name: self._across(torch.cat(values), "total", shards) for name, values in parts.items()}
        return self._summed([self._weighted(mean) for mean in finished(self.spec.program, whole)])

    def _strips(self, height: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Whole rows of scores: reduced, finished and turned into slopes while they are here."""
        code = self._code(whole_rows)
        total, count, stats = self._zero(), self._zero(), dict[str, Tensor]()
        everyone = slice(0, len(self.r))
        for rows, fresh in equal_spans(len(self.a), height):
            r, c = self._tile_values(rows, fresh, everyone, 0)
            loss, number, numbers, slope, grads = code(self._product(rows, everyone), r, c, self.scalars)
            total, count = total + self._sum(loss), count + self._sum(number)
            for name, x in numbers.items():
                stats[name] = stats.get(name, 0) + self._sum(x)
            self._pull(rows, everyone, slope, grads, mirrored=False)
        return total.to(self.wide), count, stats

    def _tiles(self, height: int, width: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Reduce all tiles, finish, and score them again for the slopes."""
        found, where, overs = self._reduced(height, width)
        program = self.spec.program
        found = {**found, **{name: self.rows[name] for name in self.spec.of_row}}
        found = {**found, **{name: self.cols[name] for name in self.spec.of_col}}
        seeds = {name: x for name, x in found.items() if x.is_floating_point()}
        constants = {name: x for name, x in found.items() if name not in seeds}

        means = [self._weighted(mean) for mean in finished(program, found)]
        divisors = [None if len(means) == 1 else self._count(mean) for mean in means]

        def losses(given: Found) -> Tensor:
            sums = []
            for mean, divisor in zip(finished(program, {**given, **constants}), divisors, strict=True):
                loss = self._weighted(mean).loss.sum()
                sums.append(mean.share * (loss if divisor is None else loss / divisor.to(loss)))
            return sum(sums[1:], sums[0])

        outcome = self._summed(means)
        if self.spec.wanted:
            value, back = torch.func.vjp(losses, seeds)  # type: ignore[misc]
            (by,) = back(torch.ones_like(value))
            for name in [name for name in by if name not in overs]:
                place = f"row:{name}" if name in self.spec.of_row else f"col:{name}"
                if place in self.sums:
                    self.sums[place] += by[name]
            self._pull_tiles(height, width, by, {**found, **where}, overs)
        return outcome

    def _reduced(self, height: int, width: int) -> tuple[Found, Values, dict[str, Any]]:
        """What all terms are reduced to, positions of extremes, and along what each term is reduced."""
        code = self._code(fold)
        overs = {name: (monoid, over) for name, monoid, over, _ in self.spec.layout}
        strips: list[tuple[Values, Values]] = [({}, {}) for _ in equal_spans(len(self.a), height)]
        sums: dict[str, Tensor] = {}
        for block in self._blocks(pulling=False):
            for (rows, fresh), (here, at) in zip(equal_spans(len(self.a), height), strips, strict=True):
                for cols, new in self._columns(block, width):
                    r, c = self._tile_values(rows, fresh, cols, new)
                    for name, (value, place) in code(self._product(rows, cols), r, c, self.scalars).items():
                        monoid, over = overs[name]
                        if over == "row":
                            _merge_rows(here, at, name, monoid, value, None if place is None else place + cols.start)
                        elif over == "column":
                            self._merge_columns(sums, name, monoid, value, cols, new)
                        else:
                            sums[name] = value if name not in sums else merge(monoid, sums[name], value)
        rows_of: dict[str, list[Tensor]] = {}
        places: dict[str, list[Tensor]] = {}
        for (_, fresh), (here, at) in zip(equal_spans(len(self.a), height), strips, strict=True):
            for name, value in here.items():
                rows_of.setdefault(name, []).append(value[fresh:])
            for name, index in at.items():
                places.setdefault(name, []).append(index[fresh:])
        found = {name: torch.cat(values) for name, values in rows_of.items()}
        found = {name: self._across(x, overs[name][0], self.problem.shards) for name, x in found.items()}
        columns = {name: self._across(x, overs[name][0], self.problem.processes) for name, x in sums.items()}
        return {**found, **columns}, {name: torch.cat(x) for name, x in places.items()}, overs

    def _merge_columns(self, sums: Values, name: str, monoid: Any, value: Tensor, cols: slice, new: int) -> None:
        if name not in sums:
            empty = 0.0 if monoid == "total" else -torch.inf
            sums[name] = torch.full(
                (len(self.cols["place"]), *value.shape[1:]), empty, dtype=value.dtype, device=value.device
            )
        begin = cols.start + new
        sums[name][begin : cols.stop] = merge(monoid, sums[name][begin : cols.stop], value[new:])

    def _pull_tiles(self, height: int, width: int, by: Values, found: Values, overs: dict[str, Any]) -> None:
        code, one_set = self._code(slopes), self.spec.one_set
        for block in self._blocks(pulling=True):
            for rows, fresh in equal_spans(len(self.a), height):
                for cols, new in self._columns(block, width):
                    r, c = self._tile_values(rows, fresh, cols, new)
                    mine = self._cut(by, overs, rows, cols), self._cut(found, overs, rows, cols)
                    others = self._cut(by, overs, cols, rows), self._cut(found, overs, cols, rows)
                    theirs = others if one_set else None
                    slope, grads = code(self._product(rows, cols), r, c, self.scalars, mine, theirs)
                    self._pull(rows, cols, slope, grads, mirrored=one_set)

    def _blocks(self, *, pulling: bool) -> Iterator[tuple[int, int]]:
        """The references that are here, or round the ring everybody's in turn: from which one on, and how many."""
        ring = self.problem.ring
        if ring is None:
            yield 0, len(self.r)
            return
        for begin, held, goal in ring.blocks(self.r, self.grad_r if pulling else None):
            self.begin, self.held, self.goal = begin, held, goal
            self.theirs = self.held if self.problem.low is None else self.held.to(self.problem.low)
            yield self.begin, len(self.held)

    @staticmethod
    def _columns(block: tuple[int, int], width: int) -> list[tuple[slice, int]]:
        """Tiles of a block's columns, by position among all references."""
        begin, size = block
        if not size:
            return []
        return [(slice(begin + c.start, begin + c.stop), new) for c, new in equal_spans(size, width)]

    @staticmethod
    def _cut(values: Values, overs: dict[str, Any], rows: slice, cols: slice) -> Values:
        spans = {"row": rows, "column": cols}
        return {
            name: x if overs[name][1] == "all" else x[spans[overs[name][1]]]
            for name, x in values.items()
            if name in overs
        }

    # -- parts

    def _operands(self) -> tuple[Tensor, Tensor]:
        low = self.problem.low
        if low is None:
            return self.a, self.r
        mine = self.a.to(low)
        return mine, mine if self.spec.one_set else self.r.to(low)

    def _product(self, rows: slice, cols: slice) -> Tensor:
        here = slice(cols.start - self.begin, cols.stop - self.begin)
        theirs = self.theirs[here]
        if self.problem.unit_cols:
            theirs = unit_rows(self.held[here])[0].to(self.theirs.dtype)
        return multiply(self.mine[rows], theirs.flatten(0, -2).T)

    def _pull(self, rows: slice, cols: slice, slope: Tensor | None, grads: Values, *, mirrored: bool) -> None:
        """Turn slopes of a tile into gradients of its anchors and references."""
        for name, x in grads.items():
            kind = name.partition(":")[0]
            span: Any = {"row": rows, "col": cols, "scalar": ...}[kind]
            self.sums[name][span] += x
        if slope is None:
            return
        here = slice(cols.start - self.begin, cols.stop - self.begin)
        theirs, rate = self.held[here], None
        if self.problem.unit_cols:
            theirs, rate = unit_rows(theirs)
        low = slope.to(self.theirs.dtype)
        if self.grad_a is not None:
            self.grad_a[rows] += multiply(low, theirs.flatten(0, -2).to(low.dtype))
        goal = self.grad_a if self.spec.one_set else self.goal
        if mirrored or goal is None:
            return
        pulled = multiply(low.T, self.mine[rows]).view_as(theirs)
        if rate is not None:  # what is along a reference changes its length only
            pulled = (pulled - (pulled * theirs).sum(-1, keepdim=True) * theirs) * rate
        goal[here] += pulled

    def _tile_values(self, rows: slice, fresh: int, cols: slice, new: int) -> tuple[Values, Values]:
        """Values of a tile's rows and columns; those that an earlier tile had take no part."""
        r = {name: x[rows] for name, x in self.rows.items()}
        c = {name: x[cols] for name, x in self.cols.items()}
        if fresh:
            r["live"] = r["live"] & (torch.arange(len(r["live"]), device=self.a.device) >= fresh)
        if new:
            c["live"] = c["live"] & (torch.arange(len(c["live"]), device=self.a.device) >= new)
        return r, c

    def _weighted(self, mean: Mean) -> Mean:
        values = self.rows if mean.over == "row" else self.cols
        weight = values.get("weight") if mean.over == "row" else None
        loss, number, stats = weighted(mean, values["live"], weight)
        return Mean(loss, number, mean.over, mean.share, stats)

    def _count(self, mean: Mean) -> Tensor:
        """What a mean divides by, over all processes; at least 1 where there is nothing."""
        number = self._sum(mean.count.detach())
        number = number if mean.over == "column" else sum_of(number, self.problem.processes)
        return torch.where(number > 0, number, 1.0)

    def _summed(self, means: Sequence[Mean]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Total, count and statistics of this process."""
        stats: dict[str, Tensor] = {}
        size = self.problem.processes.size
        for mean in means:
            for name, x in mean.stats.items():
                stats[name] = stats.get(name, 0) + self._sum(x) / (size if mean.over == "column" else 1)
        if len(means) == 1:
            return self._sum(means[0].loss).to(self.wide), self._sum(means[0].count), stats
        total = self._zero()
        for mean in means:
            part = mean.share * self._sum(mean.loss) / self._count(mean)
            total = total + (part / size if mean.over == "column" else part)
        return total.to(self.wide), self._zero() + 1.0 / size, stats

    def _across(self, x: Tensor, monoid: Any, group: Processes) -> Tensor:
        """The same over several processes."""
        if group.size == 1:
            return x
        match monoid:
            case "total":
                return sum_of(x, group)
            case "lse":
                peak = largest_of(x, group)
                safe = torch.where(peak > -torch.inf, peak, 0.0)
                return sum_of((x - safe).exp(), group).log() + safe
            case "largest":
                return largest_of(x, group)
            case _:
                return -largest_of(-x, group)

    def _sum(self, x: Tensor) -> Tensor:
        """Sum in float64 where the device has it."""
        return x.sum() if x.device.type == "mps" else x.sum(dtype=torch.float64)

    def _zero(self) -> Tensor:
        return self._sum(self.a.new_zeros(1, dtype=self.wide))

    def _nothing(self) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        names = stat_names(self.spec.program, self.spec.of_row, self.spec.of_col)
        return self._zero().to(self.wide), self._zero(), {name: self._zero() for name in names}

    def _code(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return compiled(function, self.spec) if self.problem.budget.compiled else partial(function, self.spec)


def _merge_rows(here: Values, at: Values, name: str, monoid: Any, value: Tensor, place: Tensor | None) -> None:
    """Take a tile's part of some rows in: values, and positions of extremes; among equals the first stays."""
    before = here.get(name)
    if place is not None:
        better = None if before is None else (value > before if monoid == "largest" else value < before)
        at[name] = place if better is None else torch.where(better, place, at[name])
    here[name] = value if before is None else merge(monoid, before, value)
