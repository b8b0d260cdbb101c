"""The same reduction over per-anchor candidate lists: sampled noise, mined negatives, latents of one time.

Every anchor has its own list of rows of a table, of equal length, and the first of them are its positives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tuplet.engine.compiling import compiled
from tuplet.engine.execution import DEFAULT, Execution, uses_tiles
from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_reduce_sum, reduce_sum
from tuplet.engine.once import multiplied, refuse_transforms
from tuplet.engine.reduction import Outcome, Reduction, Tile
from tuplet.engine.tilecode import Spec, layout, whole_rows
from tuplet.engine.tiles import spans
from tuplet.errors import ShapeError
from tuplet.geometry import Dot, Geometry, geometry_of
from tuplet.keys import Compare, Keys
from tuplet.relation import Entries, Masks
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName

BUDGET = 2**22
"""Numbers of gathered candidates held at once: 16 MiB in float32."""

Lists = Callable[[slice], Tensor]
"""Positions in the table of some anchors' candidates, (anchors, candidates)."""


Code = Callable[[Tensor, slice], tuple[Tensor, Tensor, Tensor]]
"""Scores of some lists, and which anchors they belong to -> losses, counts and score gradients."""


@dataclass(frozen=True)
class Leading(Masks):
    """The first `positives` entries of each list are positive, the others negative."""

    anchors: int
    references: int
    positives: int = 1
    device: torch.device | None = None
    first: int | None = None

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Compare places in the list."""
        place = torch.arange(cols.start, cols.stop, device=self.device) < self.positives
        positive = place.expand(rows.stop - rows.start, -1)
        return positive, ~positive

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries]:
        """The leading entries, row by row."""
        del cols
        count = rows.stop - rows.start
        i = torch.arange(count, device=self.device).repeat_interleave(self.positives)
        j = torch.arange(self.positives, device=self.device).repeat(count)
        return Entries(i, j), Entries(i[:0], i[:0])

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """Places in the list tell positives."""
        live = torch.ones(self.anchors, dtype=torch.bool, device=self.device or torch.device("cpu"))
        return {"live": live}, {}, _Places(self.positives)


@dataclass(frozen=True)
class _Places:
    positives: int

    def __call__(self, rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
        positive = (cols["place"] < self.positives) & rows["live"]
        return positive, ~positive, None


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
        code, budget = _plan(reduction, (len(a), candidates, positives), a, execution or DEFAULT)
        total, count, sums = _Listed.apply(  # type: ignore[no-untyped-call]
            a, rows, offset, pick, (candidates, positives, budget), weights, stats, code
        )
    stats_of = _named(all_reduce_sum(sums, processes), scale) if stats else {}
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


def _named(sums: Tensor, scale: float | Tensor) -> dict[str, Tensor]:
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
    """Gathers a few anchors' candidates at a time; gradients are summed per row of the table."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        table: Tensor,
        offset: Tensor | None,
        pick: Lists,
        sizes: tuple[int, int, int],
        weights: Tensor | None,
        stats: bool,
        code: Code,
    ) -> Any:
        candidates, positives, budget = sizes
        need_a, need_table, need_offset = ctx.needs_input_grad[:3]
        grad_a = torch.zeros_like(a) if need_a else None
        grad_table = torch.zeros_like(table) if need_table else None
        grad_offset = a.new_zeros(len(a), candidates) if need_offset else None
        losses, numbers = [a.new_zeros(0)], [a.new_zeros(0)]  # a process may have no anchor
        sums = a.new_zeros(5, dtype=torch.float64)
        for rows in spans(len(a), max(1, budget // max(1, candidates * a.shape[1]))):
            positions = pick(rows)
            chosen = table[positions]  # (rows, candidates, dim)
            scores = torch.einsum("rd,rcd->rc", a[rows], chosen)
            if stats:
                here = torch.ones_like(scores) if offset is None else offset[rows].isfinite().to(scores)
                sums += _sums(scores, here, positives, None if weights is None else weights[rows])
            if offset is not None:
                scores = scores + offset[rows]
            loss, number, grad_scores = code(scores, rows)
            losses.append(loss)
            numbers.append(number)
            if not (need_a or need_table or need_offset):
                continue
            grad_scores = grad_scores if weights is None else grad_scores * weights[rows, None].to(grad_scores.dtype)
            if grad_a is not None:
                grad_a[rows] = torch.einsum("rc,rcd->rd", grad_scores, chosen)
            if grad_table is not None:
                entry_grads = grad_scores[:, :, None] * a[rows, None, :]
                _add_rows(grad_table, positions.reshape(-1), entry_grads.reshape(-1, a.shape[1]))
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
        return (*multiplied(ctx.saved_tensors, grad), None, None, None, None, None)


def _add_rows(table: Tensor, positions: Tensor, rows: Tensor) -> None:
    """Add rows to those of a table; in a fixed order on every device."""
    if table.device.type == "cpu":
        table.index_add_(0, positions, rows)
    else:
        table.index_put_((positions,), rows, accumulate=True)


def _plan(
    reduction: Reduction[Any], shape: tuple[int, int, int], like: Tensor, execution: Execution
) -> tuple[Code, int]:
    """What reduces lists, and how many gathered numbers are held at once."""
    anchors, candidates, positives = shape
    if not uses_tiles(execution, like.device):
        return partial(_reduced, reduction, shape, like), BUDGET
    code = _tile_code(reduction, positives, execution.compiles(like.device, anchors * candidates))
    return code, max(BUDGET, execution.memory // (4 * like.element_size()))  # gathered rows, and their pulls


def _reduced(
    reduction: Reduction[Any], shape: tuple[int, int, int], like: Tensor, scores: Tensor, rows: slice
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and count of each list and the score gradients of its scores, by a reduction that is written out."""
    anchors, candidates, positives = shape
    relation = Leading(anchors, candidates, positives, scores.device)
    tile = Tile(scores.contiguous(), rows, slice(0, candidates), relation, kept=True)
    state = reduction.start(like, rows)
    for step in range(reduction.passes):
        reduction.update(step, state, tile)
    grad_scores = reduction.grad_scores(state, tile)
    done = reduction.finish(state)
    return done.loss, done.count, grad_scores


def _tile_code(reduction: Reduction[Any], positives: int, is_compiled: bool) -> Code:
    """The same by tile code."""
    program, _ = reduction.program()
    spec = Spec(
        program,
        _Places(positives),
        "none",
        None,
        centers=1,
        has_margin=False,
        one_set=False,
        of_row=(),
        of_col=(),
        layout=layout(program, (), ()),
        needs_grad=frozenset({"product"}),
    )
    code = compiled(whole_rows, spec) if is_compiled else partial(whole_rows, spec)

    def lists(scores: Tensor, _: slice) -> tuple[Tensor, Tensor, Tensor]:
        rows = {"live": torch.ones(len(scores), dtype=torch.bool, device=scores.device)}
        rows["position"] = torch.full_like(rows["live"], -1, dtype=torch.int64)
        begin = torch.zeros((), dtype=torch.int64, device=scores.device)
        one = torch.ones((), dtype=scores.dtype, device=scores.device)
        loss, number, _, grad_scores, _ = code(scores, rows, {"begin": begin, "new": begin}, {"scale": one})
        return loss, number, grad_scores

    return lists


def _sums(scores: Tensor, here: Tensor, positives: int, weights: Tensor | None) -> Tensor:
    """Scores and number of positives, the same of negatives, and number of rows, (5,)."""
    scored = scores * here
    parts = [x[:, part].sum(1) for part in (slice(positives), slice(positives, None)) for x in (scored, here)]
    each = torch.stack([*parts, torch.ones_like(parts[0])]).double()
    return (each if weights is None else each * weights.double()).sum(1)
