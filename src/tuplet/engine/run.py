"""From the arguments of `stream` to the passes of a program: the geometry as tile code, and all values by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.engine.execution import Execution, uses_tiles
from tuplet.engine.extremes import extremes
from tuplet.engine.gather import Processes, all_reduce_sum, gather, reduce_sum
from tuplet.engine.passes import Pass
from tuplet.engine.positives import positive_places
from tuplet.engine.problem import Budget, Problem
from tuplet.engine.program import Found, Mean, Pair, Program, Term, count
from tuplet.engine.reduction import Outcome, Reduction
from tuplet.engine.ring import Ring, prepare
from tuplet.engine.tilecode import Spec, Values, layout
from tuplet.engine.tiles import TILE_SIZE
from tuplet.engine.tritonpasses import require_triton
from tuplet.geometry import Euclidean, Geometry, SquaredEuclidean
from tuplet.margin import Margin
from tuplet.relation import Graded, Paired, Relation

PLANNED = 8
"""So many positives of an anchor fit into a tile as it is planned."""


@dataclass(frozen=True)
class Terms:
    """What makes scores: margin, scale and offset; weights of anchors, and values that a program names."""

    margin: Margin | None
    scale: float | Tensor
    offset: Tensor | None
    weights: Tensor | None
    of_row: Mapping[str, Tensor]
    of_col: Mapping[str, Tensor]


@dataclass(frozen=True)
class How:
    """How a loss is computed: tiles, processes, the type that the embeddings came in; see `stream`."""

    tile_size: int | None
    processes: Processes
    shards: Processes
    ring: Ring | None
    given_type: torch.dtype
    execution: Execution
    stats: bool

    def runs_as_written(self, anchors: Tensor) -> bool:
        """Whether tile code runs on a CPU that may read values, and is neither compiled nor rounded."""
        execution, device = self.execution, anchors.device
        if device.type != "cpu" or uses_tiles(execution, device) or self.ring is not None or self.shards.size > 1:
            return False
        return not execution.compiles(device, 0) and execution.low(self.given_type, device) is None


def run(
    loss: Program | Reduction[Any],
    anchors: Tensor,
    references: Tensor,
    relation: Relation,
    geometry: Geometry,
    terms: Terms,
    how: How,
) -> Outcome:
    """What `stream` returns, by the passes of a program.

    Args:
        loss: A program, or a reduction, which is read as one.
        anchors: (anchors, dim), of the accumulation type.
        references: (references, dim), or (references, centers, dim).
        relation: Who is whose positive, negative or neither.
        geometry: How two embeddings are compared.
        terms: See there.
        how: See there.
    """
    program, of_col = (loss, terms.of_col) if isinstance(loss, Program) else loss.program()
    if how.ring is not None and (program.whole_rows or program.extremes):
        references, how = gather(references, how.ring.processes), replace(how, ring=None)
    if isinstance(relation, Graded) and callable(relation.geometry):
        relation.check_distances()
    as_written = how.runs_as_written(anchors) and not program.extremes and terms.margin is None
    if geometry.narrow:  # the lengths of many class weights are computed once, not for each tile
        as_written = as_written and len(anchors) * len(references) <= TILE_SIZE
    inputs = _Inputs(anchors, references, relation, geometry, terms, how, as_written=as_written)
    of_row = dict(terms.of_row)
    if program.near:
        inputs.rows["places"], inputs.rows["listed"] = positive_places(relation)
    if how.stats and isinstance(terms.scale, Tensor) and terms.scale.ndim:
        of_row["_scale"] = terms.scale.detach()
    inputs.add_values(of_row, of_col)
    problem = inputs.problem(_Measured(program.measured()) if how.stats else program, how)
    with how.execution.products(anchors.device):
        if program.extremes and how.shards.size == 1:
            outcome = extremes(problem, inputs.a, inputs.r, inputs.values)
        else:
            given = (inputs.a, inputs.r.detach() if inputs.one_set else inputs.r, *inputs.values.values())
            total, number, *sums = Pass.apply(problem, *given)  # type: ignore[no-untyped-call]
            outcome = Outcome(total, number, dict(zip(problem.stat_names, sums, strict=True)))
    found = {name: all_reduce_sum(x, how.processes) for name, x in outcome.stats.items()}
    found = _unscaled(found, terms.scale) if how.stats and "scale" not in found else found
    return Outcome(reduce_sum(outcome.total, how.processes), all_reduce_sum(outcome.count, how.processes), found)


def _unscaled(found: dict[str, Tensor], scale: float | Tensor) -> dict[str, Tensor]:
    """Scores as they were before the scale, and the sum of the scale itself."""
    factor = torch.as_tensor(scale, dtype=torch.float64, device=found["rows"].device).detach()
    safe = torch.where(factor != 0, factor, 1.0)
    scores = {name: found[name] / safe for name in ("positive_score", "negative_score")}
    return {**found, **scores, "scale": factor * found["rows"]}


class _Inputs:
    """Constants of rows and columns, and differentiable values, by name; see `tilecode.scores_and_pair`."""

    def __init__(
        self,
        anchors: Tensor,
        references: Tensor,
        relation: Relation,
        geometry: Geometry,
        terms: Terms,
        how: How,
        *,
        as_written: bool,
    ) -> None:
        ring = how.ring
        a, r = geometry.prepare(anchors, references) if ring is None else prepare(geometry, anchors, references, ring)
        self.as_written = as_written
        whole = relation.first == 0 and r is a and ring is None
        self.one_set = whole and terms.offset is None and not geometry.narrow
        self.a, self.r, self.relation, self.geometry = a, r, relation, geometry
        row_keys, col_keys, self.compare = relation.keys()
        self.rows, self.cols = dict(row_keys), dict(col_keys)
        self.cols["place"] = place = torch.arange(relation.references, device=a.device)
        first = relation.first
        if first is None:
            self.rows["position"] = place.new_full((len(a),), -1)
        else:
            self.rows["position"] = place if self.one_set else torch.arange(first, first + len(a), device=a.device)
        gathered = (lambda x: x) if ring is None else partial(gather, processes=ring.processes)
        self.gathered: Callable[[Tensor], Tensor] = gathered
        self.values: Values = {}
        if terms.margin is not None and not isinstance(relation, Paired):
            raise TypeError("a margin belongs to anchors with one positive each")
        self.margin = (terms.margin, relation.partner) if terms.margin and isinstance(relation, Paired) else None
        self.of_row: tuple[str, ...] = ()
        self.of_col: tuple[str, ...] = ()
        if as_written:
            known = {"live": self.rows["live"]}
            self.rows = {"position": self.rows["position"]} | ({} if bool(known["live"].all()) else known)
            self.cols = {name: x for name, x in self.cols.items() if name in {"place", "live"}}
        elif isinstance(geometry, SquaredEuclidean):
            mine = a.square().sum(1)
            theirs = mine if r is a and ring is None else r.square().sum(1)
            self.values |= {"row:square": mine, "col:square": self.gathered(theirs)}
        self.add_scores(terms.scale, terms.offset)
        if terms.weights is not None:
            self.rows["weight"] = terms.weights.to(a.dtype)

    def add_scores(self, scale: float | Tensor, offset: Tensor | None) -> None:
        """What multiplies scores, and what is added to them."""
        wide, device = self.a.dtype, self.a.device
        if isinstance(scale, Tensor) and scale.ndim:
            self.values["row:scale"] = scale.to(wide)
            if self.one_set:
                self.cols["scale"] = scale.detach().to(wide)
        elif isinstance(scale, Tensor):
            self.values["scalar:scale"] = scale.to(device, wide)
        elif scale != 1.0 or not self.as_written:
            self.values["scalar:scale"] = torch.full((), scale, dtype=wide, device=device)
        if offset is not None:
            self.values["col:offset"] = self.gathered(offset.to(wide))

    def add_values(self, of_row: Mapping[str, Tensor], of_col: Mapping[str, Tensor]) -> None:
        """What the program names itself."""
        self.of_row, self.of_col = tuple(of_row), tuple(of_col)
        self.values |= {f"row:{name}": x for name, x in of_row.items()}
        self.values |= {f"col:{name}": self.gathered(x) for name, x in of_col.items()}
        if self.one_set:  # a tile is read with its columns as anchors too
            self.cols |= {name: x.detach() for name, x in of_row.items()}
            self.rows |= {name: x.detach() for name, x in of_col.items()}
            if "weight" in self.rows:
                self.cols["weight"] = self.rows["weight"]

    def problem(self, program: Program, how: How) -> Problem:
        """All of a pass but the tensors that may have gradients."""
        entries = max(1, (how.tile_size or how.execution.entries(self.a)) // self._depth(program))
        compiled = how.execution.compiles(self.a.device, len(self.a) * self.relation.references)
        kernels = how.execution.kernels(self.a.device)
        if kernels is not None:
            require_triton(self.a.device)
        return Problem(
            self._spec(program),
            self.rows,
            self.cols,
            tuple(self.values),
            Budget(entries, compiled=compiled, kernels=kernels),
            how.processes,
            how.shards,
            self.geometry.narrow and not self.as_written,
            how.execution.low(how.given_type, self.a.device),
            how.ring,
            self.margin,
            (self.geometry, self.relation) if self.as_written else None,
        )

    def _depth(self, program: Program) -> int:
        """How many numbers a pair has in a tile, where that is more than the plan of tiles allows for."""
        positives = self.rows["places"].shape[1] if program.near else 1
        return program.numbers * max(1, positives // PLANNED)

    def _spec(self, program: Program) -> Spec:
        """What is fixed about the tile code."""
        distance: Literal["none", "squared", "plain"] = "none"
        if isinstance(self.geometry, SquaredEuclidean) and not self.as_written:
            distance = "plain" if isinstance(self.geometry, Euclidean) else "squared"
        return Spec(
            program,
            self.compare,
            distance,
            self.geometry.similarity_offset if self.geometry.kind != program.reads else None,
            self.r.shape[1] if self.r.ndim == 3 and not self.as_written else 1,
            self.margin is not None,
            self.one_set,
            self.of_row,
            self.of_col,
            layout(program, self.of_row, self.of_col),
            as_written=self.as_written,
        )


@dataclass(frozen=True)
class _Measured(Program):
    """A program with the scores of positives and negatives beside its own terms."""

    inner: Program

    def __post_init__(self) -> None:
        """It is read, and reduced, as the program is."""
        for name in ("reads", "local", "means", "extremes", "near", "numbers"):
            object.__setattr__(self, name, getattr(self.inner, name))

    @property
    def whole_rows(self) -> bool:
        return self.inner.whole_rows

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        seen = score.detach() if pair.offset is None else (score - pair.offset).detach()
        return {
            **self.inner.terms(score, pair),
            "_positive_score": count(torch.where(pair.positive, seen, 0.0)),
            "_negative_score": count(torch.where(pair.negative, seen, 0.0)),
            "_positives": count(pair.positive),
            "_negatives": count(pair.negative),
        }

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        return self.inner.then(score, pair, found)

    def finish(self, found: Found) -> Mean | tuple[Mean, ...]:
        means = self.inner.finish(found)
        first, *others = means if isinstance(means, tuple) else (means,)
        names = ("positive_score", "negative_score", "positives", "negatives")
        stats = {name: found[f"_{name}"].detach() for name in names}
        if "_scale" in found:  # scores as they were before a scale of each anchor
            factor = torch.where(found["_scale"] != 0, found["_scale"], 1.0)
            stats |= {name: stats[name] / factor for name in names[:2]} | {"scale": found["_scale"]}
        without_positives = (stats["positives"] == 0) & (stats["negatives"] > 0)
        extra = {
            **stats,
            "anchors_without_positives": without_positives,
            "rows": torch.ones_like(stats["positive_score"]),
        }
        first = replace(first, stats={**first.stats, **extra})
        return (first, *others) if others else first
