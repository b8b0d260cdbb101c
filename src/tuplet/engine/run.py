"""From the arguments of `stream` to the passes of a program: the geometry as tile code, and all values by name."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.engine.execution import DEFAULT, Execution
from tuplet.engine.extremes import extremes
from tuplet.engine.gather import ALONE, Processes, add_up, gather, sum_of
from tuplet.engine.passes import Budget, Pass, Problem
from tuplet.engine.positives import positive_places
from tuplet.engine.program import Found, Mean, Pair, Program, Term, count
from tuplet.engine.reduction import Outcome
from tuplet.engine.ring import Ring, prepare
from tuplet.engine.tilecode import Spec, Values, layout
from tuplet.geometry import Euclidean, Geometry, SquaredEuclidean
from tuplet.margin import Margin, target_scores
from tuplet.relation import Graded, Paired, Relation


def run(
    program: Program,
    anchors: Tensor,
    references: Tensor,
    relation: Relation,
    geometry: Geometry,
    *,
    margin: Margin | None = None,
    scale: float | Tensor = 1.0,
    offset: Tensor | None = None,
    weights: Tensor | None = None,
    of_row: Values | None = None,
    of_col: Values | None = None,
    tile_size: int | None = None,
    processes: Processes = ALONE,
    shards: Processes = ALONE,
    stats: bool = False,
    ring: Ring | None = None,
    given_type: torch.dtype = torch.float32,
    execution: Execution = DEFAULT,
) -> Outcome:
    """What `stream` returns, by the passes of a program.

    Args:
        program: The loss.
        anchors: (anchors, dim), of the accumulation type.
        references: (references, dim), or (references, centers, dim).
        relation: Who is whose positive, negative or neither.
        geometry: How two embeddings are compared.
        margin: Changes the cosines of positives; the relation is `Paired` then.
        scale: Multiplies scores; a number, a tensor without shape, or one per anchor.
        offset: Added to the scores of each reference.
        weights: One per anchor.
        of_row: Further values of anchors that the program names, (anchors,) or (anchors, k).
        of_col: The same of references.
        tile_size: Most entries of a tile.
        processes: Who computes the loss together.
        shards: Who has other references of the same anchors.
        stats: True to add mean scores of positives and negatives.
        ring: Processes that have a block of the references each, `references` being those of this one.
        given_type: What the embeddings came in.
        execution: See there.
    """
    a, r = geometry.prepare(anchors, references) if ring is None else prepare(geometry, anchors, references, ring)
    one_set = relation.first == 0 and r is a and offset is None and not geometry.narrow and ring is None
    if isinstance(relation, Graded) and callable(relation.geometry):
        relation.check_distances()
    inputs = _Inputs(a, r, relation, geometry, one_set=one_set, ring=ring)
    inputs.add_scores(scale, offset)
    if margin is not None:
        inputs.add_targets(margin)
    if weights is not None:
        inputs.rows["weight"] = weights.to(a.dtype)
    if program.near:
        inputs.rows["places"], inputs.rows["listed"] = positive_places(relation)
    of_row, of_col = dict(of_row or {}), of_col or {}
    if stats and isinstance(scale, Tensor) and scale.ndim:
        of_row["_scale"] = scale.detach()
    inputs.add_values(of_row, of_col)
    shown = _Measured(program.measured()) if stats else program
    problem = Problem(
        inputs.spec(shown, tuple(of_row), tuple(of_col)),
        inputs.rows,
        inputs.cols,
        tuple(inputs.values),
        Budget(
            tile_size or execution.entries(a),
            compiled=execution.compiles(a.device, len(a) * len(r)),
        ),
        processes,
        shards,
        geometry.narrow,
        execution.low(given_type, a.device),
        ring,
    )
    with execution.products(a.device):
        if program.extremes and shards.size == 1:
            outcome = extremes(problem, a, r, inputs.values)
        else:
            given = (a, r.detach() if one_set else r, *inputs.values.values())
            total, number, *sums = Pass.apply(problem, *given)  # type: ignore[no-untyped-call]
            outcome = Outcome(total, number, dict(zip(problem.stat_names, sums, strict=True)))
    found = {name: sum_of(x, processes) for name, x in outcome.stats.items()}
    if stats and "scale" not in found:
        factor = torch.as_tensor(scale, dtype=torch.float64, device=a.device).detach()
        safe = torch.where(factor != 0, factor, 1.0)
        found |= {name: found[name] / safe for name in ("positive_score", "negative_score")}
        found["scale"] = factor * found["rows"]
    return Outcome(add_up(outcome.total, processes), sum_of(outcome.count, processes), found)


class _Inputs:
    """Constants of rows and columns, and differentiable values, by name; see `tilecode.scores_and_pair`."""

    def __init__(
        self, a: Tensor, r: Tensor, relation: Relation, geometry: Geometry, *, one_set: bool, ring: Ring | None
    ) -> None:
        self.a, self.r, self.relation, self.geometry, self.one_set = a, r, relation, geometry, one_set
        row_keys, col_keys, self.compare = relation.keys()
        self.rows, self.cols = dict(row_keys), dict(col_keys)
        place, first = torch.arange(relation.references, device=a.device), relation.first
        self.cols["place"] = place
        own = torch.arange(len(a), device=a.device)
        self.rows["position"] = torch.full_like(own, -1) if first is None else own + first
        if one_set:
            self.cols["position"], self.rows["place"] = self.rows["position"], place
        self.values: Values = {}
        self.bent = False
        if isinstance(geometry, SquaredEuclidean):
            mine = a.square().sum(1)
            theirs = mine if r is a and ring is None else r.square().sum(1)
            theirs = theirs if ring is None else gather(theirs, ring.processes)
            self.values |= {"row:square": mine, "col:square": theirs}

    def add_scores(self, scale: float | Tensor, offset: Tensor | None) -> None:
        """What multiplies scores, and what is added to them."""
        wide, device = self.a.dtype, self.a.device
        if isinstance(scale, Tensor) and scale.ndim:
            self.values["row:scale"] = scale.to(wide)
            if self.one_set:
                self.cols["scale"] = scale.detach().to(wide)
        elif isinstance(scale, Tensor):
            self.values["scalar:scale"] = scale.to(device, wide)
        else:
            self.values["scalar:scale"] = torch.full((), scale, dtype=wide, device=device)
        if offset is not None:
            self.values["col:offset"] = offset.to(wide)

    def add_targets(self, margin: Margin) -> None:
        """The scores of the positives, one per row."""
        if not isinstance(self.relation, Paired):
            raise TypeError("a margin belongs to anchors with one positive each")
        self.bent = True
        self.values["row:target"] = target_scores(
            margin, self.a, self.r, self.relation.partner, unit=self.geometry.narrow
        )

    def add_values(self, of_row: Values, of_col: Values) -> None:
        """What the program names itself."""
        self.values |= {f"row:{name}": x for name, x in of_row.items()}
        self.values |= {f"col:{name}": x for name, x in of_col.items()}
        if self.one_set:  # a tile is read with its columns as anchors too
            self.cols |= {name: x.detach() for name, x in of_row.items()}
            self.rows |= {name: x.detach() for name, x in of_col.items()}
            if "weight" in self.rows:
                self.cols["weight"] = self.rows["weight"]

    def spec(self, program: Program, of_row: tuple[str, ...], of_col: tuple[str, ...]) -> Spec:
        """What is fixed about the tile code."""
        distance: Literal["none", "squared", "plain"] = "none"
        if isinstance(self.geometry, SquaredEuclidean):
            distance = "plain" if isinstance(self.geometry, Euclidean) else "squared"
        return Spec(
            program,
            self.compare,
            distance,
            self.geometry.flip if self.geometry.kind != program.reads else None,
            self.r.shape[1] if self.r.ndim == 3 else 1,
            self.bent,
            self.one_set,
            of_row,
            of_col,
            layout(program, of_row, of_col),
        )


@dataclass(frozen=True)
class _Measured(Program):
    """A program with the scores of positives and negatives beside its own terms."""

    inner: Program

    @property
    def whole_rows(self) -> bool:
        return self.inner.whole_rows

    def __getattribute__(self, name: str) -> Any:
        if name in {"reads", "local", "means", "extremes", "near"}:
            return getattr(object.__getattribute__(self, "inner"), name)
        return object.__getattribute__(self, name)

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
        lonely = (stats["positives"] == 0) & (stats["negatives"] > 0)
        extra = {**stats, "lonely": lonely, "rows": torch.ones_like(stats["positive_score"])}
        first = replace(first, stats={**first.stats, **extra})
        return (first, *others) if others else first
