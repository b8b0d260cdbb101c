"""Plain functions of whole rows of scores: some rows at a time, computed again in backward.

For what is no row program: several stages, where a pair reads what other rows found, and histograms. Memory is that of
the rows at hand; the result does not depend on how many these are, but for rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.once import multiplied
from tuplet.engine.program import Pair
from tuplet.engine.tilecode import distances
from tuplet.engine.tiles import spans
from tuplet.geometry import Euclidean, Geometry, SquaredEuclidean, geometry_of
from tuplet.keys import Compare, Keys
from tuplet.relation import Relation
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName

AT_ONCE = 2**18
"""Distances of which all that is computed stays for the gradient: computing them again takes as long."""

STAYING = 32
"""So many times as many distances may be held at once as may stay with all that is computed for them."""

Rowwise = Callable[[Tensor, Pair], tuple[Tensor, ...]]
"""Of distances (rows, references) and what is known of the pairs: numbers of each row, or sums."""


def rowwise(
    function: Rowwise,
    anchors: Tensor,
    references: Tensor,
    relation: Relation,
    geometry: GeometryName,
    *,
    entries: int,
    summed: bool,
    of_row: Mapping[str, Tensor] | None = None,
    of_col: Mapping[str, Tensor] | None = None,
    is_prepared: bool = False,
) -> tuple[Tensor, ...]:
    """What a function finds in whole rows of distances; differentiable once.

    Args:
        function: Of distances (1 - s for a cosine, -s for a dot product) and pairs; it is called with some rows at a
            time, and again in backward.
        anchors: (anchors, dim).
        references: (references, dim). The same tensor for one set.
        relation: Who is whose positive, negative or neither.
        geometry: How two embeddings are compared.
        entries: Most distances that are held at once; a row is held in any case.
        summed: True to add up what the rows at a time give; False to join numbers of rows.
        of_row: Values of anchors by name, (anchors,) or (anchors, k); differentiable.
        of_col: The same of references.
        is_prepared: True if anchors and references are what the geometry makes of them, see `prepared`.

    Returns:
        As many tensors as the function returns.
    """
    kind = geometry_of(geometry)
    a, r = (anchors, references) if is_prepared else prepared(anchors, references, geometry)
    row_keys, col_keys, compare = relation.keys()
    names = tuple(f"row:{name}" for name in of_row or {}) + tuple(f"col:{name}" for name in of_col or {})
    values = (*(of_row or {}).values(), *(of_col or {}).values())
    blocks = tuple(spans(len(a), max(1, entries // max(1, len(r))))) or (slice(0, 0),)
    plan = _Plan(function, kind, row_keys, col_keys, compare, relation.first, names, blocks, summed)
    with torch.autocast(a.device.type, enabled=False):
        if len(a) * len(r) <= max(min(AT_ONCE, entries), entries // STAYING):
            return tuple(plan.found(slice(0, len(a)), a, r, values))
        return tuple(_Rowwise.apply(plan, a, r, *values))  # type: ignore[no-untyped-call]


def prepared(anchors: Tensor, references: Tensor, geometry: GeometryName) -> tuple[Tensor, Tensor]:
    """Both sets in the accumulation type and as a geometry compares them, for several calls; one set stays one."""
    wide = wide_dtype(anchors, references)
    a = anchors.to(wide)
    return geometry_of(geometry).prepare(a, a if references is anchors else references.to(wide))


@dataclass(frozen=True, eq=False)
class _Plan:
    function: Rowwise
    geometry: Geometry
    row_keys: Keys
    col_keys: Keys
    compare: Compare
    first: int | None
    names: tuple[str, ...]
    blocks: tuple[slice, ...]
    summed: bool

    def found(self, rows: slice, a: Tensor, r: Tensor, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What the function finds in some rows; `a` and values of rows are theirs alone."""
        place = torch.arange(len(r), device=r.device)
        down = {name: x[rows, None] for name, x in self.row_keys.items()}
        across = {name: x[None] for name, x in self.col_keys.items()} | {"place": place[None]}
        positive, negative, distance = self.compare(down, across)
        live = down["live"].expand(len(a), len(r))
        live = live & across["live"] if "live" in across else live
        position = torch.arange(len(a), device=a.device)[:, None] + rows.start
        if self.first is not None:
            live = live & (position + self.first != place)
        named = dict(zip(self.names, values, strict=True))
        of_row = {name[4:]: x[:, None] for name, x in named.items() if name.startswith("row:")}
        of_col = {name[4:]: x[None] for name, x in named.items() if name.startswith("col:")}
        pair = Pair(positive & live, negative & live, position, place[None], distance, None, of_row, of_col)
        return self.function(self._distances(a, r), pair)

    def cut(self, rows: slice, a: Tensor, values: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Anchors and values, of these rows where they are of rows."""
        own = (x[rows] if name.startswith("row:") else x for name, x in zip(self.names, values, strict=True))
        return a[rows], *own

    def add_gradients(
        self, rows: slice, given: Sequence[Tensor], grads: Sequence[Tensor], goals: Sequence[Tensor | None]
    ) -> None:
        """Compute some rows once more, and add what they give to the gradients of anchors, references and values."""
        own, *cut = self.cut(rows, given[0], tuple(given[2:]))
        leaves = [x.detach().requires_grad_(x.is_floating_point()) for x in (own, given[1], *cut)]
        with torch.enable_grad():
            found = self.found(rows, leaves[0], leaves[1], tuple(leaves[2:]))
        of_rows = [grad if self.summed else grad[rows] for grad in grads]
        asked = [pair for pair in zip(found, of_rows, strict=True) if pair[0].requires_grad]
        wanted = [at for at, goal in enumerate(goals) if goal is not None]
        if not asked or not wanted:
            return
        outputs, by = zip(*asked, strict=True)
        parts = torch.autograd.grad(outputs, [leaves[at] for at in wanted], by, allow_unused=True)
        for at, part in zip(wanted, parts, strict=True):
            goal, is_own = goals[at], at == 0 or (at > 1 and self.names[at - 2].startswith("row:"))
            if part is not None and goal is not None:
                goal[rows if is_own else slice(None)] += part

    def _distances(self, a: Tensor, r: Tensor) -> Tensor:
        """As tile code has them."""
        product = a @ r.T
        if not isinstance(self.geometry, SquaredEuclidean):
            return self.geometry.similarity_offset - product
        size = a.square().sum(1)[:, None] + r.square().sum(1)
        return distances(product, size, plain=isinstance(self.geometry, Euclidean))


class _Rowwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, a: Tensor, r: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        ctx.plan = plan
        ctx.save_for_backward(a, r, *values)
        parts = []
        for rows in plan.blocks:
            own, *cut = plan.cut(rows, a, values)
            parts.append(plan.found(rows, own, r, tuple(cut)))
        columns = [list(each) for each in zip(*parts, strict=True)]
        return tuple(torch.stack(each).sum(0) if plan.summed else torch.cat(each) for each in columns)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        plan, given = ctx.plan, ctx.saved_tensors
        goals = [torch.zeros_like(x) if need else None for x, need in zip(given, ctx.needs_input_grad[1:], strict=True)]
        with torch.autocast(given[0].device.type, enabled=False):
            for rows in plan.blocks:
                plan.add_gradients(rows, given, grads, goals)
        return None, *multiplied([*given, *goals], given[0].new_ones(()))
