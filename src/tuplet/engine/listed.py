"""The same reduction over per-anchor candidate lists: sampled noise, mined negatives.

Every anchor has its own list of rows of a table, of equal length, and the first of them are its positives.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from tuplet.engine.execution import DEFAULT, Execution, uses_tiles
from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_reduce_sum, reduce_sum
from tuplet.engine.once import multiplied, refuse_transforms
from tuplet.engine.reduction import Outcome, Reduction
from tuplet.engine.rowcode import Code, Leading, row_code, scores_at_hand
from tuplet.engine.tiles import spans
from tuplet.errors import ShapeError
from tuplet.geometry import Dot, Geometry, geometry_of
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName

BUDGET = 2**22
"""Numbers of gradients of table rows, entry by entry, held at once: 16 MiB in float32."""

Lists = Callable[[slice], Tensor]
"""Positions in the table of some anchors' candidates, (anchors, candidates)."""


def list_products(a: Tensor, table: Tensor, positions: Tensor) -> Tensor:
    """Inner products of each anchor with the rows of its list, (anchors, entries); no row is copied.

    Args:
        a: (anchors, dim).
        table: (rows, dim), of the same type.
        positions: (anchors, entries).
    """
    if not positions.numel():
        return a.new_zeros(positions.shape)
    owner = torch.arange(len(a), device=a.device).repeat_interleave(positions.shape[1])
    begins = torch.arange(0, positions.numel(), positions.shape[1], device=a.device)
    found: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(  # noqa: SLF001  # the sum turned round
        a.contiguous(), table, positions.flatten(), begins, owner, 0
    )
    return found.view(positions.shape)


def list_sums(factors: Tensor, table: Tensor, positions: Tensor) -> Tensor:
    """Sum of the rows of each list, each times its factor, (lists, dim); no row is copied."""
    if not positions.numel():
        return table.new_zeros(len(positions), table.shape[1])
    return embedding_bag(positions, table, per_sample_weights=factors.contiguous(), mode="sum")


def listed(
    reduction: Reduction[Any],
    anchors: Tensor,
    table: Tensor,
    lists: Tensor | Lists,
    geometry: GeometryName | Geometry = "dot",
    *,
    positives: int = 1,
    scale: float | Tensor = 1.0,
    offset: Tensor | None = None,
    weights: Tensor | None = None,
    processes: Processes = SINGLE_PROCESS,
    stats: bool = False,
    execution: Execution | None = None,
) -> Outcome:
    """Reduce the scores of each anchor with its own candidates to a loss.

    Args:
        reduction: What a list of scores becomes.
        anchors: (anchors, dim).
        table: Rows that candidates are taken from, (rows, dim).
        lists: Positions in the table, (anchors, candidates); the same row may come several times. A function of a span
            of anchors gives theirs, so that the whole is never held.
        geometry: "dot" or "cosine".
        positives: So many leading candidates are positives.
        scale: Multiplies scores; a number or a tensor without shape.
        offset: Added to the scores, (anchors, candidates) or anything that broadcasts to it. An infinite one marks a
            place without a candidate.
        weights: One per anchor.
        processes: Who computes the loss together.
        stats: True to add mean scores of positives and negatives to what is returned.
        execution: How it is carried out, see `Execution`.

    Returns:
        Sum of losses (differentiable), what the mean divides by, and statistics.

    Raises:
        ShapeError: For geometries other than similarities, or lists that do not fit the anchors.
    """
    refuse_transforms()
    geometry = geometry_of(geometry)
    candidates = _length(lists, len(anchors), geometry)
    wide = wide_dtype(anchors, table)
    with torch.autocast(anchors.device.type, enabled=False):
        a, rows = geometry.prepare(anchors.to(wide), table.to(wide))
        a = a * scale
        if reduction.reads == "distance":
            a = -a
        offset = None if offset is None else offset.to(wide).expand(len(anchors), candidates)
        pick = lists.__getitem__ if isinstance(lists, Tensor) else lists
        execution = execution or DEFAULT
        _, _, compare = Leading(0, candidates, positives).keys()
        code = row_code(reduction, compare, a, len(a) * candidates, execution)
        total, count, sums = _Listed.apply(  # type: ignore[no-untyped-call]
            a, rows, offset, pick, (candidates, positives), weights, stats, code, execution
        )
    stats_of = named_sums(all_reduce_sum(sums, processes), scale) if stats else {}
    return Outcome(reduce_sum(total, processes), all_reduce_sum(count, processes), stats_of)


def _length(lists: Tensor | Lists, anchors: int, geometry: Geometry) -> int:
    """How many candidates each anchor has."""
    given = lists if isinstance(lists, Tensor) else lists(slice(0, 0))
    if not isinstance(geometry, Dot) or given.ndim != 2 or (given is lists and len(given) != anchors):
        raise ShapeError(
            f"lists have shape {tuple(given.shape)} for {anchors} anchors, the geometry is {type(geometry).__name__}.",
            hint="Give every anchor one list of equal length, and use the geometry 'dot' or 'cosine'.",
            reference="candidate-lists",
        )
    return given.shape[1]


