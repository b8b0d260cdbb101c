"""Passes of a program over anchors × references: matrix products, and tile code between them.

Four plans, the same numbers:

- *extremes*: only the farthest and nearest references of a row have a gradient. One product; O(rows) pairs are compared
  again, coordinate by coordinate.
- *local*: a pair's score gradient is known at once. Two products for one set, three for two.
- *strips*: whole rows of scores stay until their score gradients are known. Three products.
- *tiles*: rows are too long to stay, or the loss has terms over columns or several means. Scores are computed twice:
  three products for one set (a tile serves both mirror images), four for two.

Where Triton's kernels are asked for and can be printed, the last three are one kernel or two for each pass, and no tile
is in memory either; see `tuplet.engine.tritonkernels`.

Nothing of the size anchors × references is made, no value is read by the host, and all tiles of a pass have one shape:
the last one begins earlier and leaves out what was there before.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.once import multiplied
from tuplet.engine.plain import vjp
from tuplet.engine.problem import HEAD_ENTRIES, Problem
from tuplet.engine.program import Found, Mean, Monoid, merge
from tuplet.engine.tilecode import (
    Values,
    asked_for,
    entry_grads,
    finished,
    local_pass,
    reduce_tile,
    replaced,
    score_grads,
    whole_rows,
)
from tuplet.engine.tritonpasses import Kernels, kernels_of
from tuplet.engine.work import Sums, Work

LEAST_ROWS = 64
"""Strips with fewer rows than this wait for memory; tiles that are scored twice take less time then."""

AT_ONCE = 2**18
"""Pairs up to which all that is computed for them stays until the gradients are known."""

Overs = dict[str, tuple[Monoid, str]]
"""How each term is reduced, and along what."""


class Pass(torch.autograd.Function):
    """Forward reduces, finishes and accumulates gradients; backward multiplies them by the incoming number."""

    @staticmethod
    def forward(ctx: Any, problem: Problem, a: Tensor, r: Tensor, *values: Tensor) -> Any:
        """Total, count and statistics of this process."""
        asked = ctx.needs_input_grad[1:]
        work = Work(problem, a, r, values, asked)
        total, count, stats = _run(work)
        work.finish()
        problem.stat_names[:] = list(stats)
        ctx.save_for_backward(a, r, *values, *work.gradients(asked))
        outputs = (total, count, *stats.values())
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        """The gradients that forward accumulated."""
        return (None, *multiplied(ctx.saved_tensors, grad))


def _run(work: Work) -> Sums:
    """The plan that takes the fewest products in the memory that there is."""
    problem, (n, m) = work.problem, (len(work.a), len(work.cols["place"]))
    if problem.ring is not None and m and not n:  # pass the others' rows on, and count with them
        for _ in _blocks(work, with_grad=False):
            pass
        nothing = work.nothing()
        for _ in _blocks(work, with_grad=True) if work.spec.needs_grad else ():
            pass
        return nothing
    if not n or not m:
        return work.nothing()
    if problem.ring is not None:
        entries = problem.budget.entries
        height = min(n, problem.budget.tile_rows, entries)
        return _in_tiles(work, height, max(1, entries // height))
    return _here(work)


def _here(work: Work) -> Sums:
    """The same where all references are here."""
    problem, program, (n, m) = work.problem, work.spec.program, (len(work.a), len(work.r))
    entries, crossing = problem.budget.entries, _crosses_rows(work)
    local = program.local and not program.whole_rows and not crossing and not problem.unit_cols
    if (kernels := kernels_of(work, local=local)) is not None:
        return _by_kernels(work, kernels, local=local)
    columnwise = program.means > 1 or problem.shards.size > 1 or crossing
    if problem.unit_cols:  # beside class weights and their gradient little else is to be held
        entries = min(entries, HEAD_ENTRIES) // work.spec.centers
    rows = entries // m
    once = local or (columnwise and problem.processes.size == 1)
    if once and not program.whole_rows and _is_one_tile(work, n * m, entries):
        return _at_once(work)
    if local:
        return _local(work, min(n, max(1, rows)))
    if program.whole_rows or (rows >= min(n, LEAST_ROWS) and not columnwise):
        return _strips(work, min(n, max(1, rows)))
    height = min(n, problem.budget.tile_rows, max(1, entries))
    return _in_tiles(work, height, min(m, max(1, entries // height)))


def _is_one_tile(work: Work, pairs: int, entries: int) -> bool:
    """Whether all that is computed for the matrix may stay: its terms are computed once then, and not for each pass."""
    problem = work.problem
    if problem.scored_by is not None:
        return pairs <= min(entries, AT_ONCE)
    return pairs <= entries and problem.shards.size == 1 and not problem.budget.compiled  # a compiler fuses each pass


def _crosses_rows(work: Work) -> bool:
    """Whether a term is reduced over columns or the whole matrix, of which a strip of rows knows its part only."""
    crossing = {over for _, _, over, _ in work.spec.layout} - {"row"}
    if crossing and work.spec.program.whole_rows:
        raise TypeError("a program that needs whole rows has terms over rows only")
    if "all" in crossing and work.problem.processes.size > 1:
        raise TypeError("terms over the whole matrix are not summed over several processes")
    return bool(crossing)


def _local(work: Work, height: int) -> Sums:
    """Every pair on its own: reduction and gradients at once, whole rows or pieces of them."""
    n, m = len(work.a), len(work.r)
    width = m if height > 1 else min(m, work.problem.budget.entries)
    code = work.code(local_pass)
    pieces = [(cols, work.col_values(cols, new)) for cols, new in work.spans(m, width)]
    parts: dict[str, list[Tensor]] = {}
    for rows, fresh in work.spans(n, height):
        found: dict[str, Tensor] = {}
        own = work.row_values(rows, fresh)
        for cols, theirs in pieces:
            tile, grad_scores, grads = code(work.product(rows, cols), own, theirs, work.scalars_of(rows, cols))
            for name, (value, _) in tile.items():
                found[name] = value if name not in found else found[name] + value
            work.backward(rows, cols, grad_scores, grads, mirrored=work.spec.one_set)
        for name, value in found.items():
            parts.setdefault(name, []).append(value[fresh:] if fresh else value)
    return _finished(work, {name: _joined(values) for name, values in parts.items()})


def _finished(work: Work, found: Values) -> Sums:
    whole = {name: work.across(x, "total", work.problem.shards) for name, x in found.items()}
    return work.summed([work.weighted(mean) for mean in finished(work.spec.program, whole)])


def _strips(work: Work, height: int) -> Sums:
    """Whole rows of scores: reduced, finished and turned into score gradients while they are here."""
    code = work.code(whole_rows)
    losses: list[Tensor] = []
    counts: list[Tensor] = []
    stats: dict[str, list[Tensor]] = {}
    all_columns = slice(0, len(work.r))
    theirs = work.col_values(all_columns, 0)
    for rows, fresh in work.spans(len(work.a), height):
        own = work.row_values(rows, fresh)
        loss, count, numbers, grad_scores, grads = code(
            work.product(rows, all_columns), own, theirs, work.scalars_of(rows, all_columns)
        )
        losses.append(loss)
        counts.append(count)
        for name, x in numbers.items():
            stats.setdefault(name, []).append(x)
        work.backward(rows, all_columns, grad_scores, grads, mirrored=False)
    sums = {name: work.sum(_joined(values)) for name, values in stats.items()}
    return work.sum(_joined(losses)).to(work.wide), work.sum(_joined(counts)), sums


def _at_once(work: Work) -> Sums:
    """All terms of one tile, reduced over rows, columns and the whole of it while everything is here."""
    spec, whole = work.spec, (slice(0, len(work.a)), slice(0, len(work.r)))
    rows, cols, scalars = work.row_values(whole[0], 0), work.col_values(whole[1], 0), work.scalars_of(*whole)

    def losses(tensors: Values) -> tuple[Tensor, list[Mean]]:
        r, c, s = replaced(tensors, rows, cols, scalars)
        found = reduce_tile(spec, tensors["product"], r, c, s)
        values = {name: value for name, (value, _) in found.items()}
        values |= {name: r[name] for name in spec.of_row} | {name: c[name] for name in spec.of_col}
        means = [work.weighted(mean) for mean in finished(spec.program, values)]
        return _value(means, _counts(work, means)), means

    given = {"product": work.product(*whole)} | asked_for(spec, rows, cols, scalars)
    if not spec.needs_grad:
        return work.summed(losses(given)[1])
    value, back, means = vjp(losses, given, has_aux=True)
    (grads,) = back(torch.ones_like(value))
    work.backward(*whole, *entry_grads(spec, grads.pop("product"), grads), mirrored=False)
    with torch.no_grad():
        return work.summed(means)


def _counts(work: Work, means: Sequence[Mean]) -> list[Tensor] | None:
    """What each of several means divides by; None for a single one, which is divided at the end."""
    return None if len(means) == 1 else [work.count(mean) for mean in means]


def _value(means: Sequence[Mean], counts: Sequence[Tensor] | None) -> Tensor:
    """Sum of the losses of one mean, or of several each divided by its count."""
    if counts is None:
        return means[0].loss.sum()
    sums = [mean.share * mean.loss.sum() / number.to(mean.loss) for mean, number in zip(means, counts, strict=True)]
    return sum(sums[1:], sums[0])


def _in_tiles(work: Work, height: int, width: int) -> Sums:
    """Reduce all tiles, finish, and score them again for the score gradients."""
    return _twice(work, partial(_reduced, work, height, width), partial(_backward_tiles, work, (height, width)))


def _twice(work: Work, reduced: Callable[[], tuple[Found, Values]], backward: Callable[[Values, Found], None]) -> Sums:
    """Reduce all pairs, finish, and pass over them again for the score gradients."""
    found, where = reduced()
    terms = set(found)
    program = work.spec.program
    found = {**found, **{name: work.rows[name] for name in work.spec.of_row}}
    found = {**found, **{name: work.cols[name] for name in work.spec.of_col}}
    seeds = {name: x for name, x in found.items() if x.is_floating_point()}
    constants = {name: x for name, x in found.items() if name not in seeds}

    means = [work.weighted(mean) for mean in finished(program, found)]
    counts = _counts(work, means)  # also without a gradient: processes without rows count as often

    def losses(given: Found) -> Tensor:
        return _value([work.weighted(mean) for mean in finished(program, {**given, **constants})], counts)

    outcome = work.summed(means)
    if work.spec.needs_grad:
        value, back = vjp(losses, seeds)
        (by,) = back(torch.ones_like(value))
        for name in by.keys() - terms:
            place = f"row:{name}" if name in work.spec.of_row else f"col:{name}"
            if place in work.sums:
                work.sums[place] += by[name]
        backward(by, {**found, **where})
    return outcome


def _reduced(work: Work, height: int, width: int) -> tuple[Found, Values]:
    """What all terms are reduced to, and positions of extremes."""
    code, overs = work.code(reduce_tile), _overs(work)
    spans = work.spans(len(work.a), height)
    strips: list[dict[str, list[tuple[Tensor, Tensor | None]]]] = [{} for _ in spans]
    sums: dict[str, Tensor] = {}
    for block in _blocks(work, with_grad=False):
        pieces = [(cols, new, work.col_values(cols, new)) for cols, new in _columns(work, block, width)]
        for (rows, fresh), here in zip(spans, strips, strict=True):
            own = work.row_values(rows, fresh)
            for cols, new, theirs in pieces:
                for name, (value, place) in code(
                    work.product(rows, cols), own, theirs, work.scalars_of(rows, cols)
                ).items():
                    monoid, over = overs[name]
                    if over == "row":
                        at = None if place is None else place + cols.start
                        here.setdefault(name, []).append((value, at))
                    elif over == "column":
                        _merge_columns(work, sums, name, monoid, value, cols, new)
                    else:
                        sums[name] = value if name not in sums else merge(monoid, sums[name], value)
    rows_of: dict[str, list[Tensor]] = {}
    places: dict[str, list[Tensor]] = {}
    for (_, fresh), here in zip(spans, strips, strict=True):
        for name, parts in here.items():
            value, index = _together(overs[name][0], parts)
            rows_of.setdefault(name, []).append(value[fresh:])
            if index is not None:
                places.setdefault(name, []).append(index[fresh:])
    found = {**{name: _joined(values) for name, values in rows_of.items()}, **sums}
    return _across(work, found), {name: _joined(x) for name, x in places.items()}


def _overs(work: Work) -> Overs:
    return {name: (monoid, over) for name, monoid, over, _ in work.spec.layout}


def _across(work: Work, found: Found) -> Found:
    """The same over several processes: those that have other references of the same rows, or other rows."""
    overs, groups = _overs(work), {"row": work.problem.shards}
    return {
        name: work.across(x, overs[name][0], groups.get(overs[name][1], work.problem.processes))
        for name, x in found.items()
    }


def _by_kernels(work: Work, kernels: Kernels, *, local: bool) -> Sums:
    """All pairs by Triton's kernels: one for each owner of a gradient, and before them one for sums if need be."""
    if local:
        return _finished(work, {name: value for name, (value, _) in kernels.local().items()})

    def reduced() -> tuple[Found, Values]:
        found = kernels.reduced()
        places = {name: place for name, (_, place) in found.items() if place is not None}
        return _across(work, {name: value for name, (value, _) in found.items()}), places

    return _twice(work, reduced, kernels.backward)