def _refuse_outside(positions: Tensor, count: int) -> None:
    """A kernel would read what lies beside the table."""
    if bool(((positions < 0) | (positions >= count)).any()):
        raise ShapeError(
            f"lists name rows {int(positions.min())} to {int(positions.max())} of a table of {count}.",
            hint="Give positions from 0 up to, and without, the number of rows.",
            reference="candidate-lists",
        )


def named_sums(sums: Tensor, scale: float | Tensor) -> dict[str, Tensor]:
    """Statistics by name, scores as they were before the scale."""
    positive, positives, negative, negatives, rows = sums
    factor = torch.as_tensor(scale, dtype=sums.dtype, device=sums.device).detach()
    return {
        "positive_score": positive / factor,
        "positives": positives,
        "negative_score": negative / factor,
        "negatives": negatives,
        "scale": factor * rows,
        "rows": rows,
    }


class _Listed(torch.autograd.Function):
    """Some anchors' scores at a time; gradients are summed per row of the table."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        table: Tensor,
        offset: Tensor | None,
        pick: Lists,
        sizes: tuple[int, int],
        weights: Tensor | None,
        stats: bool,
        code: Code,
        execution: Execution,
    ) -> Any:
        candidates, positives = sizes
        need_a, need_table, need_offset = ctx.needs_input_grad[:3]
        grad_a = torch.zeros_like(a) if need_a else None
        grad_table = torch.zeros_like(table) if need_table else None
        grad_offset = a.new_zeros(len(a), candidates) if need_offset else None
        losses, numbers = [a.new_zeros(0)], [a.new_zeros(0)]  # a process may have no anchor
        sums = a.new_zeros(5, dtype=torch.float64)
        for rows in spans(len(a), max(1, scores_at_hand(a, execution) // max(1, candidates))):
            positions = pick(rows)
            if not uses_tiles(execution, a.device):  # where asking costs nothing
                _refuse_outside(positions, len(table))
            scores = list_products(a[rows], table, positions)
            if stats:
                here = torch.ones_like(scores) if offset is None else offset[rows].isfinite().to(scores)
                sums += _sums(scores, here, positives, None if weights is None else weights[rows])
            if offset is not None:
                scores = scores + offset[rows]
            loss, number, grad_scores = code(scores, Leading(len(scores), candidates, positives, a.device))
            losses.append(loss)
            numbers.append(number)
            if not (need_a or need_table or need_offset):
                continue
            grad_scores = grad_scores if weights is None else grad_scores * weights[rows, None].to(grad_scores.dtype)
            if grad_a is not None:
                grad_a[rows] = list_sums(grad_scores, table, positions)
            if grad_table is not None:
                _add_entries(grad_table, positions, grad_scores, a[rows], execution)
            if grad_offset is not None:
                grad_offset[rows] = grad_scores
        loss, count = torch.cat(losses).double(), torch.cat(numbers).double()
        if weights is not None:
            loss, count = loss * weights.double(), count * weights.double()
        ctx.save_for_backward(a, table, offset, grad_a, grad_table, grad_offset)
        outputs = (loss.sum().to(a.dtype), count.sum(), sums)
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        return (*multiplied(ctx.saved_tensors, grad), None, None, None, None, None, None)


def _add_entries(table: Tensor, positions: Tensor, factors: Tensor, a: Tensor, execution: Execution) -> None:
    """Add each anchor, times the factor of an entry of its list, to that entry's row of the table."""
    most = max(BUDGET, execution.memory // (4 * a.element_size())) if uses_tiles(execution, a.device) else BUDGET
    for some in spans(len(a), max(1, most // max(1, positions.shape[1] * a.shape[1]))):
        each = factors[some, :, None] * a[some, None, :]
        add_rows(table, positions[some].reshape(-1), each.reshape(-1, a.shape[1]))


def add_rows(table: Tensor, positions: Tensor, rows: Tensor) -> None:
    """Add rows to those of a table; in a fixed order on every device."""
    if table.device.type == "cpu":
        table.index_add_(0, positions, rows)
    else:
        table.index_put_((positions,), rows, accumulate=True)


def _sums(scores: Tensor, here: Tensor, positives: int, weights: Tensor | None) -> Tensor:
    """Scores and number of positives, the same of negatives, and number of rows, (5,)."""
    scored = scores * here
    parts = [x[:, part].sum(1) for part in (slice(positives), slice(positives, None)) for x in (scored, here)]
    each = torch.stack([*parts, torch.ones_like(parts[0])]).double()
    return (each if weights is None else each * weights.double()).sum(1)