def _merge_columns(work: Work, sums: Values, name: str, monoid: Monoid, value: Tensor, cols: slice, new: int) -> None:
    if name not in sums:
        empty = 0.0 if monoid == "total" else -torch.inf
        sums[name] = torch.full(
            (len(work.cols["place"]), *value.shape[1:]), empty, dtype=value.dtype, device=value.device
        )
    begin = cols.start + new
    sums[name][begin : cols.stop] = merge(monoid, sums[name][begin : cols.stop], value[new:])


def _backward_tiles(work: Work, size: tuple[int, int], by: Values, found: Found) -> None:
    """Score all tiles again, and turn their score gradients into gradients."""
    code, one_set, overs = work.code(score_grads), work.spec.one_set, _overs(work)
    for block in _blocks(work, with_grad=True):
        pieces = [(cols, work.col_values(cols, new)) for cols, new in _columns(work, block, size[1])]
        for rows, fresh in work.spans(len(work.a), size[0]):
            own = work.row_values(rows, fresh)
            for cols, theirs in pieces:
                mine = _cut(by, overs, rows, cols), _cut(found, overs, rows, cols)
                mirror = (_cut(by, overs, cols, rows), _cut(found, overs, cols, rows)) if one_set else None
                grad_scores, grads = code(
                    work.product(rows, cols), own, theirs, work.scalars_of(rows, cols), mine, mirror
                )
                work.backward(rows, cols, grad_scores, grads, mirrored=one_set)


def _blocks(work: Work, *, with_grad: bool) -> Iterator[tuple[int, int]]:
    """The references that are here, or round the ring everybody's in turn: from which one on, and how many."""
    ring = work.problem.ring
    if ring is None:
        yield 0, len(work.r)
        return
    for begin, held, goal in ring.blocks(work.r, work.grad_r if with_grad else None):
        work.begin, work.held, work.goal = begin, held, goal
        work.theirs = work.lowered(held)
        yield begin, len(held)


def _columns(work: Work, block: tuple[int, int], width: int) -> list[tuple[slice, int]]:
    """Tiles of a block's columns, by position among all references."""
    begin, size = block
    if not size:
        return []
    return [(slice(begin + c.start, begin + c.stop), new) for c, new in work.spans(size, width)]


def _cut(values: Found, overs: Overs, rows: slice, cols: slice) -> Values:
    spans = {"row": rows, "column": cols}
    return {
        name: x if overs[name][1] == "all" else x[spans[overs[name][1]]] for name, x in values.items() if name in overs
    }


def _together(monoid: Monoid, parts: list[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """What tiles of the same rows are reduced to; of extremes also the position, the first among equals."""
    if len(parts) == 1:
        return parts[0]
    values = torch.stack([value for value, _ in parts])
    if monoid == "total":
        return values.sum(0), None
    if monoid == "lse":
        return values.logsumexp(0), None
    best = values.max(0) if monoid == "largest" else values.min(0)
    tile = (values == best.values).to(torch.uint8).argmax(0, keepdim=True)  # the first, as max and min do not promise
    places = torch.stack([place for _, place in parts if place is not None])
    return best.values, places.gather(0, tile)[0]


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
